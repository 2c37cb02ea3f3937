"""Settings of a recipe as written: in the recipe, in the recipes that it varies, on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal, TypeAlias

from danetc.dsl.diagnostics.diagnostic import Label, Reporter, did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.loading import Module, Resolved
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.schema import ChangeType, FlowType, ItemType, SumType, Type
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.overrides import (
    OverrideValue,
    override_source,
    parse_override,
    with_argument,
)
from danetc.dsl.syntax.source import Span

MAX_VARIANTS = 20
_OF_OPTIMIZERS = frozenset(
    row.name for item in ITEMS["optimizer"].values() for row in item.arguments
)


@record
class SettingValue:
    """A setting as written: its value and the place of its name.

    ``changed`` are arguments of the value that ``--set`` has changed.
    """

    value: s.Expr
    place: Span
    kind: Literal["file", "--set"]
    changed: tuple[tuple[str, Span], ...] = ()


Level: TypeAlias = dict[str | None, dict[str, SettingValue]]
"""Settings of one recipe, or of the command line, by phase. None stands for the recipe itself."""


def merged(levels: Sequence[Level], phase: str | None) -> dict[str, SettingValue]:
    """Return the settings of a phase (None: of the recipe).

    The first level that has a setting wins, and within a level the phase wins over the recipe.
    """
    return {
        key: entry
        for level in reversed(levels)
        for part in (None, phase)
        for key, entry in level.get(part, {}).items()
    }


class RecipeReader:
    """Reads a recipe and the recipes that it varies, and reports what cannot be part of one.

    Attributes:
        levels: Settings of the recipe, of the one that it varies, and so on.
        phases: Phases in order, those of the varied recipe first, with the places of their names.
        lost: Missing settings whose cause has been reported.
        complete: False if settings may be missing because of syntax errors.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.error = reporter.error
        self.reporter = reporter
        self.levels: list[Level] = []
        self.phases: dict[str, Span] = {}
        self.lost: set[str] = set()
        self.complete = True

    def read(self, declaration: s.Declaration, module: Module | None) -> bool:
        """Read a recipe and its bases. Return False if one of them is missing (reported)."""
        seen = [declaration]
        while True:
            if declaration.params:
                message, place = "a recipe has no parameters", declaration.params[0].span
                hint = "a variant changes settings: `recipe NAME = BASE { epochs = 30 }`"
                self.error("E0801", message, place, label="not allowed", hint=hint)
                return False
            self.complete &= module is None or module.complete
            self.levels.append(self._level(declaration.body or ()))
            if declaration.value is None:
                return True
            base = self._base(declaration.value, module)
            if base is None:
                return False
            declaration, module = base.declaration, base.module
            if any(declaration is other for other in seen):
                names = " -> ".join(f"`{item.name}`" for item in [*seen, declaration])
                self.error(
                    "E0203",
                    f"recipes build on each other in a cycle: {names}",
                    seen[0].name_span,
                    label="needs itself",
                    labels=[Label(item.name_span, "through this recipe") for item in seen[1:]],
                )
                return False
            if len(seen) >= MAX_VARIANTS:
                message = f"more than {MAX_VARIANTS} recipes build on each other"
                self.error("E0901", message, seen[0].name_span)
                return False
            seen.append(declaration)

    def _base(self, value: s.Expr, module: Module | None) -> Resolved | None:
        """Return the recipe that another varies; None if there is none (reported)."""
        name, labels, hint = s.called(value), list[Label](), None
        if name is None or not isinstance(value, s.Name):
            message = "a recipe varies another recipe, or has its settings in braces"
            hint = f"write `= {name.id} {{ ... }}`" if name is not None else None
            self.error("E0810", message, value.span, label="not the name of a recipe", hint=hint)
            return None
        names = module.names if module is not None else {}
        target = names.get(name.id)
        if target is not None and target.declaration.kind == "recipe":
            return target
        if target is not None:
            message = f"`{name.id}` is a {target.declaration.kind}, not a recipe"
            labels.append(Label(target.declaration.name_span, "declared here"))
        elif module is not None and module.excuses(name.id):
            return None
        else:
            message = f"there is no recipe `{name.id}`"
            recipes = (key for key in names if names[key].declaration.kind == "recipe")
            hint = did_you_mean(name.id, recipes)
        self.error("E0810", message, name.span, label="not a recipe", labels=labels, hint=hint)
        return None

    def _level(self, body: Sequence[s.Stmt]) -> Level:
        level: Level = {None: self._settings(body, None)}
        places: dict[str, Span] = {}
        for group in (item for item in body if isinstance(item, s.Group)):
            kind, name = group.kind, group.name
            if kind != "phase":
                hint = f"a setting is written `{kind} = ...`" if kind in SETTINGS else None
                hint = did_you_mean(kind, ["phase"]) or hint
                message = f"a recipe has no group `{kind}`"
                self.error("E0801", message, group.span, label="not a setting", hint=hint)
            elif name is None:
                label = "phase NAME { ... }"
                self.error("E0805", "a phase needs a name", group.span, label=label)
                self.lost.add("phase")
            if name in places:
                self.error(
                    "E0809",
                    f"phase `{name}` is written twice",
                    group.name_span,
                    label="written again here",
                    labels=[Label(places[name], "first here")],
                )
            elif name is not None:
                places[name] = group.name_span
                level[name] = self._settings(group.body, name)
        self.phases = places | self.phases
        return level

    def _settings(self, body: Sequence[s.Stmt], phase: str | None) -> dict[str, SettingValue]:
        """Return the settings of a phase (None: of the recipe).

        A misspelt setting counts as the known setting nearest to it, so that it is not reported as missing.
        """
        entries: dict[str, SettingValue] = {}
        guessed: dict[str, SettingValue] = {}
        for statement in body:
            if isinstance(statement, s.Group) and phase is None:
                continue
            if not isinstance(statement, s.Define) or statement.index is not None:
                message = "recipes and phases have settings only, `name = value`"
                self.error("E0801", message, statement.span, label="not a setting")
                continue
            name, place = statement.name, statement.name_span
            entry = SettingValue(statement.value, place, "file")
            if not self._allowed(name, phase, place):
                self.lost |= {"optimizer"} if name in _OF_OPTIMIZERS else set()
                guessed.update(dict.fromkeys(nearest(name, SETTINGS, words=True)[:1], entry))
            elif name in entries:
                labels = [Label(entries[name].place, "first here")]
                message = f"`{name}` is set twice"
                self.error("E0809", message, place, label="set again here", labels=labels)
            else:
                entries[name] = entry
        return guessed | entries

    def _allowed(self, key: str, phase: str | None, place: Span) -> bool:
        """True if a setting is allowed in a phase, or in the recipe itself (None)."""
        scope = SETTINGS[key].scope if key in SETTINGS else None
        if scope is None:
            message = f"a recipe has no setting `{key}`"
            hint = answer("recipe", key) or did_you_mean(key, SETTINGS)
            hint = hint or f"settings are: {', '.join(SETTINGS)}"
        elif phase is not None and scope == "recipe":
            message = f"`{key}` is a setting of the whole recipe"
            hint = "move it out of the phase"
        elif phase is None and scope == "phase only":
            message, hint = f"`{key}` is a setting of one phase", "move it into a phase"
        else:
            return True
        self.error("E0801", message, place, label="not a setting here", hint=hint)
        return False

    # -- the command line -------------------------------------------------------------------------

    def override(self, overrides: Mapping[str, OverrideValue]) -> None:
        """Insert the settings of the command line as the first level.

        Settings are applied before arguments, and settings of all phases before those of one phase.
        """
        level: Level = {None: {}} | {name: {} for name in self.phases}
        written = self.levels
        self.levels = [level, *written]
        found = {path: self._target(path, value) for path, value in overrides.items()}
        targets = [(path, target) for path, target in found.items() if target is not None]
        targets.sort(key=lambda item: (len(item[1][1]), item[1][0] is not None))
        for path, (only, (key, *rest), place) in targets:
            expr = parse_override(path, overrides[path], self.reporter)
            if expr is None:
                continue
            if not rest:
                level[only][key] = SettingValue(expr, place, "--set")
                continue
            row = SETTINGS[key]
            for phase in self.phases if only is None else (only,):
                entry = merged(self.levels, phase).get(key)
                if entry is None and row.default is not None:
                    entry = SettingValue(s.Name(row.default, span=place), place, "--set")
                if entry is not None:
                    level[phase][key] = self._changed(entry, row.type, rest, expr, place)

    def _target(self, path: str, value: OverrideValue) -> tuple[str | None, list[str], Span] | None:
        """Return the phase, the setting with its parts, and the place of a path; or None (reported)."""
        place = Span(override_source(path, value), 0, len(path))
        parts = path.split(".")
        if parts[0] == "recipe" and len(parts) > 1:
            del parts[0]
        phase = parts.pop(0) if len(parts) > 1 and parts[0] in self.phases else None
        key, label = parts[0], "unknown setting"
        if key not in SETTINGS:
            message = f"the recipe has no setting `{'.'.join(parts)}`"
            hint = answer("recipe", key) or did_you_mean(key, chain(SETTINGS, self.phases))
            self.error("E0801", message, place, label=label, hint=hint)
            return None
        if not self._allowed(key, phase, place):
            return None
        kind = SETTINGS[key].type
        most = 3 if isinstance(kind, SumType) else 2 if isinstance(kind, ItemType) else 1
        if len(parts) > most:
            message = f"`{key}` has no part `{'.'.join(parts[1:])}`"
            hint = f"set `{key}` as a whole" if isinstance(kind, FlowType | ChangeType) else None
            self.error("E0801", message, place, label=label, hint=hint)
            return None
        return phase, parts, place

    def _changed(
        self, entry: SettingValue, kind: Type, parts: Sequence[str], value: s.Expr, place: Span
    ) -> SettingValue:
        """Return an entry with an argument changed: of an item, or of one term of a sum."""
        *named, name = parts
        arg = s.Arg(name, value, span=value.span)
        family = kind.family if isinstance(kind, SumType) else None
        wanted = named[0] if named else None
        found: list[str] = []

        def changed(expr: s.Expr) -> s.Expr:
            match expr:
                case s.Binary(op, left, right) if family is not None:
                    return s.Binary(op, changed(left), changed(right), span=expr.span)
                case s.Name(id) | s.Call(s.Name(id)) if family is None or (
                    id in ITEMS[family] and wanted in (None, id)
                ):
                    found.append(id)
                    return with_argument(expr, arg)
            return expr

        call = changed(entry.value)
        if len(found) == 1:
            return replace(entry, value=call, changed=(*entry.changed, (name, place)))
        if found:
            message = f"`{family}` has several terms"
            hint = f"name one: `{family}.{found[0]}.{name}`"
            self.error("E0801", message, place, label="not one term", hint=hint)
        elif family is not None and wanted is not None:
            message = f"`{family}` has no term `{wanted}`"
            near = did_you_mean(wanted, ITEMS[family])
            self.error("E0801", message, place, label="not one term", hint=near)
        return entry  # without an item, the error of the value says so
