"""The settings of a recipe level by level: the recipe, the recipe it varies, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

from danetc.dsl.diagnostics.diagnostic import Label, Reporter, did_you_mean, meant
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.modules import Module
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Arg, Call, Declaration, Define, Expr, Group, Name, Stmt

Node = TypeVar("Node")
MAX_VARIANTS = 100
_OF_OPTIMIZERS = frozenset(
    row.name for item in ITEMS["optimizer"].values() for row in item.arguments
)


@record
class SettingValue:
    """A setting as it is written: its value and the place of its name."""

    value: Expr
    place: Span
    kind: Literal["file", "--set"]
    changed: tuple[tuple[str, Span], ...] = ()  # arguments of the value that --set has changed


@record(frozen=False)
class RecipeLevel:
    """The settings of one recipe, or of the command line.

    ``complete`` is False where its file has syntax errors, which may have lost some; ``lost`` are
    settings that an error, already reported, explains the lack of.
    """

    whole: dict[str, SettingValue] = field(default_factory=dict)
    phases: dict[str, dict[str, SettingValue]] = field(default_factory=dict)
    phase_places: dict[str, Span] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    complete: bool = True


def find(stack: Sequence[RecipeLevel], phase: str | None, key: str) -> SettingValue | None:
    """What holds for a phase (None: for the recipe), or None where no level names it."""
    for level in stack:
        if phase is not None and key in level.phases.get(phase, {}):
            return level.phases[phase][key]
        if key in level.whole:
            return level.whole[key]
    return None


def phase_places(stack: Sequence[RecipeLevel]) -> dict[str, Span]:
    """The phases in order, those of the recipe that is varied first."""
    places: dict[str, Span] = {}
    for level in reversed(stack):
        places.update(level.phase_places)
    return places


def levels(
    declaration: Declaration, module: Module | None, reporter: Reporter
) -> list[RecipeLevel] | None:
    """The levels of a declaration, itself first; None where a base is missing (reported)."""
    stack: list[RecipeLevel] = []
    seen: list[Declaration] = []
    arguments: tuple[Arg, ...] = ()
    while True:
        if any(declaration is other for other in seen):
            names = " -> ".join(f"`{item.name}`" for item in [*seen, declaration])
            reporter.error(
                "E0203",
                f"recipes build on each other in a circle: {names}",
                seen[0].name_span,
                label="needs itself",
                labels=[Label(item.name_span, "through this recipe") for item in seen[1:]],
            )
            return None
        if len(seen) >= MAX_VARIANTS:
            reporter.error(
                "E0901",
                f"more than {MAX_VARIANTS} recipes build on each other",
                seen[0].name_span,
            )
            return None
        seen.append(declaration)
        bound = _bind(declaration, arguments, reporter)
        if bound is None:
            return None
        level = _level(declaration.body or (), bound, reporter)
        level.complete = module is None or module.complete
        stack.append(level)
        if declaration.value is None:
            return stack
        base = _base(declaration.value, module, reporter)
        if base is None:
            return None
        name, call_arguments = base
        assert module is not None
        arguments = tuple(
            replace(item, value=_substitute(item.value, bound)) for item in call_arguments
        )
        found = module.names[name.id]
        declaration, module = found.declaration, found.module


def _base(
    value: Expr, module: Module | None, reporter: Reporter
) -> tuple[Name, tuple[Arg, ...]] | None:
    match value:
        case Name():
            name, arguments = value, tuple[Arg, ...]()
        case Call(function=Name() as name, args=arguments):
            pass
        case _:
            reporter.error(
                "E0810",
                "a recipe varies another recipe, or has its settings in braces",
                value.span,
                label="not the name of a recipe",
            )
            return None
    names = module.names if module is not None else {}
    if name.id not in names:
        if module is None or not module.excuses(name.id):
            recipes = [key for key in names if names[key].declaration.kind == "recipe"]
            near = nearest(name.id, recipes)
            places = [names[key].declaration.name_span for key in near]
            reporter.error(
                "E0810",
                f"there is no recipe `{name.id}`",
                name.span,
                label="unknown recipe",
                labels=[
                    Label(place, "declared here")
                    for place in places
                    if place.source is name.span.source
                ],
                hint=meant(name.id, near),
            )
        return None
    target = names[name.id].declaration
    if target.kind != "recipe":
        reporter.error(
            "E0810",
            f"`{name.id}` is a {target.kind}, not a recipe",
            name.span,
            label="a recipe can only vary a recipe",
            labels=[Label(target.name_span, "declared here")],
        )
        return None
    return name, arguments


def _bind(
    declaration: Declaration, arguments: tuple[Arg, ...], reporter: Reporter
) -> dict[str, Expr] | None:
    """The parameters of a recipe and what each stands for."""
    given: dict[str, Expr] = {}
    failed = False
    names = [param.name for param in declaration.params]
    for number, item in enumerate(arguments):
        name = item.name or (names[number] if number < len(names) else None)
        if name is None or name not in names:
            reporter.error(
                "E0801",
                f"recipe `{declaration.name}` has no parameter `{name}`"
                if name
                else f"recipe `{declaration.name}` has only {len(names)} parameters",
                item.span,
                label="unknown parameter" if name else "one too many",
                hint=did_you_mean(name or "", names),
            )
            failed = True
        elif name in given:
            reporter.error(
                "E0809", f"parameter `{name}` is given twice", item.span, label="given again here"
            )
            failed = True
        else:
            given[name] = item.value
    bound: dict[str, Expr] = {}
    for param in declaration.params:
        value = given.get(param.name, param.default)
        if value is None:
            reporter.error(
                "E0805",
                f"parameter `{param.name}` of recipe `{declaration.name}` has no value",
                param.name_span,
                label="give it a default, or a value where the recipe is varied",
            )
            failed = True
        else:
            bound[param.name] = _substitute(value, bound) if param.name not in given else value
    return None if failed else bound


def _level(body: tuple[Stmt, ...], bound: Mapping[str, Expr], reporter: Reporter) -> RecipeLevel:
    level = RecipeLevel()
    _settings(body, level.whole, None, level, bound, reporter)
    for statement in body:
        if not isinstance(statement, Group):
            continue
        name = _phase_name(statement, level, reporter)
        if name is None:
            continue
        if name in level.phases:
            reporter.error(
                "E0809",
                f"phase `{name}` is written twice",
                statement.name_span,
                label="written again here",
                labels=[Label(level.phase_places[name], "first here")],
            )
            continue
        level.phase_places[name] = statement.name_span
        entries = level.phases[name] = {}
        _settings(statement.body, entries, name, level, bound, reporter)
        for inner in statement.body:
            if isinstance(inner, Group):
                _wrong_group(inner, reporter, inside=True)
    return level


def _phase_name(group: Group, level: RecipeLevel, reporter: Reporter) -> str | None:
    """The name of a phase; of a group with another word (reported) where `phase` was meant."""
    if group.kind == "phase" and group.name is not None:
        return group.name
    _wrong_group(group, reporter)
    if group.kind == "phase":
        level.lost.add("phase")
    return group.name if nearest(group.kind, ["phase"]) else None


def _wrong_group(group: Group, reporter: Reporter, inside: bool = False) -> None:
    if group.kind == "phase" and not inside:
        reporter.error("E0805", "a phase needs a name", group.span, label="phase NAME { ... }")
        return
    reporter.error(
        "E0801",
        "a phase holds no groups" if inside else f"a recipe has no group `{group.kind}`",
        group.span,
        label="not a setting",
        hint=None if inside else did_you_mean(group.kind, ["phase"]) or _written_as(group.kind),
    )


def _written_as(key: str) -> str | None:
    return f"a setting is written `{key} = ...`" if key in SETTINGS else None


def _settings(
    body: tuple[Stmt, ...],
    entries: dict[str, SettingValue],
    phase: str | None,
    level: RecipeLevel,
    bound: Mapping[str, Expr],
    reporter: Reporter,
) -> None:
    """The settings of a phase (None: of the recipe). A misspelt one counts as the one that was meant,
    so that nothing is reported as missing."""
    guessed: dict[str, SettingValue] = {}
    for statement in body:
        if isinstance(statement, Group):
            continue
        name = statement.name
        if not isinstance(statement, Define) or statement.index is not None:
            reporter.error(
                "E0801",
                "a recipe has settings only, `name = value`",
                statement.span,
                label="not a setting",
            )
            continue
        entry = SettingValue(_substitute(statement.value, bound), statement.name_span, "file")
        if not allowed(name, phase, statement.name_span, reporter):
            level.lost |= {"optimizer"} if name in _OF_OPTIMIZERS else set()
            guessed.update(dict.fromkeys(nearest(name, SETTINGS, words=True)[:1], entry))
        elif name in entries:
            reporter.error(
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


def allowed(key: str, phase: str | None, place: Span, reporter: Reporter) -> bool:
    """Whether a setting may stand in a phase, or in the recipe itself (None)."""
    row = SETTINGS.get(key)
    if row is None:
        reporter.error(
            "E0801",
            f"a recipe has no setting `{key}`",
            place,
            label="unknown setting",
            hint=answer("recipe", key)
            or did_you_mean(key, SETTINGS)
            or f"settings are: {', '.join(SETTINGS)}",
        )
    elif phase is not None and row.scope == "recipe":
        reporter.error(
            "E0801",
            f"`{key}` is a setting of the whole recipe",
            place,
            label="not a setting of a phase",
            hint="move it out of the phase",
        )
    elif phase is None and row.scope == "phase only":
        reporter.error(
            "E0801",
            f"`{key}` is a setting of one phase",
            place,
            label="not a setting of the whole recipe",
            hint="move it into the phase that it is meant for",
        )
    else:
        return True
    return False


def _substitute(node: Node, bound: Mapping[str, Expr]) -> Node:
    """A copy with parameters replaced by what they stand for. What is called stays."""
    if not bound or not is_dataclass(node) or isinstance(node, type | Span):
        return node
    if isinstance(node, Name):
        return bound.get(node.id, node)  # type: ignore[return-value]
    changed: dict[str, Any] = {}
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(node, Call) and item.name == "function" and isinstance(value, Name):
            continue
        if isinstance(value, tuple):
            changed[item.name] = tuple(_substitute(child, bound) for child in value)
        elif is_dataclass(value) and not isinstance(value, Span):
            changed[item.name] = _substitute(value, bound)
    return replace(node, **changed)  # type: ignore[type-var]
