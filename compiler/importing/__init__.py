"""Graphs of imported networks as specs, with standard library names for equivalent parts."""
