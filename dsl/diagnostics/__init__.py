"""Errors and warnings as data: codes and their pages, suggestions, names from other libraries."""
