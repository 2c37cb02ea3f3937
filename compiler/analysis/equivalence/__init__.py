"""Equivalence of networks: canonical forms of graphs and what corresponds in two of them."""

from danetc.compiler.analysis.equivalence.compare import (
    UNCOMPARED,
    Different,
    Same,
    compare_graphs,
    weights_by_name_or_order,
)

__all__ = ["UNCOMPARED", "Different", "Same", "compare_graphs", "weights_by_name_or_order"]
