"""What an expression of a spec can be, what names mean, and the table of operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from danetc.dsl.modules import Module
from danetc.dsl.syntax import tree as s
from tests.reference.tape import Var

# -- values ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wire:
    """A value of the network, [T, N, ...]; where it does not vary, all steps are the same."""

    data: Var
    varies: bool


@dataclass(frozen=True, eq=False)
class Learnt:
    """Numbers that are learnt, ``learn``, and what a line made of them without a value of the network.

    A ``name`` of a body in ``scope`` is the same numbers each time that it is read.
    """

    learn: Any
    name: str = ""
    scope: tuple[str, ...] = ()
    made: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Op:
    """An operation with its parameters. ``role`` is what its weights are called by."""

    name: str
    attrs: Mapping[str, Any]
    role: str


@dataclass(frozen=True)
class Identity:
    """``identity`` and ``none``."""


@dataclass(frozen=True)
class BlockLayer:
    """``conv`` in a connection: the block's next layer, with some parameters changed."""

    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Sequence:
    steps: tuple[Any, ...]


@dataclass(frozen=True)
class Named:
    """A layer by the name of a definition, which its weights are called by."""

    name: str
    layer: Any


@dataclass(frozen=True, eq=False)
class Bound:
    """A declaration with arguments."""

    declaration: s.Declaration
    module: Module
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.declaration.kind


@dataclass(frozen=True, eq=False)
class Once:
    """A layer whose weights are those of the place where it stands first."""

    layer: Any


@dataclass(frozen=True)
class StageOf:
    """``stage(block, count, stride = ...)``, and what ``via``, ``by`` and ``with`` say of it."""

    block: Bound
    count: int
    stride: int
    connection: Bound | None = None
    rule: Bound | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backbone:
    """Stages, and layers between them."""

    items: tuple[Any, ...]

    def with_stages(self, change: Callable[[StageOf], StageOf]) -> Backbone:
        return Backbone(
            tuple(change(item) if isinstance(item, StageOf) else item for item in self.items)
        )

    def part(self, low: int, high: int) -> Backbone:
        """Some stages; a layer goes with the stage behind it, one at the end with the last."""
        last = sum(isinstance(item, StageOf) for item in self.items) - 1
        kept, number = [], 0
        for item in self.items:
            if low <= min(number, last) <= high:
                kept.append(item)
            number += isinstance(item, StageOf)
        return Backbone(tuple(kept))


@dataclass
class Loops:
    """Of a body: the lines being computed, and what is delayed in a circle of lines.

    ``guesses`` are the delayed values that this pass over the lines takes, ``reads`` what gives the
    values themselves once it is through, with the number of steps.
    """

    pending: list[str] = field(default_factory=list)
    guesses: dict[object, Wire] = field(default_factory=dict)
    reads: dict[object, tuple[Callable[[], Wire], int, Wire]] | None = None


@dataclass
class Env:
    """What names mean where an expression stands.

    ``values`` are parameters and what is known without a definition, ``definitions`` the lines of
    the body with the environments that they are read in. ``scope`` is where the body's weights are
    called. ``what`` is the kind of the declaration.
    """

    module: Module
    what: str
    values: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, tuple[s.Expr, Env]] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    scope: tuple[str, ...] = ()
    block_layers: bool = False
    loops: Loops = field(default_factory=lambda: Loops())


# -- the table of operations ------------------------------------------------------------------------

OPERATIONS: Mapping[str, Mapping[str, Any]] = {
    "conv": {"width": None, "kernel": 3, "stride": 1, "padding": None, "groups": 1, "bias": False, "dilation": 1, "init": None, "over": None},
    "linear": {"width": None, "bias": True, "init": None, "over": None, "window": None, "masked": 1.0},
    "conv_transposed": {"width": None, "kernel": 2, "stride": 2, "padding": 0, "output_padding": 0, "groups": 1, "bias": False, "init": None},
    "pad": {"before": None, "after": None, "over": "pixels"},
    "batchnorm": {"init": 1.0, "per_step": False, "statistics": None, "eps": 1e-5, "bias": True, "pad": 0},
    "tebn": {"init": 1.0},
    "groupnorm": {"groups": 32, "init": 1.0},
    "layernorm": {"init": 1.0, "eps": 1e-5},
    "tdbn": {"alpha": 1.0},
    "maxpool": {"kernel": None, "stride": None, "padding": None},
    "avgpool": {"kernel": None, "stride": None, "padding": None},
    "upsample": {"scale": 2, "over": "pixels", "mode": "nearest", "like": None, "rows": None, "columns": None},
    "flatten": {},
    "sum": {"over": None, "groups": 1},
    "mean": {"over": None, "groups": 1},
    "max": {"over": None, "groups": 1},
    "swap": {"a": None, "b": None},
    "shuffle": {"groups": None},
    "reshape": {"channels": None, "rows": 1, "columns": 1},
    "relu": {},
    "detach": {},
    "sigmoid": {},
    "tanh": {},
    "softplus": {},
    "gelu": {},
    "softmax": {"over": "channels"},
    "scores": {"heads": 1},
    "mix": {},
    "running_mean": {"groups": 1, "momentum": 0.1},
    "dropout": {"p": 0.5, "per": None},
    "droppath": {"p": 0.1},
    "delay": {"steps": 1, "like": None},
    "mean_over_time": {},
    "poisson": {},
    "latency": {"tau": 6.0},
}  # fmt: skip
"""The operations by name, with their parameters in order and the defaults of these."""

OF_VALUES: Mapping[str, tuple[str, ...]] = {"scores": ("q", "k"), "mix": ("a", "v", "like")}
"""The operations that are written as functions of values, with what these are called."""
NORMS = ("batchnorm", "tebn", "groupnorm", "layernorm", "tdbn")
NUMBERS: Mapping[str, Callable[..., float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "abs": abs,
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": lambda a: math.floor(a + 0.5),
}
LAYER_LINES = {
    "network": ("stem", "head"),
    "connection": ("each", "last", "projection", "identity"),
}


def assigned(args: tuple[s.Arg, ...], names: list[str]) -> dict[str, s.Expr]:
    """Arguments by the names of their parameters: those without a name come first, in order."""
    free = iter(names)
    return {arg.name if arg.name is not None else next(free): arg.value for arg in args}


def is_layer(value: object) -> bool:
    if isinstance(value, Bound):
        return value.kind in ("block", "neuron")
    return isinstance(value, Op | Identity | BlockLayer | Sequence | Named | Once | Backbone)


def unnamed(value: Any) -> Any:
    return value.layer if isinstance(value, Named) else value
