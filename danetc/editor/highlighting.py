"""Semantic tokens: what each word is, for colours that follow from its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from danetc.dsl.loading import is_library
from danetc.dsl.syntax.source import Span
from danetc.editor.analysis import Analysis
from danetc.editor.meaning import Occurrence

TYPES = (
    "class", "interface", "struct", "namespace", "function", "parameter", "variable", "property",
    "enumMember", "keyword", "number", "string", "comment", "operator",
)  # fmt: skip
"""The types of tokens, by names of the Language Server Protocol."""
MODIFIERS = ("declaration", "defaultLibrary", "readonly")

_OF_MEANING = {
    "network": "class", "backbone": "class", "block": "class", "connection": "interface",
    "rule": "interface", "neuron": "struct", "surrogate": "struct", "recipe": "namespace",
    "library": "namespace", "parameter": "parameter", "argument": "parameter", "line": "variable",
    "variable": "variable", "word": "variable", "state": "property", "setting": "property",
    "network setting": "property", "phase": "property", "operation": "function",
    "function": "function", "neuron function": "function", "item": "function",
    "first weights": "function", "choice": "enumMember",
}  # fmt: skip
_OF_TOKEN = {
    "USE": "keyword", "VIA": "keyword", "BY": "keyword", "WITH": "keyword", "IF": "keyword",
    "ELSE": "keyword", "FOR": "keyword", "AND": "keyword", "OR": "keyword", "NOT": "keyword",
    "KIND": "keyword", "STATE": "keyword", "IN": "keyword", "NUMBER": "number",
    "STRING": "string", "ARROW": "operator", "RANGE": "operator", "CMP": "operator",
}  # fmt: skip
_OWN = frozenset({"parameter", "line", "variable", "state", "phase"})


@dataclass(frozen=True)
class SemanticToken:
    """A word with its type and modifiers, which are names of TYPES and MODIFIERS."""

    span: Span
    type: str
    modifiers: tuple[str, ...] = ()


def semantic_tokens(analysis: Analysis) -> tuple[SemanticToken, ...]:
    """The tokens of a file in order, none over a line end."""
    named = (
        {}
        if analysis.meanings is None
        else {(one.span.start, one.span.end): one for one in analysis.meanings.occurrences}
    )
    found = [SemanticToken(comment.span, "comment") for comment in analysis.scanned.comments]
    for token in analysis.scanned.tokens:
        span = Span(analysis.source, token.start, token.end)
        one = named.get((token.start, token.end))
        if one is not None:
            found.append(SemanticToken(span, _OF_MEANING[one.meaning.kind], tuple(_modifiers(one))))
        elif token.type in _OF_TOKEN and span.text == token.text:
            found.append(SemanticToken(span, _OF_TOKEN[token.type]))
    return tuple(sorted(found, key=lambda token: token.span.start))


def _modifiers(one: Occurrence) -> Iterator[str]:
    meaning = one.meaning
    if one.defines:
        yield "declaration"
    own = meaning.kind in _OWN or meaning.place is not None
    if not own or (meaning.place is not None and is_library(meaning.place.source)):
        yield "defaultLibrary"
    if meaning.kind == "word":
        yield "readonly"
