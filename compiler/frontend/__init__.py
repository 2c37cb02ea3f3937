"""Checks of files, and changes of a spec before lowering."""
