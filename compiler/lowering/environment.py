"""What names mean where an expression stands, and the names every expression knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from danetc.compiler.ops import OPS
from danetc.compiler.values import Given, describe
from danetc.dsl import syntax as s
from danetc.dsl.modules import Module
from danetc.dsl.source import Span

Want = str
"""What is asked for: ``layer``, ``norm``, a kind of declaration, or ``any``."""


@dataclass(frozen=True, slots=True)
class Definition:
    """``name = value`` in a body, with the environment that the value is read in."""

    value: s.Expr
    env: Env
    span: Span


@dataclass(slots=True)
class Env:
    """What names mean where an expression stands.

    ``definitions`` (shared by a network and its variants) are evaluated when first asked for.
    ``block_conv`` says that ``conv`` without a width is the block's next layer. ``given`` says
    where the values of parameters were written, ``places`` where the parameters are declared,
    ``elsewhere`` holds hints for names that mean something only in another place.
    """

    module: Module
    what: str
    values: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    block_conv: bool = False
    scope: tuple[str, ...] = ()
    given: Mapping[str, Given] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Span] = field(default_factory=dict)

    def names(self) -> list[str]:
        return [*self.values, *self.definitions]


def is_op(id: str, kind: str, want: Want) -> bool:
    """Whether a name that is both a declaration and an operation means the operation here."""
    if id not in OPS or not OPS[id].public:
        return False
    if want == "layer":
        return kind not in ("block", "neuron", "backbone")
    return want == "norm"


def _round_half(x: float) -> int:
    return math.floor(x + 0.5)


MATH: Mapping[str, Callable[..., int | float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "abs": abs,
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": _round_half,
}

SPECIAL = ("stage", "channels", "image", "events", "concat", "outputs", "learn", *MATH)
CONSTANTS = {"true": True, "false": False, "pi": math.pi}


def certain(expr: s.Expr) -> Iterator[str]:
    """The names in an expression that are read whatever its conditions say, in order."""
    conditional = any(
        isinstance(node, s.IfElse) or (isinstance(node, s.Binary) and node.op in ("and", "or"))
        for node in s.walk(expr)
    )
    if not conditional:
        yield from (node.id for node in s.walk(expr) if isinstance(node, s.Name))


def says(name: str, value: Any) -> str:
    """``name`` is ``value``, in the words of a label."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"`{name}` is {f'{value:.12g}' if number else describe(value)}"


def rounded(expr: s.Expr) -> str | None:
    """What to do where a quotient is not whole."""
    return "round it: `floor(...)`, `round(...)`" if "/" in expr.span.text else None


def replace_env(env: Env, *, block_conv: bool) -> Env:
    """The same environment, sharing definitions and cache, with ``conv`` read otherwise."""
    return replace(env, block_conv=block_conv)
