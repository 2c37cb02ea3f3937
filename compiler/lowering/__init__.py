"""Lowering: a network of a checked program to the graph of its operations."""
