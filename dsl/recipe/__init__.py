"""Recipes: one schema of settings, and what reads it."""
