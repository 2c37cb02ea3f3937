"""Analyses of a graph, which do not change it."""
