"""The table of operations. A new operation is one row in the file of its family.

A row (``row.Op``) holds all facts of an operation: no other code tests for its name,
but for what a graph is made of itself: the input, neurons, and the sums, products and
concatenations that have laws of their own.
"""

from collections.abc import Mapping

from danetc.compiler.ir.ops import attention, axes, functions, joins, norms, pooling, time, weighted
from danetc.compiler.ir.ops.row import (
    REQUIRED,
    Context,
    Op,
    OpError,
    Parameter,
    Product,
    TorchFunction,
    TorchModule,
    whole,
)
from danetc.compiler.ir.ops.shapes import text

_FAMILIES = (weighted, norms, joins, attention, pooling, axes, functions, time)

OPS: Mapping[str, Op] = {row.name: row for family in _FAMILIES for row in family.ROWS}
"""The rows by name."""


def norm_names() -> list[str]:
    """The operations that normalise."""
    return [name for name, row in OPS.items() if row.norm is not None]


__all__ = [
    "OPS",
    "REQUIRED",
    "Context",
    "Op",
    "OpError",
    "Parameter",
    "Product",
    "TorchFunction",
    "TorchModule",
    "norm_names",
    "text",
    "whole",
]
