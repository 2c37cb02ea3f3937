"""Layers of a built model."""
