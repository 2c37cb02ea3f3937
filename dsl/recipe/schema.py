"""Row types of the tables of recipes, and types of values.

A setting has a type with a range, a default and a meaning (table ``settings``). Optimizers, schedules,
losses and augmentation steps are items: a name with arguments (tables in ``items``).
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Literal, Union

from danetc.dsl.record import record


@record
class IntType:
    """Integer in low .. high."""

    low: int = 0
    high: int = 1_000_000_000


@record
class FloatType:
    """Real number from low to high; ``open_low`` and ``open_high`` exclude the ends."""

    low: float = 0.0
    high: float = inf
    open_low: bool = False
    open_high: bool = False


class WordType(Enum):
    """A word or a string, by the words of an error for something else."""

    BOOL = "`true` or `false`"
    PHASE = "the name of an earlier phase"
    NAME = "a name"  # of an output or a neuron of the network
    PATH = "a path in quotes"
    LAYERS = "names of layers in quotes"
    FUNCTION = 'a function of a Python file in quotes, "FILE.py:NAME"'


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
    """Sum of items of a family, each times a number: ``mse + 0.1 * firing_rate``."""

    family: str


SCHEDULED_OPERATIONS = ("linear",)
"""Operations with a parameter that may be ``scheduled(...)``, by the table of operations."""


@record
class ChangeType:
    """Parameters of the network with an item of a family each, or ``none``:
    ``surrogate(alpha = linear(1.0, 5.0)) + neuron(tau = cosine(4.0, 2.0))``."""

    family: str
    parts: tuple[str, ...]


Type = Union[
    IntType, FloatType, WordType, ChoiceType, ItemType, FlowType, SumType, ChangeType
]  # fmt: skip


def describe(kind: Type) -> str:
    """Return the words of an error for a value of a type."""
    match kind:
        case IntType():
            return "a whole number"
        case FloatType():
            return "a number"
        case FlowType():
            return "steps joined by `->`, or `none`"
        case ChoiceType(words):
            *some, last = (f"`{word}`" for word in words)
            return f"{', '.join(some)} or {last}"
        case ItemType(family):
            names = {"optimizer": "an optimizer", "gradient": "a gradient method"}
            return names.get(family, f"a {family}")
        case SumType(family):
            return f"a {family}, or a weighted sum of them"
        case ChangeType(_, parts):
            example = " or ".join(f"`{part}(NAME = linear(1.0, 2.0))`" for part in parts)
            return f"{example}, a sum of such changes, or `none`"
    return kind.value


def describe_range(kind: IntType | FloatType) -> str:
    """Return the words of an error for the range of a number."""
    if isinstance(kind, IntType):
        return f"from {kind.low} to {kind.high}"
    low = f"{'above' if kind.open_low else 'at least'} {kind.low:g}"
    if kind.high == inf:
        return low
    return f"{low} and {'below' if kind.open_high else 'at most'} {kind.high:g}"


def contains(kind: IntType | FloatType, value: float) -> bool:
    """True if a number is in the range of its type."""
    if isinstance(kind, IntType):
        return kind.low <= value <= kind.high
    above = value > kind.low if kind.open_low else value >= kind.low
    below = value < kind.high if kind.open_high else value <= kind.high
    return above and below and value != inf


Place = Literal["phase", "recipe", "phase only"]


@record
class Setting:
    """Key of a recipe.

    ``scope`` is where it is allowed: a phase setting of the recipe applies to all phases. ``default``
    is the text of a value; None is "not set", written ``none``. ``example`` is for the key's page.
    """

    type: Type
    default: str | None
    meaning: str
    scope: Place = "phase"
    required: bool = False
    example: str = ""


@record
class Argument:
    """Argument of an item; required if it has no default."""

    name: str
    type: Type
    default: int | float | bool | str | tuple[()] | None
    meaning: str


@record
class ItemSpec:
    """Item: a name with arguments.

    ``many`` gathers the arguments without names. Items of the ``whole_batch`` mix images, and so come
    after those of one image. ``example`` is for the item's page; ``others`` allows numbers of any name.
    """

    name: str
    meaning: str
    arguments: tuple[Argument, ...] = ()
    many: Argument | None = None
    whole_batch: bool = False
    example: str = ""
    others: bool = False


@record(kw_only=True)
class OptimizerSpec(ItemSpec):
    """Optimizer: ``torch`` is its class in ``torch.optim``, with the same arguments.

    Training diverges at learning rates above ``largest_rate``.
    """

    torch: str = ""
    largest_rate: float = inf


TARGETS = ("classes", "steps", "pixels", "numbers")
"""Labels of a sample: its class, the class of each pixel, or numbers."""


@record(kw_only=True)
class LossSpec(ItemSpec):
    """Term of a loss.

    ``reads`` are its inputs: an output and the labels, values of layers of neurons, or an output and
    that of a teacher. Terms of ``training`` are not part of the loss of test images.
    ``targets`` are the kinds of labels that it accepts.
    """

    reads: Literal["output", "neurons", "teacher"] = "output"
    training: bool = False
    targets: tuple[str, ...] = TARGETS
