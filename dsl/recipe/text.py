"""A setting of a recipe as text and back: what the record of a training keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Reported, Reporter
from danetc.dsl.recipe.item import plain
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.levels import SettingValue
from danetc.dsl.recipe.scope import Scope
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.recipe.value_types import (
    ChangeType,
    FlowType,
    FunctionType,
    ItemType,
    PathType,
    SumType,
    Type,
)
from danetc.dsl.syntax.overrides import override_source, parse_override
from danetc.dsl.syntax.source import Span


def write_setting(key: str, value: object) -> str:
    """A value of the setting ``key`` (or its JSON form) as a recipe writes it, every digit of it."""
    return _written(plain(value), SETTINGS[key].type)


def read_setting(key: str, text: str, where: str) -> Any:
    """The value that ``text`` gives to the setting ``key``. ``where`` is the place that an error
    names. Raises SpecError.
    """
    reporter = Reporter()
    expr = parse_override(key, text, reporter, where)
    reporter.raise_if_errors()
    assert expr is not None
    place = Span(override_source(key, text, where), 0, len(key))
    scope = Scope("the recipe", place, {key: SettingValue(expr, place, "--set")}, reporter)
    try:
        return scope.value(key)
    except Reported:
        reporter.raise_if_errors()
        raise


def _written(value: Any, kind: Type | None = None) -> str:
    match kind:
        case ItemType(family):
            return _item(value, family)
        case SumType(family):
            return " + ".join(_term(item, family) for item in value)
        case ChangeType(family):
            return " + ".join(_change(item, family) for item in value) or "none"
        case FlowType(family):
            return " -> ".join(_item(item, family) for item in value) or "none"
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
    return str(value) if isinstance(value, str) else repr(value)


def _term(term: Mapping[str, Any], family: str) -> str:
    item = _item({key: value for key, value in term.items() if key != "factor"}, family)
    return item if term["factor"] == 1 else f"{term['factor']!r} * {item}"


def _change(change: Mapping[str, Any], family: str) -> str:
    part, _, name = change["path"].partition(".")
    item = _item({key: value for key, value in change.items() if key != "path"}, family)
    return f"{part}({name} = {item})"


def _item(item: Mapping[str, Any], family: str) -> str:
    """An item as it is written; names that are not set are left out."""
    spec = ITEMS[family][item["name"]]
    many, texts = spec.many, PathType | FunctionType
    quoted = {row.name for row in spec.arguments if isinstance(row.type, texts)}
    unnamed, named = [], []
    for key, value in item.items():
        if many is not None and key == many.name:
            unnamed += [_written(each) for each in value]
        elif key != "name" and value != "":
            named.append(f"{key} = " + (f'"{value}"' if key in quoted else _written(value)))
    given = ", ".join([*unnamed, *named])
    return f"{item['name']}({given})" if given else str(item["name"])
