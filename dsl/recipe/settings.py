"""Settings of a recipe. A new one is one field here, with its row.

The rows define what `check` accepts, its errors, the defaults, `danetc list settings`, the text of a
dry run and the record of a run. Training reads the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from functools import partial
from typing import Any, Literal, ParamSpec

from danetc.dsl.recipe.item import Change, Item, Summand, plain
from danetc.dsl.recipe.items import POSITIVE
from danetc.dsl.recipe.schema import (
    SCHEDULED_OPERATIONS,
    ChangeType,
    ChoiceType,
    FloatType,
    FlowType,
    IntType,
    ItemType,
    Place,
    Setting,
    SumType,
    WordType,
)
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span

P = ParamSpec("P")


@record
class Origin:
    """Origin of a value, with its place in a file or on the command line."""

    kind: Literal["default", "file", "--set"]
    span: Span | None = None
    scaled: float | None = None  # scaling factor, if the command line sets the epochs

    def __str__(self) -> str:
        place = str(self.span) if self.kind == "file" and self.span else self.kind
        return place if self.scaled is None else f"{place}, scaled by {self.scaled:.4g}"


def _field(make: Callable[P, Setting]) -> Callable[P, Any]:
    """Return a function that returns a field with the setting of its arguments."""
    return lambda *args, **kwargs: field(metadata={"row": make(*args, **kwargs)})


row = _field(Setting)
whole_row = _field(partial(Setting, scope="recipe"))


@record
class Phase:
    """One phase of training. A setting of the recipe applies to all its phases."""

    name: str
    epochs: int = row(
        IntType(1, 100_000),
        None,
        "number of passes over the training data",
        required=True,
        example="90",
    )
    steps: int | None = row(
        IntType(1, 10_000),
        None,
        "number of time steps T; by default that of the network",
        example="4",
    )
    batch: int = row(
        IntType(1, 1_000_000),
        "256",
        "global batch size: number of images per update, over all processes",
    )
    accumulate: int = row(
        IntType(1, 10_000), "1", "number of parts a batch is split into, to save memory"
    )
    optimizer: Item = row(
        ItemType("optimizer"),
        None,
        "optimizer that updates the weights",
        required=True,
        example="sgd(lr = 0.1, momentum = 0.9)",
    )
    schedule: Item = row(
        ItemType("schedule"), "constant", "schedule of the learning rate", example="cosine"
    )
    warmup: float = row(
        FloatType(0.0, 100_000.0),
        "0",
        "number of epochs with a linear increase of the learning rate; part of `epochs`",
    )
    augment: tuple[Item, ...] = row(
        FlowType("augment"),
        "none",
        "transforms of training images",
        example="random_crop(32, padding = 4) -> horizontal_flip",
    )
    augment_on: str | None = row(
        ChoiceType(("device",)),
        None,
        "`device` runs the steps of `augment` on the device, from the first whose images all have one "
        "size; by default, the loader processes run them",
        example="device",
    )
    evaluate: tuple[Item, ...] = row(
        FlowType("evaluate"),
        "none",
        "transforms of test images",
        example="resize(256) -> center_crop(224)",
    )
    loss: tuple[Summand, ...] = row(
        SumType("loss"),
        "cross_entropy",
        "loss function to minimise",
        example="cross_entropy + 0.1 * firing_rate(target = 0.1)",
    )
    change: tuple[Change, ...] = row(
        ChangeType("change", ("neuron", "surrogate", *SCHEDULED_OPERATIONS)),
        "none",
        "parameters that change during training: of the network's neuron and surrogate, and those that "
        "the network marks with `scheduled(...)`",
        example="surrogate(alpha = linear(1.0, 5.0))",
    )
    gradient: Item = row(ItemType("gradient"), "bptt", "gradient rule")
    precision: str = row(
        ChoiceType(("float32", "tf32", "bf16", "fp16")),
        "float32",
        "arithmetic precision: `tf32` multiplies TensorFloat-32 numbers, `bf16` and `fp16` are mixed "
        "precision with bfloat16, or with float16 and loss scaling",
    )
    clip: float | None = row(
        POSITIVE,
        None,
        "maximum norm of the gradient; larger gradients are scaled down",
        example="1.0",
    )
    ema: float | None = row(
        FloatType(0.0, 1.0, open_low=True, open_high=True),
        None,
        "decay of an exponential moving average of the weights, which is then evaluated and saved",
        example="0.999",
    )
    freeze: tuple[Summand, ...] | None = row(
        SumType("part"),
        None,
        "parts of the network that keep their weights and compute as in a test, norms included",
        example="stem + stages(0, 1)",
    )
    lr_scale: tuple[Summand, ...] | None = row(
        SumType("part"),
        None,
        "factors of the learning rate for parts of the network; the innermost part of a weight counts",
        example="0.1 * stages + 10 * head",
    )
    start: str | None = row(
        WordType.PHASE,
        None,
        "phase whose final weights initialise this phase; by default new weights",
        example="first",
        scope="phase only",
    )
    origins: tuple[tuple[str, Origin], ...] = field(default=(), compare=False, repr=False)


def factors_of(parts: Iterable[Summand] | None) -> dict[str, float]:
    """Return the factor of each part of a network, by its path as in ``stages.0``."""
    found: dict[str, float] = {}
    for part in parts or ():
        name = part.item.name
        paths = [f"{name}.{number}" for number in part.item["numbers"]]
        found |= dict.fromkeys(paths or [name], part.factor)
    return found


def part_of(name: str, paths: Iterable[str]) -> str | None:
    """Return the innermost of the parts that a module or parameter is in."""
    return max((path for path in paths if f"{name}.".startswith(f"{path}.")), key=len, default=None)


def named_in(phases: Iterable[Phase], argument: str) -> list[str]:
    """Return the values of an argument of losses, optimizers and augmentations, each once."""
    items: list[Item] = []
    for phase in phases:
        items += [*(term.item for term in phase.loss), phase.optimizer, *phase.augment]
    return list(dict.fromkeys(str(item[argument]) for item in items if argument in item))


@record
class Recipe:
    """Checked recipe: one phase or more, in order."""

    name: str
    phases: tuple[Phase, ...]
    sync_norm: bool = whole_row(
        WordType.BOOL, "false", "if true, norms compute their statistics over all processes"
    )
    seed: int = whole_row(
        IntType(0, 2**32 - 1),
        "0",
        "seed of the initial weights, the order of samples and the augmentation",
    )
    workers: int = whole_row(
        IntType(0, 1024), "0", "number of data loading processes per training process"
    )
    trials: int = whole_row(IntType(1, 1000), "1", "number of runs, with seed, seed + 1, ...")
    checkpoint_every: int = whole_row(
        IntType(0), "0", "steps between checkpoints; 0 uses only `checkpoint_minutes`"
    )
    checkpoint_minutes: float = whole_row(
        FloatType(0.0, 100_000.0),
        "5",
        "minutes between checkpoints, in addition to one per epoch; 0 disables them",
    )
    keep_every: int = whole_row(
        IntType(0),
        "0",
        "epochs between checkpoints that are never deleted; 0 keeps only the last and the best",
    )
    origins: tuple[tuple[str, Origin], ...] = field(default=(), compare=False, repr=False)

    def as_dict(self) -> dict[str, object]:
        """Return all settings as JSON data, with the origin of each under ``origins``."""
        whole = {key: getattr(self, key) for key in keys_of("recipe")}
        phases = [
            {"name": phase.name}
            | {key: plain(getattr(phase, key)) for key in keys_of("phase", "phase only")}
            for phase in self.phases
        ]
        origins = {key: str(origin) for key, origin in self.origins}
        for phase in self.phases:
            origins |= {f"{phase.name}.{key}": str(origin) for key, origin in phase.origins}
        return {"name": self.name, **whole, "phases": phases, "origins": origins}


SETTINGS: Mapping[str, Setting] = {
    item.name: item.metadata["row"]
    for part in (Phase, Recipe)
    for item in fields(part)
    if "row" in item.metadata
}
"""Settings by key, starting with those of phases."""


def keys_of(*places: Place) -> list[str]:
    """Return the settings that are allowed in these places."""
    return [key for key, item in SETTINGS.items() if item.scope in places]
