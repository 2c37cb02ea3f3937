"""Equivalence of networks: canonical forms of graphs, and the mapping between two of them."""

from danetc.compiler.analysis.equivalence.compare import (
    Different,
    Same,
    compare_graphs,
    weights_by_name_or_order,
)

__all__ = ["Different", "Same", "compare_graphs", "weights_by_name_or_order"]
