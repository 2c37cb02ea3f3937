"""Words of the language, and the grammars of editors that are generated from them.

Run ``python -m editors.highlighting`` after a change of the tables of words. It writes
``danetc/highlighting/words.json``, which the Pygments lexer reads, and the grammars in this folder;
tests compare them with the tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.environment import CONSTANTS, DEFAULT_LAYERS, MATH, SPECIAL
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.dsl.loading import standard
from danetc.dsl.neuron.opcodes import functions
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
        | {*SPECIAL, *DEFAULT_LAYERS, *MATH, *functions()},
        "variables": (
            entry.name for entry in section("words") if entry.kind == "word" and len(entry.name) > 1
        ),
        "items": {name for items in ITEMS.values() for name in items},
        "library": standard(),
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


_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_SCOPES = {
    "operators": "keyword.operator.word.danet",
    "keywords": "keyword.control.danet",
    "constants": "constant.language.danet",
    "variables": "variable.language.danet",
    "operations": "support.function.danet",
    "items": "support.function.recipe.danet",
    "library": "support.class.danet",
    "settings": "variable.other.property.danet",
}
"""Scopes of words that need no context, in the order in which they are tried."""


def textmate(groups: Words, in_place: Words) -> dict[str, object]:
    """The grammar, to be written as JSON."""
    kinds = "|".join(groups["declarations"])
    terminals = dict(table().terminals)
    patterns: list[dict[str, object]] = [
        {"name": "comment.line.number-sign.danet", "match": "#.*$"},
        {"name": "string.quoted.double.danet", "match": terminals["STRING"].replace("\n", r"\n")},
        {"name": "constant.numeric.danet", "match": rf"\b{terminals['NUMBER']}"},
        _captured(
            rf"\b({kinds})\s+({_NAME})(?=\s*(?:[({{=]|$))",
            "keyword.declaration.danet",
            "entity.name.type.danet",
        ),
        _captured(
            r"\b(use)\s+(std|zoo\.\w+)\b",
            "keyword.control.import.danet",
            "entity.name.namespace.danet",
        ),
        _captured(rf"\b(state)\s+(?={_NAME}\s*=)", "keyword.declaration.danet"),
        _captured(
            rf"\b(for)\s+({_NAME})\s+(in)\b",
            "keyword.control.danet",
            "variable.other.danet",
            "keyword.control.danet",
        ),
    ]
    before = ("operators", "keywords")
    patterns += [_pattern_of(groups[group], _SCOPES[group]) for group in before]
    patterns.append(
        _captured(
            rf"\b({_NAME})\s+({_NAME})(?=\s*\{{)",
            "keyword.declaration.danet",
            "entity.name.section.danet",
        )
    )
    patterns += [
        _captured(
            rf"\b({parameter})\s*(=)\s*({'|'.join(values)})\b(?!\s*\()",
            "variable.parameter.danet",
            "keyword.operator.assignment.danet",
            "constant.other.danet",
        )
        for parameter, values in in_place.items()
    ]
    patterns.append(
        _captured(
            rf"\b({_NAME})\s*(=)(?!=)",
            "variable.other.property.danet",
            "keyword.operator.assignment.danet",
        )
    )
    patterns += [
        _pattern_of(groups[group], _SCOPES[group]) for group in _SCOPES if group not in before
    ]
    patterns += [
        {"name": "keyword.operator.flow.danet", "match": "->"},
        {"name": "keyword.operator.range.danet", "match": re.escape("..")},
        {"name": "keyword.operator.comparison.danet", "match": terminals["CMP"]},
        {"name": "keyword.operator.assignment.danet", "match": "="},
        {"name": "keyword.operator.arithmetic.danet", "match": "[-+*/]"},
        {"name": "variable.other.danet", "match": rf"\b{_NAME}\b"},
        {"name": "punctuation.danet", "match": r"[(){}\[\],;]"},
    ]
    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "danet",
        "scopeName": "source.danet",
        "fileTypes": ["danet"],
        "patterns": patterns,
    }


def _pattern_of(names: tuple[str, ...], scope: str) -> dict[str, object]:
    return {"name": scope, "match": rf"\b({'|'.join(names)})\b"}


def _captured(pattern: str, *scopes: str) -> dict[str, object]:
    captures = {str(i): {"name": scope} for i, scope in enumerate(scopes, 1)}
    return {"match": pattern, "captures": captures}


_WIDTH = 96
_CAPTURES = {
    "constants": "constant.builtin",
    "variables": "variable.builtin",
    "operations": "function.builtin",
    "items": "function.builtin",
    "library": "type.builtin",
    "settings": "property",
}
_HEAD = """\
; Written by `python -m editors.highlighting` from the tables of the compiler.

(comment) @comment
(string) @string
(number) @number
(kind) @keyword
(declaration name: (identifier) @type)
(parameter name: (identifier) @variable.parameter)
(setting name: (identifier) @variable.parameter)
(definition name: (identifier) @property)
(state "state" @keyword)
(state name: (identifier) @variable)
(each "in" @keyword)
(each variable: (identifier) @variable)
(group kind: (identifier) @keyword)
(call function: (identifier) @function)
(via connection: (identifier) @type)
(by rule: (identifier) @type)
"""


def highlights(groups: Words, in_place: Words) -> str:
    """The text of ``queries/highlights.scm``."""
    parts = [
        _HEAD,
        _tokens(groups["keywords"], "keyword"),
        _tokens(groups["operators"], "keyword.operator"),
        _tokens(_signs(brackets=False), "operator"),
        _tokens(_signs(brackets=True), "punctuation.bracket"),
    ]
    for group, capture in _CAPTURES.items():
        parts.append(
            f"((identifier) @{capture}\n  (#any-of? @{capture}\n{_quoted(groups[group])}))\n"
        )
    for parameter, values in in_place.items():
        parts.append(
            f'(setting name: (identifier) @_name value: (identifier) @constant\n  (#eq? @_name "{parameter}")\n'
            f"  (#any-of? @constant\n{_quoted(values)}))\n"
        )
    return "\n".join(parts)


def _tokens(words: tuple[str, ...], capture: str) -> str:
    return f"[\n{_quoted(words)}\n] @{capture}\n"


def _signs(*, brackets: bool) -> tuple[str, ...]:
    """The signs of the grammar, brackets or all others but those that part."""
    found = []
    for name, pattern in table().terminals:
        if name == "CMP":
            found += pattern.removeprefix("(?:").removesuffix(")").split("|")
        elif re.fullmatch(r"(\\?[^\w\s\\])+", pattern) and name not in ("COMMA", "SEMICOLON"):
            found.append(pattern.replace("\\", ""))
    return tuple(sign for sign in found if (sign in "(){}[]") == brackets)


def _quoted(words: tuple[str, ...]) -> str:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > _WIDTH:
            lines.append("")
        lines[-1] += f' "{word}"'
    return "\n".join(f"   {line}" for line in lines)


ROOT = Path(__file__).parents[1]


def written() -> Mapping[str, str]:
    """The text of each file."""
    groups, in_place = words(), words_in_place()
    return {
        "danetc/highlighting/words.json": _json({"groups": groups, "in_place": in_place}),
        "editors/vscode/syntaxes/danet.tmLanguage.json": _json(textmate(groups, in_place)),
        "editors/tree-sitter-danet/queries/highlights.scm": highlights(groups, in_place),
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


if __name__ == "__main__":
    for place, text in written().items():
        (ROOT / place).write_text(text, encoding="utf-8", newline="\n")
