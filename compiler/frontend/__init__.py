"""Checks of files, and changes of a program before lowering."""
