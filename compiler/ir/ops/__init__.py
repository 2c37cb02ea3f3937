"""The table of operations. A new operation is one row in the file of its family.

A row (``row.Op``) holds all facts about an operation. Other code tests the names of only a few
operations: inputs, neurons, and the sums, products and concatenations with algebraic laws.
"""

from collections.abc import Mapping

from danetc.compiler.ir.ops import (
    attention,
    axes,
    constants,
    functions,
    joins,
    norms,
    pooling,
    time,
    user,
    weighted,
)
from danetc.compiler.ir.ops.row import REQUIRED as REQUIRED
from danetc.compiler.ir.ops.row import Op as Op
from danetc.compiler.ir.ops.row import OpError as OpError
from danetc.compiler.ir.ops.row import Parameter as Parameter
from danetc.compiler.ir.ops.row import Product as Product
from danetc.compiler.ir.ops.row import Site as Site
from danetc.compiler.ir.ops.row import TorchFunction as TorchFunction
from danetc.compiler.ir.ops.row import TorchModule as TorchModule
from danetc.compiler.ir.ops.row import whole as whole
from danetc.compiler.ir.ops.shapes import text as text

_FAMILIES = (weighted, norms, joins, attention, pooling, axes, constants, functions, time, user)

OPS: Mapping[str, Op] = {row.name: row for family in _FAMILIES for row in family.ROWS}
"""All rows by name."""


def norm_names() -> list[str]:
    """Return the names of the operations that normalise."""
    return [name for name, row in OPS.items() if row.norm is not None]
