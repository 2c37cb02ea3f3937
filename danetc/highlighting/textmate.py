"""The TextMate grammar (VS Code and others), made of the words."""

from __future__ import annotations

import re

from danetc.dsl.syntax.grammar import table
from danetc.highlighting.words import Words

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
            r"\b(use)\s+(std)\b", "keyword.control.import.danet", "entity.name.namespace.danet"
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
    patterns += [_words(groups[group], _SCOPES[group]) for group in before]
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
    patterns += [_words(groups[group], _SCOPES[group]) for group in _SCOPES if group not in before]
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


def _words(names: tuple[str, ...], scope: str) -> dict[str, object]:
    return {"name": scope, "match": rf"\b({'|'.join(names)})\b"}


def _captured(pattern: str, *scopes: str) -> dict[str, object]:
    captures = {str(i): {"name": scope} for i, scope in enumerate(scopes, 1)}
    return {"match": pattern, "captures": captures}
