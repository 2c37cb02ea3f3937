"""The rows that recipes are made of.

A setting has a type with its range, a default and a meaning (``settings`` has the rows). Optimizers,
schedules, losses and steps of an augmentation are items: a name with arguments that have rows too
(``items`` has them).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeVar

from danetc.dsl.recipe.value_types import Type
from danetc.dsl.record import record


@record
class Setting:
    """A key of a recipe. ``scope`` says where it may stand: a phase setting in the recipe holds for
    all phases. A default is the text of a value; None is "not set", which a recipe writes as
    ``none``.
    """

    key: str
    type: Type
    default: str | None
    scope: Literal["phase", "recipe", "phase only"]
    meaning: str
    required: bool = False
    example: str = ""
    """A value that its page shows, where the default is none."""


@record
class Argument:
    """An argument of an item. One without a default must be given."""

    name: str
    type: Type
    default: int | float | bool | str | None
    meaning: str


@record
class ItemSpec:
    """An item. ``many`` are the arguments without a name, gathered under one name."""

    name: str
    meaning: str
    arguments: tuple[Argument, ...] = ()
    many: Argument | None = None
    whole_batch: bool = False  # mixes images of a batch, so it stands after what changes one image
    example: str = ""  # how its page shows it, where its name alone is not enough
    others: bool = False  # whether it takes numbers of any other names too


@record(kw_only=True)
class OptimizerSpec(ItemSpec):
    """An optimizer: ``torch`` is its class in ``torch.optim``, which takes the arguments by name.

    Above ``largest_rate`` no network trains.
    """

    torch: str
    largest_rate: float


TARGETS = ("classes", "pixels", "numbers")
"""What is learned of a sample: its class, the class of each of its pixels, or numbers."""


@record(kw_only=True)
class LossSpec(ItemSpec):
    """A term of a loss. ``reads`` is what it is a function of: an output and the labels, what layers of
    neurons give, their membrane potentials, or an output and that of a teacher. Terms of ``training``
    are left out of the loss of test images, which says how well the network answers.
    """

    reads: Literal["output", "neurons", "potentials", "teacher"] = "output"
    training: bool = False
    targets: tuple[str, ...] = TARGETS
    """What the labels may be that it is a function of."""


Spec = TypeVar("Spec", bound=ItemSpec)


def family(*items: Spec) -> Mapping[str, Spec]:
    """Items by their names."""
    return MappingProxyType({item.name: item for item in items})
