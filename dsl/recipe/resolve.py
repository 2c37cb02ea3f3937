"""Recipes: a declaration and what overrides it, checked against the schema, as plain data.

A setting is looked up in levels: the command line, the recipe, the recipe that it varies,
and so on; the first level that names it wins. Within a level a phase's own setting comes before the
recipe's. Where `--set` changes the epochs of a phase, its warm-up and its schedule's milestones
are scaled along, unless they are given too or are written in terms of `epochs`: a short run keeps
the shape of its schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, Reported, Reporter
from danetc.dsl.modules import Module
from danetc.dsl.recipe.command_line import overridden
from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.levels import RecipeLevel, SettingValue, find, levels, phase_places
from danetc.dsl.recipe.scope import Scope
from danetc.dsl.recipe.settings import Origin, Phase, Recipe, keys_of
from danetc.dsl.syntax.overrides import OverrideValue
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Declaration, Expr, Name, walk

IMPLICIT_PHASE = "train"


def resolve_recipe(
    declaration: Declaration,
    overrides: Mapping[str, OverrideValue],
    reporter: Reporter,
    module: Module | None = None,
) -> Recipe | None:
    """The recipe of a declaration, or None where something is wrong (reported).

    ``overrides`` are settings by path: ``epochs`` for all phases, ``full.epochs`` for one, and
    ``optimizer.lr`` for an argument; a leading ``recipe.`` is left out. ``module`` is where the
    declaration stands; a variant finds its base through it.
    """
    found = Reporter()
    stack = levels(declaration, module, found)
    recipe = _resolve(declaration, overrides, found, stack) if stack is not None else None
    complete = all(level.complete for level in stack or ()) and (module is None or module.complete)
    known = [item.span for item in reporter.diagnostics]
    for error in found.diagnostics:
        if complete or not _follows(error, known):
            reporter.add(error)
    return recipe


def _follows(error: Diagnostic, known: Sequence[Span]) -> bool:
    """Whether an error may come from a syntax error alone: what is missing, what is marked."""
    return error.code in ("E0805", "E0806") or any(
        span.source is error.span.source
        and span.start <= error.span.end
        and error.span.start <= span.end
        for span in known
    )


def _resolve(
    declaration: Declaration,
    overrides: Mapping[str, OverrideValue],
    reporter: Reporter,
    stack: list[RecipeLevel],
) -> Recipe | None:
    places = phase_places(stack)
    owners = {name: f"phase `{name}`" for name in places}
    if not places:
        places = {IMPLICIT_PHASE: declaration.name_span}
        owners = {IMPLICIT_PHASE: f"recipe `{declaration.name}`"}
    names = tuple(places)
    stack.insert(0, overridden(overrides, names, stack, reporter))

    lost = frozenset(key for level in stack for key in level.lost)
    whole = Scope(
        f"recipe `{declaration.name}`",
        declaration.name_span,
        _gather(stack, None),
        reporter,
    )
    settings = _evaluate(whole, keys_of("recipe"))
    phases = []
    for number, name in enumerate(names):
        scope = Scope(
            owners[name], places[name], _gather(stack, name), reporter, names[:number], names, lost
        )
        phase = _phase(name, scope, stack[1:])
        if phase is not None:
            phases.append(phase)
    if settings is None or reporter.diagnostics:
        return None
    return Recipe(
        declaration.name,
        tuple(phases),
        origins=_origins(whole, keys_of("recipe"), {}),
        **settings,
    )


def _gather(stack: Sequence[RecipeLevel], phase: str | None) -> dict[str, SettingValue]:
    scopes = ("recipe",) if phase is None else ("phase", "phase only")
    found = {key: find(stack, phase, key) for key in keys_of(*scopes)}
    return {key: entry for key, entry in found.items() if entry is not None}


def _evaluate(scope: Scope, keys: Sequence[str]) -> dict[str, Any] | None:
    """All values, or None where one is wrong; every wrong one is reported."""
    values: dict[str, Any] = {}
    failed = False
    for key in keys:
        try:
            values[key] = scope.value(key)
        except Reported:
            failed = True
    return None if failed else values


def _phase(name: str, scope: Scope, written: Sequence[RecipeLevel]) -> Phase | None:
    values = _evaluate(scope, keys_of("phase", "phase only"))
    if values is None:
        return None
    scaled = _scale(name, scope, written, values)
    if not _fits(scope, values):
        return None
    keys = keys_of("phase", "phase only")
    return Phase(name, origins=_origins(scope, keys, scaled), **values)


def _scale(
    name: str, scope: Scope, written: Sequence[RecipeLevel], values: dict[str, Any]
) -> dict[str, float]:
    """Scales warm-up and milestones to epochs from the command line; says what it has scaled."""
    entry = scope.entries["epochs"]
    if entry.kind == "file" or find(written, name, "epochs") is None:
        return {}
    before = Scope(scope.owner, scope.place, _gather(written, name), Reporter())
    try:
        epochs = before.value("epochs")
    except Reported:
        return {}  # what is overridden may be wrong
    assert isinstance(epochs, int)
    factor = values["epochs"] / epochs
    scaled = {}
    for key in ("warmup", "schedule"):
        found = scope.entries.get(key)
        if found is None or found.kind == "--set" or factor == 1 or _names_epochs(found.value):
            continue
        if key == "warmup":
            values[key] *= factor
        elif values[key].name == "step":
            moved = tuple(item * factor for item in values[key].numbers("epochs"))
            values[key] = Item("step", (("epochs", moved), ("factor", values[key]["factor"])))
        else:
            continue
        scaled[key] = factor
    return scaled


def _names_epochs(expr: Expr) -> bool:
    return any(isinstance(node, Name) and node.id == "epochs" for node in walk(expr))


def _fits(scope: Scope, values: Mapping[str, Any]) -> bool:
    """Whether the settings of a phase go together; what does not is reported."""
    before = len(scope.reporter.diagnostics)
    epochs, warmup = values["epochs"], values["warmup"]
    if warmup >= epochs:
        scope.reporter.error(
            "E0808",
            f"a warm-up of {warmup:g} epochs leaves nothing of {epochs}",
            scope.entries["warmup"].value.span,
            label=f"must be below {epochs}",
            labels=[Label(scope.entries["epochs"].value.span, "of these epochs")],
        )
    schedule = values["schedule"]
    if schedule.name == "step":
        _check_milestones(scope, schedule.numbers("epochs"), epochs)
    if values["batch"] % values["accumulate"]:
        scope.reporter.error(
            "E0811",
            f"a batch of {values['batch']} has no {values['accumulate']} equal parts",
            scope.entries["accumulate"].value.span,
            label="does not divide the batch",
        )
    optimizer = values["optimizer"]
    if optimizer.name == "sgd" and optimizer["nesterov"] and not optimizer["momentum"]:
        scope.reporter.error(
            "E0811",
            "Nesterov's step looks ahead along the momentum, and there is none",
            scope.entries["optimizer"].value.span,
            label="has a momentum of 0",
            hint="give it one, `momentum = 0.9`, or leave `nesterov` out",
        )
    return len(scope.reporter.diagnostics) == before


def _check_milestones(scope: Scope, milestones: Sequence[float], epochs: int) -> None:
    last = 0.0
    for number, (milestone, place) in enumerate(zip(milestones, scope.milestones, strict=True)):
        if milestone <= last:
            scope.reporter.error(
                "E0807",
                f"the schedule goes back from epoch {last:g} to {milestone:g}",
                place,
                label="must be later than the one before",
                labels=[Label(scope.milestones[number - 1], "the one before")],
            )
            return
        if milestone >= epochs:
            scope.reporter.error(
                "E0807",
                f"epoch {milestone:g} of the schedule is never reached in {epochs} epochs",
                place,
                label=f"must be below {epochs}",
                labels=[Label(scope.entries["epochs"].value.span, "the epochs")],
            )
            return
        last = milestone


def _origins(
    scope: Scope, keys: Sequence[str], scaled: Mapping[str, float]
) -> tuple[tuple[str, Origin], ...]:
    origins: list[tuple[str, Origin]] = []
    for key in keys:
        entry = scope.entries.get(key)
        if entry is None:
            origins.append((key, Origin("default")))
            continue
        origins.append((key, Origin(entry.kind, entry.place, scaled.get(key))))
        for argument, place in entry.changed:
            origins.append((f"{key}.{argument}", Origin("--set", place)))
    return tuple(origins)
