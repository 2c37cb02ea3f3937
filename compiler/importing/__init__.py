"""Conversion of imported graphs to specs that use the names of the standard library."""
