"""Every word that a highlighter knows, from the tables that give the words their meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.environment import CONSTANTS, MATH, SPECIAL, STANDING
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.dsl.loading import std_names
from danetc.dsl.neuron.functions import functions
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.settings import SETTINGS as RECIPE_SETTINGS
from danetc.dsl.syntax import words as in_place
from danetc.dsl.syntax.grammar import table
from danetc.dsl.syntax.tree import DECLARATION_KINDS
from danetc.reference import section

OPERATORS = ("and", "or", "not")
CONTEXTUAL = ("in", "state")
"""Words of the grammar that are names wherever they do not do their own work, as the kinds of
declarations are."""

Words = Mapping[str, tuple[str, ...]]


def words() -> Words:
    """The words by group, each word in the first group that has it, in the order of lexers.

    ============ ======================================================================
    declarations begin a declaration
    keywords     are reserved; ``operators`` are too
    contextual   do their work in one place and are names elsewhere
    constants    are values
    operations   operations of flows and functions of expressions and equations
    variables    are known in a body without a definition, or define what it gives
    settings     of networks and recipes, where no ``=`` follows that says so itself
    items        what settings of recipes take
    library      declarations of the standard library
    ============ ======================================================================
    """
    reserved = tuple(word for word in _words_of_grammar() if word not in CONTEXTUAL)
    groups: dict[str, Iterable[str]] = {
        "declarations": DECLARATION_KINDS,
        "keywords": (word for word in reserved if word not in OPERATORS),
        "operators": (word for word in reserved if word in OPERATORS),
        "contextual": CONTEXTUAL,
        "constants": CONSTANTS,
        "operations": {name for name, op in OPS.items() if op.public}
        | {*SPECIAL, *STANDING, *MATH, *functions()},
        "variables": (
            entry.name for entry in section("words") if entry.kind == "word" and len(entry.name) > 1
        ),
        "items": {name for items in ITEMS.values() for name in items},
        "library": std_names(),
        "settings": {*NETWORK_SETTINGS, *RECIPE_SETTINGS},
    }
    seen: set[str] = set()
    found: dict[str, tuple[str, ...]] = {}
    for group, names in groups.items():
        found[group] = tuple(sorted(set(names) - seen))
        if group != "contextual":  # `in` is a port too
            seen.update(found[group])
    return found


def words_in_place() -> Words:
    """The words that mean themselves as the value of a parameter, by the name of the parameter."""
    return {name: tuple(sorted(set(row))) for name, row in in_place.OF_PARAMETER.items()}


def _words_of_grammar() -> tuple[str, ...]:
    """The terminals of the grammar that are words, apart from the kinds of declarations."""
    found = []
    for name, pattern in table().terminals:
        word = pattern.removesuffix(r"(?!\w)")
        if name not in ("KIND", "NAME") and re.fullmatch("[a-z]+", word):
            found.append(word)
    return tuple(found)
