"""Entries of recipes: settings and their items (optimizers, losses, ...)."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.schema import (
    Argument,
    ChoiceType,
    FloatType,
    IntType,
    ItemSpec,
    Setting,
    Type,
    describe,
    describe_range,
)
from danetc.dsl.recipe.settings import SETTINGS
from danetc.reference import examples
from danetc.reference.entry import Entry, EntryParameter, call, sentence, value_text

PLACES = {
    "phase": "Set in a recipe, for all its phases, or in a phase.",
    "recipe": "Set in a recipe, not in a phase.",
    "phase only": "Set in a phase.",
}


def settings() -> Iterator[Entry]:
    """Yield the settings of a recipe."""
    for row in SETTINGS.values():
        yield setting(row)


def setting(row: Setting) -> Entry:
    """Return the entry of a setting, whose only parameter is its value."""
    default = None if row.required else row.default or "none"
    value = EntryParameter(row.key, takes(row.type), default, row.meaning)
    return Entry(
        row.key,
        "setting",
        f"{row.key} = ...",
        sentence(row.meaning),
        (value,),
        PLACES[row.scope],
        _recipe_with(row),
    )


def _recipe_with(row: Setting) -> str:
    """Return a recipe that sets a setting."""
    shown = row.example or row.default
    if row.scope != "phase only":
        return examples.recipe([f"{row.key} = {shown}"])
    return (
        "recipe example {\n"
        "  optimizer = adamw(lr = 0.01)\n"
        "  phase first {\n    epochs = 10\n  }\n"
        f"  phase second {{\n    epochs = 2\n    {row.key} = {shown}\n  }}\n"
        "}\n"
    )


def takes(kind: Type) -> str:
    """Return the text for a type, with its bounds."""
    if isinstance(kind, IntType | FloatType):
        return f"{describe(kind)} {describe_range(kind)}"
    return describe(kind)


def items() -> Iterator[Entry]:
    """Yield optimizers, schedules, losses, gradient methods and augmentations."""
    seen: dict[int, tuple[str, ItemSpec]] = {}
    for family, rows in ITEMS.items():
        for row in rows.values():
            seen.setdefault(
                id(row), (family, row)
            )  # steps of `evaluate` are steps of `augment` too
    for family, row in seen.values():
        yield item(family, row)


def item(family: str, row: ItemSpec) -> Entry:
    """Return the entry of an item of a family."""
    arguments = [_argument(argument) for argument in row.arguments]
    shown = [argument.usage for argument in arguments]
    if row.many is not None:
        arguments.insert(0, _argument(row.many))
        shown.insert(0, f"{row.many.name}, ...")
    families = [name for name, rows in ITEMS.items() if rows.get(row.name) is row]
    text = f"A value of {' and of '.join(f'`{name}`' for name in families)} in a recipe."
    return Entry(
        row.name,
        family,
        call(row.name, shown),
        sentence(row.meaning),
        tuple(arguments),
        text,
        examples.recipe([f"{name} = {row.example or row.name}" for name in families]),
    )


def _argument(row: Argument) -> EntryParameter:
    default = None if row.default is None else value_text(row.default)
    kind = takes(row.type)
    if isinstance(row.type, ChoiceType):
        default = None if row.default is None else str(row.default)
    return EntryParameter(row.name, kind, default, row.meaning)
