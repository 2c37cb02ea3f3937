"""Checked program to graph, and graph to model, diagram and files."""
