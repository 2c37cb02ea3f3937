"""Rows of the table: functions of real values."""

from __future__ import annotations

import math

from danetc.compiler.ir.ops import kinds, shapes
from danetc.compiler.ir.ops.forms import function
from danetc.compiler.ir.ops.row import Op
from danetc.dsl.neuron.opcodes import sigmoid, softplus

ROWS = (
    Op(
        "sigmoid", "logistic function", shapes.same, kinds.analog,
        function("torch.sigmoid", layout="any"), start=lambda attrs, x: sigmoid(x),
    ),
    Op(
        "tanh", "hyperbolic tangent", shapes.same, kinds.analog,
        function("torch.tanh", layout="any"), start=lambda attrs, x: math.tanh(x),
    ),
    Op(
        "softplus", "smooth rectifier", shapes.same, kinds.analog,
        function("torch.nn.functional.softplus", layout="any"),
        start=lambda attrs, x: softplus(x),
    ),
)  # fmt: skip
