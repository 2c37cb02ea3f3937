"""Implementations of the commands, callable from Python."""
