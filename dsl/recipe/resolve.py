"""Resolution of recipes: a declaration with its overrides, checked against the schema, as data.

If `--set` changes the epochs of a phase, its warm-up and its schedule's milestones are scaled along,
unless they are given too or are written in terms of `epochs`: a short run keeps the shape of its
schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, Reported, Reporter
from danetc.dsl.loading import Module
from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.levels import RecipeReader, SettingValue, merged
from danetc.dsl.recipe.scope import Scope
from danetc.dsl.recipe.settings import Origin, Phase, Recipe, factors_of, keys_of, part_of
from danetc.dsl.syntax.overrides import OverrideValue
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Call, Declaration, Name, walk

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
    reader = RecipeReader(Reporter())
    found = reader.read(declaration, module)
    recipe = _resolve(declaration, overrides, reader) if found else None
    known = [item.span for item in reporter.diagnostics]
    for error in reader.reporter.diagnostics:
        if reader.complete or not _follows(error, known):
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
    declaration: Declaration, overrides: Mapping[str, OverrideValue], reader: RecipeReader
) -> Recipe | None:
    reporter, recipe = reader.reporter, f"recipe `{declaration.name}`"
    owners = {name: f"phase `{name}`" for name in reader.phases}
    if not owners:
        owners = {IMPLICIT_PHASE: recipe}
        reader.phases = {IMPLICIT_PHASE: declaration.name_span}
    written = reader.levels
    reader.override(overrides)

    whole = Scope(recipe, declaration.name_span, merged(reader.levels, None), reporter)
    settings = whole.values(keys_of("recipe"))
    keys = keys_of("phase", "phase only")
    names = tuple(owners)
    phases = []
    for number, (name, owner) in enumerate(owners.items()):
        entries, earlier = merged(reader.levels, name), names[:number]
        scope = Scope(owner, reader.phases[name], entries, reporter, earlier, names, reader.lost)
        values = scope.values(keys)
        if values is not None:
            scaled = _scale(scope, merged(written, name), values)
            _check(scope, values)
            phases.append(Phase(name, origins=_origins(scope, keys, scaled), **values))
    if settings is None or reporter.diagnostics:
        return None
    origins = _origins(whole, keys_of("recipe"), {})
    return Recipe(declaration.name, tuple(phases), origins=origins, **settings)


def _scale(
    scope: Scope, written: Mapping[str, SettingValue], values: dict[str, Any]
) -> dict[str, float]:
    """Scale warm-up and milestones if the command line sets epochs; return the factors.

    ``written`` are the settings without the command line.
    """
    if scope.entries["epochs"].kind == "file" or "epochs" not in written:
        return {}
    try:
        epochs = Scope(scope.owner, scope.place, written, Reporter()).value("epochs")
    except Reported:
        return {}  # the overridden value may be wrong
    assert isinstance(epochs, int)
    factor = values["epochs"] / epochs
    scaled = {}
    for key in ("warmup", "schedule"):
        entry, value = scope.entries.get(key), values[key]
        if entry is None or entry.kind == "--set" or factor == 1:
            continue
        if any(isinstance(node, Name) and node.id == "epochs" for node in walk(entry.value)):
            continue
        if key == "warmup":
            values[key] = value * factor
        elif value.name == "step":
            moved = tuple(item * factor for item in value["epochs"])
            values[key] = Item("step", (("epochs", moved), ("factor", value["factor"])))
        else:
            continue
        scaled[key] = factor
    return scaled


def _check(scope: Scope, values: Mapping[str, Any]) -> None:
    """Report settings of a phase that are not consistent."""
    epochs, warmup, schedule = values["epochs"], values["warmup"], values["schedule"]
    batch, parts, optimizer = values["batch"], values["accumulate"], values["optimizer"]
    written = {key: entry.value for key, entry in scope.entries.items()}
    if warmup >= epochs:
        message = f"a warm-up of {warmup:g} epochs takes all of {epochs}"
        labels = [Label(written["epochs"].span, "of these epochs")]
        label = f"must be below {epochs}"
        scope.error("E0808", message, written["warmup"].span, label=label, labels=labels)
    if schedule.name == "step":
        milestones, call = schedule["epochs"], written["schedule"]
        assert isinstance(call, Call)
        places = [arg.value.span for arg in call.args if arg.name is None]
        for last, milestone, place in zip((0.0, *milestones), milestones, places, strict=False):
            if not last < milestone < epochs:
                message = f"epoch {milestone:g} of the schedule is never reached in {epochs} epochs"
                if milestone <= last:
                    message = f"the schedule goes back from epoch {last:g} to {milestone:g}"
                label = f"must be above {last:g} and below {epochs}"
                scope.error("E0807", message, place, label=label)
                break
    frozen = factors_of(values["freeze"])
    scaled = [path for part in values["lr_scale"] or () for path in factors_of([part])]
    wrong = [path for path, factor in frozen.items() if factor != 1]
    wrong += [path for path in scaled if scaled.count(path) > 1 or part_of(path, frozen)]
    if wrong:
        message = f"`{wrong[0]}` has one factor of the learning rate, and none if it is frozen"
        shown = written["lr_scale" if scaled else "freeze"]
        scope.error("E0811", message, shown.span, label="not one factor")
    if batch % parts:
        message = f"a batch of {batch} cannot be split into {parts} equal parts"
        label = "does not divide the batch"
        scope.error("E0811", message, written["accumulate"].span, label=label)
    if optimizer.name == "sgd" and optimizer["nesterov"] and not optimizer["momentum"]:
        message = "Nesterov momentum needs a momentum"
        label, hint = "has a momentum of 0", "set `momentum = 0.9`, or leave out `nesterov`"
        scope.error("E0811", message, written["optimizer"].span, label=label, hint=hint)


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
        origins += [(f"{key}.{name}", Origin("--set", place)) for name, place in entry.changed]
    return tuple(origins)
