"""Settings of a recipe by level: the command line, the recipe, the recipe that it varies, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from itertools import chain
from typing import Literal

from danetc.dsl.diagnostics.diagnostic import Label, Reporter, did_you_mean, meant
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.modules import Module, Resolved
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.schema import ChangeType, FlowType, ItemType, SumType
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.record import record
from danetc.dsl.syntax.overrides import (
    OverrideValue,
    override_source,
    parse_override,
    with_argument,
)
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import (
    Arg,
    Binary,
    Call,
    Declaration,
    Define,
    Expr,
    Group,
    Name,
    Stmt,
    with_names,
)

MAX_VARIANTS = 100
_OF_OPTIMIZERS = frozenset(
    row.name for item in ITEMS["optimizer"].values() for row in item.arguments
)


@record
class SettingValue:
    """A setting as written: its value and the place of its name.

    ``changed`` are arguments of the value that ``--set`` has changed.
    """

    value: Expr
    place: Span
    kind: Literal["file", "--set"]
    changed: tuple[tuple[str, Span], ...] = ()


@record(frozen=False)
class RecipeLevel:
    """Settings of one recipe, or of the command line.

    ``complete`` is False if syntax errors may hide some; ``lost`` are settings whose absence a
    reported error explains.
    """

    whole: dict[str, SettingValue] = field(default_factory=dict)
    phases: dict[str, dict[str, SettingValue]] = field(default_factory=dict)
    phase_places: dict[str, Span] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    complete: bool = True


def find(stack: Sequence[RecipeLevel], phase: str | None, key: str) -> SettingValue | None:
    """Return the value of a setting for a phase (None: for the recipe), if a level has one."""
    for level in stack:
        if phase is not None and key in level.phases.get(phase, {}):
            return level.phases[phase][key]
        if key in level.whole:
            return level.whole[key]
    return None


class LevelReader:
    """Reads the levels of recipes, and reports what cannot be part of one."""

    def __init__(self, reporter: Reporter) -> None:
        self.error = reporter.error
        self.reporter = reporter

    def levels(self, declaration: Declaration, module: Module | None) -> list[RecipeLevel] | None:
        """Return the levels of a declaration, itself first; None if a base is missing (reported)."""
        stack: list[RecipeLevel] = []
        seen: list[Declaration] = []
        arguments: tuple[Arg, ...] = ()
        while True:
            if any(declaration is other for other in seen):
                names = " -> ".join(f"`{item.name}`" for item in [*seen, declaration])
                self.error(
                    "E0203",
                    f"recipes build on each other in a cycle: {names}",
                    seen[0].name_span,
                    label="needs itself",
                    labels=[Label(item.name_span, "through this recipe") for item in seen[1:]],
                )
                return None
            if len(seen) >= MAX_VARIANTS:
                message = f"more than {MAX_VARIANTS} recipes build on each other"
                self.error("E0901", message, seen[0].name_span)
                return None
            seen.append(declaration)
            bound = self._bind(declaration, arguments)
            if bound is None:
                return None
            level = self._level(declaration.body or (), bound)
            level.complete = module is None or module.complete
            stack.append(level)
            if declaration.value is None:
                return stack
            base = self._base(declaration.value, module)
            if base is None:
                return None
            value = declaration.value
            written = value.args if isinstance(value, Call) else ()
            arguments = tuple(replace(it, value=_substituted(it.value, bound)) for it in written)
            declaration, module = base.declaration, base.module

    def _base(self, value: Expr, module: Module | None) -> Resolved | None:
        """Return the recipe that another varies; None if there is none (reported)."""
        name = value.function if isinstance(value, Call) else value
        if not isinstance(name, Name):
            message = "a recipe varies another recipe, or has its settings in braces"
            self.error("E0810", message, value.span, label="not the name of a recipe")
            return None
        names = module.names if module is not None else {}
        if name.id not in names:
            if module is not None and module.excuses(name.id):
                return None
            recipes = [key for key in names if names[key].declaration.kind == "recipe"]
            near = nearest(name.id, recipes)
            places = [names[key].declaration.name_span for key in near]
            own = [at for at in places if at.source is name.span.source]
            self.error(
                "E0810",
                f"there is no recipe `{name.id}`",
                name.span,
                label="unknown recipe",
                labels=[Label(place, "declared here") for place in own],
                hint=meant(name.id, near),
            )
            return None
        target = names[name.id]
        if target.declaration.kind != "recipe":
            self.error(
                "E0810",
                f"`{name.id}` is a {target.declaration.kind}, not a recipe",
                name.span,
                label="a recipe can only vary a recipe",
                labels=[Label(target.declaration.name_span, "declared here")],
            )
            return None
        return target

    def _bind(self, declaration: Declaration, arguments: tuple[Arg, ...]) -> dict[str, Expr] | None:
        """Return the values of a recipe's parameters; None if some are wrong (reported)."""
        given: dict[str, Expr] = {}
        failed = False
        recipe = f"recipe `{declaration.name}`"
        names = [param.name for param in declaration.params]
        for number, item in enumerate(arguments):
            name = item.name or (names[number] if number < len(names) else None)
            if name is not None and name in names and name not in given:
                given[name] = item.value
                continue
            failed = True
            if name in given:
                message = f"parameter `{name}` is given twice"
                self.error("E0809", message, item.span, label="given again here")
            elif name:
                message, hint = f"{recipe} has no parameter `{name}`", did_you_mean(name, names)
                self.error("E0801", message, item.span, label="unknown parameter", hint=hint)
            else:
                message = f"{recipe} has only {len(names)} parameters"
                self.error("E0801", message, item.span, label="one too many")
        bound: dict[str, Expr] = {}
        for param in declaration.params:
            if param.name in given:
                bound[param.name] = given[param.name]
            elif param.default is not None:
                bound[param.name] = _substituted(param.default, bound)
            else:
                message = f"parameter `{param.name}` of {recipe} has no value"
                label = "give it a default, or a value in the variant"
                self.error("E0805", message, param.name_span, label=label)
                failed = True
        return None if failed else bound

    def _level(self, body: tuple[Stmt, ...], bound: Mapping[str, Expr]) -> RecipeLevel:
        level = RecipeLevel()
        self._settings(body, level.whole, None, level, bound)
        for group in body:
            if not isinstance(group, Group):
                continue
            name = group.name
            if group.kind != "phase" or name is None:
                self._wrong_group(group)
                if group.kind == "phase":
                    level.lost.add("phase")
                if name is None or not nearest(group.kind, ["phase"]):
                    continue
            if name in level.phases:
                self.error(
                    "E0809",
                    f"phase `{name}` is written twice",
                    group.name_span,
                    label="written again here",
                    labels=[Label(level.phase_places[name], "first here")],
                )
                continue
            level.phase_places[name] = group.name_span
            entries = level.phases[name] = {}
            self._settings(group.body, entries, name, level, bound)
            for inner in group.body:
                if isinstance(inner, Group):
                    message = "a phase cannot contain groups"
                    self.error("E0801", message, inner.span, label="not a setting")
        return level

    def _wrong_group(self, group: Group) -> None:
        kind = group.kind
        if kind == "phase":
            label = "phase NAME { ... }"
            self.error("E0805", "a phase needs a name", group.span, label=label)
            return
        hint = f"a setting is written `{kind} = ...`" if kind in SETTINGS else None
        self.error(
            "E0801",
            f"a recipe has no group `{kind}`",
            group.span,
            label="not a setting",
            hint=did_you_mean(kind, ["phase"]) or hint,
        )

    def _settings(
        self,
        body: tuple[Stmt, ...],
        entries: dict[str, SettingValue],
        phase: str | None,
        level: RecipeLevel,
        bound: Mapping[str, Expr],
    ) -> None:
        """Read the settings of a phase (None: of the recipe).

        A misspelt one counts as the one that was meant, so that nothing is reported as missing.
        """
        guessed: dict[str, SettingValue] = {}
        for statement in body:
            if isinstance(statement, Group):
                continue
            name = statement.name
            if not isinstance(statement, Define) or statement.index is not None:
                message = "a recipe has settings only, `name = value`"
                self.error("E0801", message, statement.span, label="not a setting")
                continue
            entry = SettingValue(_substituted(statement.value, bound), statement.name_span, "file")
            if not self._allowed(name, phase, statement.name_span):
                level.lost |= {"optimizer"} if name in _OF_OPTIMIZERS else set()
                guessed.update(dict.fromkeys(nearest(name, SETTINGS, words=True)[:1], entry))
            elif name in entries:
                self.error(
                    "E0809",
                    f"`{name}` is set twice",
                    statement.name_span,
                    label="set again here",
                    labels=[Label(entries[name].place, "first here")],
                )
            else:
                entries[name] = entry
        for name, entry in guessed.items():
            entries.setdefault(name, entry)

    def _allowed(self, key: str, phase: str | None, place: Span) -> bool:
        """True if a setting is allowed in a phase, or in the recipe itself (None)."""
        row = SETTINGS.get(key)
        if row is None:
            message, label = f"a recipe has no setting `{key}`", "unknown setting"
            hint = answer("recipe", key) or did_you_mean(key, SETTINGS)
            hint = hint or f"settings are: {', '.join(SETTINGS)}"
        elif phase is not None and row.scope == "recipe":
            message, label = f"`{key}` is a setting of the whole recipe", "not a setting of a phase"
            hint = "move it out of the phase"
        elif phase is None and row.scope == "phase only":
            message, label = (
                f"`{key}` is a setting of one phase",
                "not a setting of the whole recipe",
            )
            hint = "move it into a phase"
        else:
            return True
        self.error("E0801", message, place, label=label, hint=hint)
        return False

    # -- the command line -------------------------------------------------------------------------

    def overridden(
        self,
        overrides: Mapping[str, OverrideValue],
        phases: Sequence[str],
        stack: Sequence[RecipeLevel],
    ) -> RecipeLevel:
        """Return the level of the command line.

        Settings are applied before arguments, and those of all phases before those of one.
        """
        level = RecipeLevel(phases={name: {} for name in phases})
        targets = []
        for path, value in overrides.items():
            target = self._target(path, value, phases)
            if target is not None:
                targets.append((target, path, value))
        targets.sort(key=lambda item: (len(item[0].parts), item[0].phase is not None))
        for target, path, value in targets:
            expr = parse_override(path, value, self.reporter)
            if expr is None:
                continue
            key, *rest = target.parts
            if not rest:
                entries = level.whole if target.phase is None else level.phases[target.phase]
                entries[key] = SettingValue(expr, target.place, "--set")
                continue
            row = SETTINGS[key]
            for phase in phases if target.phase is None else (target.phase,):
                entry = find([level, *stack], phase, key)
                if entry is None and row.default is not None:
                    written = Name(row.default, span=target.place)
                    entry = SettingValue(written, target.place, "--set")
                if entry is not None:
                    level.phases[phase][key] = self._changed(entry, row.type, rest, expr, target)
        return level

    def _target(self, path: str, value: OverrideValue, phases: Sequence[str]) -> _Target | None:
        place = Span(override_source(path, value), 0, len(path))
        parts = path.split(".")
        if parts[0] == "recipe" and len(parts) > 1:
            del parts[0]
        phase = parts.pop(0) if len(parts) > 1 and parts[0] in phases else None
        key, label = parts[0], "unknown setting"
        if key not in SETTINGS:
            message = f"the recipe has no setting `{'.'.join(parts)}`"
            hint = answer("recipe", key) or did_you_mean(key, chain(SETTINGS, phases))
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
        return _Target(phase, tuple(parts), place)

    def _changed(
        self, entry: SettingValue, kind: object, parts: Sequence[str], value: Expr, target: _Target
    ) -> SettingValue:
        """Return an entry with an argument changed: of an item, or of one term of a sum."""
        *named, name = parts
        arg = Arg(name, value, span=value.span)
        if isinstance(kind, SumType):
            family, wanted = kind.family, named[0] if named else None
            found: list[str] = []

            def changed(expr: Expr) -> Expr:
                match expr:
                    case Binary(op, left, right):
                        return Binary(op, changed(left), changed(right), span=expr.span)
                    case Name(id) | Call(Name(id)) if id in ITEMS[family] and wanted in (None, id):
                        found.append(id)
                        return with_argument(expr, arg)
                return expr

            call = changed(entry.value)
            if len(found) != 1 and (found or wanted is not None):
                message = f"`{family}` has several terms"
                hint: str | None = f"name one: `{family}.{found[0]}.{name}`" if found else None
                if not found and wanted is not None:
                    message = f"`{family}` has no term `{wanted}`"
                    hint = did_you_mean(wanted, ITEMS[family])
                self.error("E0801", message, target.place, label="not one term", hint=hint)
            if len(found) != 1:
                return entry
        else:
            call = with_argument(entry.value, arg)
        if call is entry.value:
            return entry  # no item; its own error says so
        return replace(entry, value=call, changed=(*entry.changed, (name, target.place)))


@record
class _Target:
    """Path of a setting of the command line."""

    phase: str | None
    parts: tuple[str, ...]
    place: Span


def _substituted(expr: Expr, bound: Mapping[str, Expr]) -> Expr:
    """Return an expression with parameters replaced by their values."""
    if not bound:
        return expr
    return with_names(expr, lambda name: bound.get(name.id, name), functions=False)
