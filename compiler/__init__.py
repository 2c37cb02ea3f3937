"""Checked program to graph, and graph to model, diagram and files."""

from danetc.compiler.program import Checked, check_file, check_source, check_text, graph_of

__all__ = ["Checked", "check_file", "check_source", "check_text", "graph_of"]
