"""The settings of the command line, as the first level of a recipe's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from danetc.dsl.diagnostics.diagnostic import Reporter, did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.levels import RecipeLevel, SettingValue, allowed, find
from danetc.dsl.recipe.schema import Setting
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.recipe.value_types import ChangeType, FlowType, ItemType, SumType
from danetc.dsl.record import record
from danetc.dsl.syntax.overrides import (
    OverrideValue,
    override_source,
    parse_override,
    with_argument,
)
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Arg, Binary, Call, Expr, Name


def overridden(
    overrides: Mapping[str, OverrideValue],
    phases: Sequence[str],
    stack: Sequence[RecipeLevel],
    reporter: Reporter,
) -> RecipeLevel:
    """The level of the command line. Settings come before arguments, all phases before one."""
    level = RecipeLevel(phases={name: {} for name in phases})
    targets = []
    for path, value in overrides.items():
        target = _target(path, value, phases, reporter)
        if target is not None:
            targets.append((target, path, value))
    targets.sort(key=lambda item: (len(item[0].parts), item[0].phase is not None))
    for target, path, value in targets:
        expr = parse_override(path, value, reporter)
        if expr is None:
            continue
        key, *rest = target.parts
        if not rest:
            entries = level.whole if target.phase is None else level.phases[target.phase]
            entries[key] = SettingValue(expr, target.place, "--set")
            continue
        for phase in phases if target.phase is None else (target.phase,):
            entry = find([level, *stack], phase, key) or _default(SETTINGS[key], target.place)
            if entry is None:
                continue
            kind = SETTINGS[key].type
            if isinstance(kind, SumType):
                changed = _with_term(entry, kind.family, rest, expr, target.place, reporter)
            else:
                changed = _with_argument(entry, rest[0], expr, target.place)
            level.phases[phase][key] = changed
    return level


@record
class _Target:
    phase: str | None
    parts: tuple[str, ...]
    place: Span


def _target(
    path: str, value: OverrideValue, phases: Sequence[str], reporter: Reporter
) -> _Target | None:
    place = Span(override_source(path, value), 0, len(path))
    parts = path.split(".")
    if parts[0] == "recipe" and len(parts) > 1:
        del parts[0]
    phase = parts.pop(0) if len(parts) > 1 and parts[0] in phases else None
    key = parts[0]
    if key not in SETTINGS:
        reporter.error(
            "E0801",
            f"the recipe has no setting `{'.'.join(parts)}`",
            place,
            label="unknown setting",
            hint=answer("recipe", key) or did_you_mean(key, chain(SETTINGS, phases)),
        )
        return None
    if not allowed(key, phase, place, reporter):
        return None
    row = SETTINGS[key]
    most = 3 if isinstance(row.type, SumType) else 2 if isinstance(row.type, ItemType) else 1
    if len(parts) > most:
        steps = isinstance(row.type, FlowType | ChangeType)
        reporter.error(
            "E0801",
            f"`{key}` has no part `{'.'.join(parts[1:])}`",
            place,
            label="unknown setting",
            hint=f"set `{key}` as a whole" if steps else None,
        )
        return None
    return _Target(phase, tuple(parts), place)


def _default(row: Setting, place: Span) -> SettingValue | None:
    return (
        None if row.default is None else SettingValue(Name(row.default, span=place), place, "--set")
    )


def _with_argument(entry: SettingValue, name: str, value: Expr, place: Span) -> SettingValue:
    """An entry whose value, a call, has one argument changed."""
    call = with_argument(entry.value, Arg(name, value, span=value.span))
    if call is entry.value:
        return entry  # not an item at all: its own error says so
    return replace(entry, value=call, changed=(*entry.changed, (name, place)))


def _with_term(
    entry: SettingValue,
    family: str,
    parts: Sequence[str],
    value: Expr,
    place: Span,
    reporter: Reporter,
) -> SettingValue:
    """An entry whose value, a sum, has an argument of one term changed; of several that is named."""
    *named, name = parts
    wanted = named[0] if named else None
    found: list[str] = []

    def changed(expr: Expr) -> Expr:
        match expr:
            case Binary(op, left, right):
                return Binary(op, changed(left), changed(right), span=expr.span)
            case Name(id) | Call(Name(id)) if id in ITEMS[family] and wanted in (None, id):
                found.append(id)
                return with_argument(expr, Arg(name, value, span=value.span))
        return expr

    call = changed(entry.value)
    if len(found) == 1:
        return replace(entry, value=call, changed=(*entry.changed, (name, place)))
    hint: str | None
    if found:
        message, hint = f"`{family}` has several terms", f"name one: `{family}.{found[0]}.{name}`"
    elif wanted is not None:
        message, hint = f"`{family}` has no term `{wanted}`", did_you_mean(wanted, ITEMS[family])
    else:
        return entry  # not an item at all: its own error says so
    reporter.error("E0801", message, place, label="not one term", hint=hint)
    return entry
