"""Completion in recipes: what a setting may be, and the arguments of its items."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.settings import SETTINGS as RECIPE_SETTINGS
from danetc.dsl.recipe.value_types import (
    BoolType,
    ChangeType,
    ChoiceType,
    FloatType,
    FlowType,
    IntType,
    ItemType,
    PhaseType,
    SumType,
    Type,
)
from danetc.editor.cursor import Cursor, argument_name, line_of, phases_before
from danetc.editor.meaning import Meaning, changed_part
from danetc.editor.meanings import argument_of
from danetc.editor.proposals import Proposal, argument, named


def setting_values(cursor: Cursor, line: str) -> Iterator[Proposal]:
    """What the setting of a line may be."""
    row = RECIPE_SETTINGS.get(line)
    if row is None:
        return
    yield from _of_type(cursor, row.type)
    if (row.default is None and not row.required) or isinstance(row.type, FlowType):
        yield named(cursor, Meaning("word", "none"))


def _of_type(cursor: Cursor, kind: Type) -> Iterator[Proposal]:
    """The names that a value of a type may be."""
    match kind:
        case BoolType():
            for name in ("true", "false"):
                yield named(cursor, Meaning("word", name))
        case ChoiceType(words):
            for name in words:
                yield named(cursor, Meaning("choice", name))
        case ItemType(family) | FlowType(family) | SumType(family):
            yield from _items(cursor, family)
        case ChangeType(_, parts):
            for name in parts:
                yield named(cursor, changed_part(name))
        case PhaseType():
            for name in phases_before(cursor):
                yield named(cursor, Meaning("phase", name))
        case IntType() | FloatType():
            for key, row in RECIPE_SETTINGS.items():
                if isinstance(row.type, IntType | FloatType):
                    yield named(cursor, Meaning("setting", key))
        case _:
            return


def _items(cursor: Cursor, family: str) -> Iterator[Proposal]:
    for name in ITEMS[family]:
        yield named(cursor, Meaning("item", name, owner=family))


def takes_items(cursor: Cursor, target: Meaning | None) -> bool:
    """Whether the call around the cursor is of an item, or changes a setting by one."""
    if target is not None:
        return target.owner in ITEMS
    setting = RECIPE_SETTINGS.get(line_of(cursor)[0])
    return setting is not None and isinstance(setting.type, ChangeType)


def item_arguments(cursor: Cursor, opening: int, target: Meaning | None) -> Iterator[Proposal]:
    """The arguments of an optimizer, a loss and their like, or of what a setting changes."""
    name = argument_name(cursor, opening)
    if target is None:
        kind = RECIPE_SETTINGS[line_of(cursor)[0]].type
        if name is not None and isinstance(kind, ChangeType):
            yield from _items(cursor, kind.family)
        return
    item = ITEMS[target.owner][target.name]
    if name is None and cursor.last is not None and cursor.last.type in ("LPAR", "COMMA"):
        for row in item.arguments:
            yield argument(cursor, row.name, target.name)
    wanted = argument_of(item, name)
    if wanted is not None:
        yield from _of_type(cursor, wanted.type)
