"""Checked program to graph, and graph to model, diagram and files."""

from danetc.compiler.frontend.program import (
    Checked,
    check_file,
    check_source,
    check_text,
    graph_of,
    lowered_network,
)
from danetc.compiler.lowering.networks import Lowered

__all__ = [
    "Checked",
    "Lowered",
    "check_file",
    "check_source",
    "check_text",
    "graph_of",
    "lowered_network",
]
