"""Warnings about recipes: suspicious settings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from danetc.compiler.warnings.rule import Finding, Rule
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.loading import is_library
from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.items import OPTIMIZERS
from danetc.dsl.recipe.settings import Origin, Phase, Recipe
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Declaration


@record(slots=False)
class Written:
    """A recipe without errors, and its declaration."""

    recipe: Recipe
    declaration: Declaration

    def place(self, phase: Phase | None, *keys: str) -> Span:
        """Return the span of the first setting in ``keys`` that the user wrote."""
        origins: dict[str, Origin] = dict(self.recipe.origins if phase is None else phase.origins)
        for key in keys:
            span = origins[key].span if key in origins else None
            if span is not None and not is_library(span.source):
                return span
        return self.declaration.name_span


def _rate(written: Written) -> Iterator[Finding]:
    for phase in written.recipe.phases:
        optimizer = phase.optimizer
        rate, largest = optimizer["lr"], OPTIMIZERS[optimizer.name].largest_rate
        if rate > largest:
            yield Finding(
                written.place(phase, "optimizer.lr", "optimizer"),
                f"a learning rate of {rate:g} for `{optimizer.name}`",
                label=f"networks do not train above {largest:g}",
                hint="is a decimal point or a division by the batch missing?",
            )


def _lost_phase(written: Written) -> Iterator[Finding]:
    phases = written.recipe.phases
    started = {phase.start for phase in phases}
    for phase, later in pairwise(phases):
        if phase.name not in started:
            yield Finding(
                written.place(phase, "epochs"),
                f"no phase starts from `{phase.name}`: its weights are discarded",
                labels=(Label(written.place(later, "epochs"), f"`{later.name}` {_begins(later)}"),),
                hint=f"write `start = {phase.name}` in phase `{later.name}`",
            )


def _begins(phase: Phase) -> str:
    return "has new weights" if phase.start is None else f"starts from `{phase.start}`"


def _normalised_differently(written: Written) -> Iterator[Finding]:
    for phase in written.recipe.phases:
        train, test = (_statistics(items) for items in (phase.augment, phase.evaluate))
        if train != test:
            place = written.place(phase, "evaluate", "augment")
            yield Finding(
                place,
                f"training images are {_normalised(train)}, and test images are {_normalised(test)}",
                label="the network is tested on a different distribution than it is trained on",
                hint="put the same `normalize(...)` into `augment` and `evaluate`",
            )


def _statistics(items: tuple[Item, ...]) -> tuple[str, ...]:
    return tuple(str(item["statistics"]) for item in items if item.name == "normalize")


def _normalised(statistics: tuple[str, ...]) -> str:
    return f"normalised by {', '.join(statistics)}" if statistics else "not normalised"


RULES: tuple[Rule[Written], ...] = (
    Rule("W0401", _rate),
    Rule("W0402", _lost_phase),
    Rule("W0403", _normalised_differently),
)
