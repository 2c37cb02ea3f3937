"""The highlight queries of the tree-sitter grammar, made of the words."""

from __future__ import annotations

import re

from danetc.dsl.syntax.grammar import table
from danetc.highlighting.words import Words

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
; Written by `python -m danetc.highlighting` from the tables of the compiler.

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
