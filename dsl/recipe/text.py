"""Settings of recipes as text and back, for the records of trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Reported, Reporter
from danetc.dsl.recipe.item import RESERVED, plain
from danetc.dsl.recipe.items import item_spec
from danetc.dsl.recipe.levels import SettingValue
from danetc.dsl.recipe.schema import ChangeType, FlowType, ItemType, SumType, Type, WordType
from danetc.dsl.recipe.scope import Scope
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.syntax.overrides import override_source, parse_override
from danetc.dsl.syntax.source import Span


def write_setting(key: str, value: object) -> str:
    """Return a value of the setting ``key``, or its JSON form, as a recipe writes it, in full."""
    return written(plain(value), SETTINGS[key].type)


def read_setting(key: str, text: str, where: str) -> Any:
    """Return the value that ``text`` gives to the setting ``key``; errors are at ``where``.

    Raises SpecError.
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


def written(value: Any, kind: Type | None = None) -> str:
    """Return a value, or the JSON form of a value of a type, as in a spec."""
    if value is None:
        return "none"
    match kind:
        case ItemType(family):
            return _item(value, family)
        case SumType(family):
            terms = [("" if it["factor"] == 1 else f"{it['factor']!r} * ", it) for it in value]
            return " + ".join(factor + _item(it, family) for factor, it in terms)
        case ChangeType(family):
            changes = ((*it["path"].split(".", 1), _item(it, family)) for it in value)
            return " + ".join(f"{part}({name} = {item})" for part, name, item in changes) or "none"
        case FlowType(family):
            return " -> ".join(_item(item, family) for item in value) or "none"
        case WordType.PATH | WordType.LAYERS | WordType.FUNCTION:
            return f'"{value}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value).removesuffix(".0")


def _item(item: Mapping[str, Any], family: str) -> str:
    """Return the text of an item, without the names that are not set."""
    spec = item_spec(family, item["name"])
    assert spec is not None
    types = {row.name: row.type for row in spec.arguments}
    unnamed, named = [], []
    for key, value in item.items():
        if spec.many is not None and key == spec.many.name:
            unnamed += [written(each) for each in value]
        elif key not in types and (not spec.others or key in RESERVED):
            continue  # the factor of a term, or the path of a change
        elif value != "":
            named.append(f"{key} = {written(value, types.get(key))}")
    given = ", ".join([*unnamed, *named])
    return f"{item['name']}({given})" if given else str(item["name"])
