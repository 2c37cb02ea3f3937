"""Resolution of recipes: a declaration with its overrides, checked against the schema, as data.

A setting is looked up in levels: the command line, the recipe, the recipe that it varies, and so on;
the first level that has it wins. Within a level the setting of a phase takes precedence over that of the recipe. If
`--set` changes the epochs of a phase, its warm-up and its schedule's milestones are scaled along,
unless they are given too or are written in terms of `epochs`: a short run keeps the shape of its
schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, Reported, Reporter
from danetc.dsl.modules import Module
from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.levels import LevelReader, RecipeLevel, SettingValue, find
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
    """Return the recipe of a declaration; None if there are errors (reported).

    ``overrides`` are settings by path: ``epochs`` for all phases, ``full.epochs`` for one, and
    ``optimizer.lr`` for an argument, each with or without ``recipe.`` before it. ``module`` is the
    module of the declaration, where the base of a variant is looked up.
    """
    found = Reporter()
    reader = LevelReader(found)
    stack = reader.levels(declaration, module)
    recipe = None
    if stack is not None:
        recipe = _resolve(declaration, overrides, reader, stack)
    complete = all(level.complete for level in stack or ()) and (module is None or module.complete)
    known = [item.span for item in reporter.diagnostics]
    for error in found.diagnostics:
        if complete or not _follows(error, known):
            reporter.add(error)
    return recipe


def _follows(error: Diagnostic, known: Sequence[Span]) -> bool:
    """True if an error may result from a syntax error alone: missing settings, marked places."""
    return error.code in ("E0805", "E0806") or any(
        span.source is error.span.source
        and span.start <= error.span.end
        and error.span.start <= span.end
        for span in known
    )


def _resolve(
    declaration: Declaration,
    overrides: Mapping[str, OverrideValue],
    reader: LevelReader,
    stack: list[RecipeLevel],
) -> Recipe | None:
    reporter = reader.reporter
    recipe = f"recipe `{declaration.name}`"
    places: dict[str, Span] = {}
    for level in reversed(stack):  # phases of the recipe that is varied go first
        places.update(level.phase_places)
    owners = {name: f"phase `{name}`" for name in places}
    if not places:
        places = {IMPLICIT_PHASE: declaration.name_span}
        owners = {IMPLICIT_PHASE: recipe}
    names = tuple(places)
    written = list(stack)
    stack = [reader.overridden(overrides, names, stack), *stack]

    lost = frozenset(key for level in stack for key in level.lost)
    whole = Scope(recipe, declaration.name_span, _gather(stack, None), reporter)
    settings = _evaluate(whole, keys_of("recipe"))
    phases = []
    for number, name in enumerate(names):
        entries = _gather(stack, name)
        earlier = names[:number]
        scope = Scope(owners[name], places[name], entries, reporter, earlier, names, lost)
        keys = keys_of("phase", "phase only")
        values = _evaluate(scope, keys)
        if values is None:
            continue
        scaled = _scale(name, scope, written, values)
        if _fits(scope, values):
            phases.append(Phase(name, origins=_origins(scope, keys, scaled), **values))
    if settings is None or reporter.diagnostics:
        return None
    origins = _origins(whole, keys_of("recipe"), {})
    return Recipe(declaration.name, tuple(phases), origins=origins, **settings)


def _gather(stack: Sequence[RecipeLevel], phase: str | None) -> dict[str, SettingValue]:
    """Return the settings of a phase (None: of the recipe) that a level has."""
    keys = keys_of("recipe") if phase is None else keys_of("phase", "phase only")
    found = {key: find(stack, phase, key) for key in keys}
    return {key: entry for key, entry in found.items() if entry is not None}


def _evaluate(scope: Scope, keys: Sequence[str]) -> dict[str, Any] | None:
    """Return all values; None if one is wrong. Every wrong one is reported."""
    values: dict[str, Any] = {}
    for key in keys:
        try:
            values[key] = scope.value(key)
        except Reported:
            continue
    return values if len(values) == len(keys) else None


def _scale(
    name: str, scope: Scope, written: Sequence[RecipeLevel], values: dict[str, Any]
) -> dict[str, float]:
    """Scale warm-up and milestones if the command line sets epochs; return the factors."""
    entry = scope.entries["epochs"]
    if entry.kind == "file" or find(written, name, "epochs") is None:
        return {}
    before = Scope(scope.owner, scope.place, _gather(written, name), Reporter())
    try:
        epochs = before.value("epochs")
    except Reported:
        return {}  # the overridden value may be wrong
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
    """True if the settings of a phase are consistent; what is not is reported."""
    before = len(scope.reporter.diagnostics)
    epochs, warmup, schedule = values["epochs"], values["warmup"], values["schedule"]
    batch, parts, optimizer = values["batch"], values["accumulate"], values["optimizer"]

    def place(key: str) -> Span:
        return scope.entries[key].value.span

    if warmup >= epochs:
        message = f"a warm-up of {warmup:g} epochs takes all of {epochs}"
        labels = [Label(place("epochs"), "of these epochs")]
        scope.error("E0808", message, place("warmup"), f"must be below {epochs}", labels=labels)
    if schedule.name == "step":
        _check_milestones(scope, schedule.numbers("epochs"), epochs)
    if batch % parts:
        message = f"a batch of {batch} cannot be split into {parts} equal parts"
        scope.error("E0811", message, place("accumulate"), "does not divide the batch")
    if optimizer.name == "sgd" and optimizer["nesterov"] and not optimizer["momentum"]:
        message = "Nesterov momentum needs a momentum"
        hint = "set `momentum = 0.9`, or leave out `nesterov`"
        scope.error("E0811", message, place("optimizer"), "has a momentum of 0", hint)
    return len(scope.reporter.diagnostics) == before


def _check_milestones(scope: Scope, milestones: Sequence[float], epochs: int) -> None:
    """Report the first milestone that is out of order, or after the last epoch."""
    last = 0.0
    for number, (milestone, place) in enumerate(zip(milestones, scope.milestones, strict=True)):
        if milestone <= last:
            message = f"the schedule goes back from epoch {last:g} to {milestone:g}"
            labels = [Label(scope.milestones[number - 1], "the one before")]
            label = "must be later than the one before"
            scope.error("E0807", message, place, label, labels=labels)
            return
        if milestone >= epochs:
            message = f"epoch {milestone:g} of the schedule is never reached in {epochs} epochs"
            labels = [Label(scope.entries["epochs"].value.span, "the epochs")]
            scope.error("E0807", message, place, f"must be below {epochs}", labels=labels)
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
