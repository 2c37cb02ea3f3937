"""Rules that several rows of the table have in common."""

from __future__ import annotations

from typing import Any

from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import Context, Emit, Parameter, TorchFunction, TorchModule, whole
from danetc.dsl.first_weights import FIRST_WEIGHTS

START = Parameter(
    "init",
    str,
    "initialisation of the weights; by default `he_normal` for convolutions, `torch_uniform` for `linear`",
    None,
    words=tuple(FIRST_WEIGHTS),
)


WEIGHT = Parameter(
    "weight",
    object,
    "layer that is applied to the weights in each pass: a block, an activation or a flow; by default none",
    None,
)


# -- modules and functions of a model ---------------------------------------------------------------


def nothing(attrs: Attrs, values: Values, value: Value, context: Context) -> None:
    """Emit nothing, for an operation that no model has."""


def function(target: str, *names: str, **options: Any) -> Emit:
    """A function of the operands, and then of the attributes of these ``names``.

    ``options`` are those of ``TorchFunction``.
    """
    return lambda attrs, values, value, context: TorchFunction(
        target, tuple(attrs[name] for name in names), **options
    )


def ours(name: str, *names: str, steps: bool) -> Emit:
    """An op of ours that takes the number of sample dimensions, and T where it makes time.

    ``names`` are the attributes that it takes besides.
    """

    def emit(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchFunction:
        extra = tuple(attrs[item] for item in names)
        before = (context.steps,) if steps else ()
        return TorchFunction(f"torch.ops.danetc.{name}", (*before, len(value.shape), *extra))

    return emit


def pooling(target: str) -> Emit:
    """A module of torch that pools windows."""

    def emit(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
        kwargs = {"stride": attrs["stride"], **unusual(attrs, padding=0)}
        return TorchModule(target, (attrs["kernel"],), kwargs)

    return emit


def timed(target: str, *names: str) -> Emit:
    """Return the module of ``runtime.layers.time`` of these attributes and the rank of a sample."""
    return lambda attrs, values, value, context: TorchModule(
        f"danetc.runtime.layers.time.{target}",
        (*(attrs[name] for name in names), len(value.shape)),
        layout="seq",
    )


def unusual(attrs: Attrs, **usual: Attribute) -> dict[str, Attribute]:
    """Return the attributes that differ from the defaults of a module."""
    return {name: attrs[name] for name, value in usual.items() if attrs[name] != value}


def with_bias(attrs: Attrs, weight: Shape, count: int) -> dict[str, Shape]:
    """Return the shapes of a weight and, if there is one, of the bias."""
    return {"weight": weight, **({"bias": (count,)} if attrs["bias"] else {})}


def pair(attrs: Attrs, name: str, other: int) -> tuple[int, int]:
    """Return an attribute for rows and columns; a layer over one axis has ``other`` for the other."""
    one = whole(attrs, name) if name in attrs else other
    ways = {"rows": (one, other), "columns": (other, one)}
    return ways.get(str(attrs.get("axis")), (one, one))
