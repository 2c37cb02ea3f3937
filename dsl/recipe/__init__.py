"""Recipes: the schema of settings, and the reader of recipes."""
