"""Errors and warnings as data: codes and their pages, suggestions, habits of other libraries."""
