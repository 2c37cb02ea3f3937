"""Checked program to graph, and graph to model, diagram and files."""

from danetc.compiler.program import Checked, check_file, check_source, check_text, graph_of
from danetc.compiler.resolved import resolved_spec

__all__ = ["Checked", "check_file", "check_source", "check_text", "graph_of", "resolved_spec"]
