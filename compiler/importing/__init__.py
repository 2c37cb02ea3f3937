"""Graphs of imported networks as specs, with names of the standard library for parts that are the same."""
