"""Lowering of a network in a checked program to a graph of operations."""
