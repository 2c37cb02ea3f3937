"""The types of values in recipes: of settings, and of the arguments of items."""

from __future__ import annotations

from math import inf
from typing import Union

from danetc.dsl.record import record


@record
class IntType:
    """A whole number from low to high, both included."""

    low: int = 0
    high: int = 1_000_000_000


@record
class FloatType:
    """A real number from low to high. ``open_low`` and ``open_high`` leave the ends out."""

    low: float = 0.0
    high: float = inf
    open_low: bool = False
    open_high: bool = False


@record
class BoolType:
    """``true`` or ``false``."""


@record
class ChoiceType:
    """One of a few words."""

    words: tuple[str, ...]


@record
class ItemType:
    """One of a family of items: ``sgd(lr = 0.1)``."""

    family: str


@record
class FlowType:
    """Items of a family in sequence, or ``none``."""

    family: str


@record
class SumType:
    """Items of a family, each times a number, added up: ``mse + 0.1 * firing_rate``."""

    family: str


SCHEDULED_OPERATIONS = ("linear",)
"""The operations with a parameter that may be ``scheduled(...)``: the table of operations says which."""


@record
class ChangeType:
    """Parameters of the network with an item of a family each, or ``none``:
    ``surrogate(alpha = linear(1.0, 5.0)) + neuron(tau = cosine(4.0, 2.0))``."""

    family: str
    parts: tuple[str, ...]


@record
class PhaseType:
    """The name of an earlier phase."""


@record
class NameType:
    """The name of something of the network: an output, a neuron."""


@record
class PathType:
    """A file or directory, in quotes."""


@record
class FunctionType:
    """A function of a Python file, in quotes: ``"my_loss.py:focal"``."""


Type = Union[
    IntType, FloatType, BoolType, ChoiceType, ItemType, FlowType, SumType, ChangeType, PhaseType,
    NameType, PathType, FunctionType,
]  # fmt: skip


def describe(kind: Type) -> str:
    """What a value of a type is, as an error says it."""
    match kind:
        case IntType():
            return "a whole number"
        case FloatType():
            return "a number"
        case BoolType():
            return "`true` or `false`"
        case ChoiceType(words):
            *some, last = (f"`{word}`" for word in words)
            return f"{', '.join(some)} or {last}"
        case ItemType("optimizer"):
            return "an optimizer"
        case ItemType("gradient"):
            return "a way of gradients"
        case SumType(family):
            return f"a {family}, or several times numbers and added up"
        case ItemType(family):
            return f"a {family}"
        case ChangeType(_, parts):
            example = " or ".join(f"`{part}(NAME = linear(1.0, 2.0))`" for part in parts)
            return f"{example}, several added up, or `none`"
        case FlowType():
            return "steps joined by `->`, or `none`"
        case PhaseType():
            return "the name of an earlier phase"
        case NameType():
            return "a name"
        case PathType():
            return "a path in quotes"
        case FunctionType():
            return 'a function of a Python file in quotes, "FILE.py:NAME"'


def describe_range(kind: IntType | FloatType) -> str:
    """The range of a number, as an error says it."""
    if isinstance(kind, IntType):
        return f"from {kind.low} to {kind.high}"
    low = f"{'above' if kind.open_low else 'at least'} {kind.low:g}"
    if kind.high == inf:
        return low
    return f"{low} and {'below' if kind.open_high else 'at most'} {kind.high:g}"


def contains(kind: IntType | FloatType, value: float) -> bool:
    """Whether a number is in the range of its type."""
    if isinstance(kind, IntType):
        return kind.low <= value <= kind.high
    above = value > kind.low if kind.open_low else value >= kind.low
    below = value < kind.high if kind.open_high else value <= kind.high
    return above and below and value != inf
