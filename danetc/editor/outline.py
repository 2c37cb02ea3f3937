"""The outline of a file, its foldable ranges, and its semantic tokens.

The outline also lists declarations with syntax errors, by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from danetc.dsl.loading import is_library
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.brackets import pair
from danetc.dsl.syntax.source import Span, shorten
from danetc.editor.analysis import Analysis
from danetc.editor.meanings import Occurrence


@dataclass(frozen=True)
class OutlineSymbol:
    """A named item of the outline.

    ``kind`` is that of a declaration, ``parameter``, ``line``, ``state``, ``phase`` or the word of
    another group. ``span`` covers all of it.
    """

    name: str
    kind: str
    detail: str
    span: Span
    name_span: Span
    children: tuple[OutlineSymbol, ...] = ()


@dataclass(frozen=True)
class Fold:
    """Foldable lines, from the line of offset ``start`` to that of ``end``.

    ``kind`` is ``comment``, ``imports`` or ``region``.
    """

    start: int
    end: int
    kind: str


def symbols(analysis: Analysis) -> tuple[OutlineSymbol, ...]:
    """Return the declarations of a file in order, with their parameters and lines."""
    program = analysis.program
    lost = [item for item in program.lost if item.kind]
    found = [_declared(item, program) for item in program.declarations if item.name_span.text]
    inside = [item.span for item in found]
    found += [
        OutlineSymbol(item.name, item.kind, item.kind, item.span, item.name_span)
        for item in lost
        if not any(span.start <= item.span.start < span.end for span in inside)
    ]
    return tuple(sorted(found, key=lambda item: item.span.start))


def _declared(item: s.Declaration, program: s.Program) -> OutlineSymbol:
    children = [
        OutlineSymbol(
            param.name,
            "parameter",
            "" if param.default is None else f"= {shorten(param.default.span.text)}",
            param.span,
            param.name_span,
        )
        for param in item.params
    ]
    children += _lines(item.body or ())
    children += [
        OutlineSymbol(each.name, "line", "", each.span, each.name_span)
        for each in program.lost
        if not each.kind and item.span.start < each.span.start < item.span.end
    ]
    children.sort(key=lambda child: child.span.start)
    variant = item.value is not None and item.body is not None
    base = f" = {shorten(item.value.span.text)}" if variant and item.value is not None else ""
    return OutlineSymbol(
        item.name, item.kind, item.kind + base, item.span, item.name_span, tuple(children)
    )


def _lines(body: tuple[s.Stmt, ...]) -> Iterator[OutlineSymbol]:
    for item in body:
        match item:
            case s.Define(name, index, value):
                shown = name if index is None else f"{name}[{shorten(index.span.text)}]"
                yield OutlineSymbol(
                    shown, "line", shorten(value.span.text), item.span, item.name_span
                )
            case s.State(name, value):
                yield OutlineSymbol(
                    name, "state", shorten(value.span.text), item.span, item.name_span
                )
            case s.Group(kind, name, inner):
                yield OutlineSymbol(
                    name or kind, kind, kind, item.span, item.name_span, tuple(_lines(inner))
                )


def folds(analysis: Analysis) -> tuple[Fold, ...]:
    """Return the ranges of bodies, calls, flows, comments and `use` lines that span several lines."""
    source, program, tokens = analysis.source, analysis.program, analysis.scanned.tokens
    found = [
        Fold(tokens[opening].start, tokens[closing].start, "region")
        for opening, closing in pair(tokens).partner.items()
        if opening < closing
    ]
    found += [
        Fold(item.span.start, item.span.end, "region")
        for item in program.declarations
        if item.body is None and item.value is not None
    ]
    alone = [
        comment.span
        for comment in program.comments
        if not source.text[: comment.span.start].rpartition("\n")[2].strip()
    ]
    for kind, spans in (("comment", alone), ("imports", [use.span for use in program.uses])):
        for _, group in groupby(enumerate(spans), key=lambda item: item[1].line - item[0]):
            run = [span for _, span in group]
            found.append(Fold(run[0].start, run[-1].end, kind))
    several = {f for f in found if source.position(f.start)[0] < source.position(f.end)[0]}
    return tuple(sorted(several, key=lambda fold: (fold.start, fold.end)))


TYPES = (
    "class", "interface", "struct", "namespace", "function", "parameter", "variable", "property",
    "enumMember", "keyword", "number", "string", "comment", "operator",
)  # fmt: skip
"""Types of tokens, by their names in the Language Server Protocol."""
MODIFIERS = ("declaration", "defaultLibrary", "readonly")

TOKEN_TYPES = {
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
    """A token with its type (of TYPES) and modifiers (of MODIFIERS)."""

    span: Span
    type: str
    modifiers: tuple[str, ...] = ()


def semantic_tokens(analysis: Analysis) -> tuple[SemanticToken, ...]:
    """Return the tokens of a file in order; none spans several lines."""
    named = {(one.span.start, one.span.end): one for one in analysis.meanings.occurrences}
    found = [SemanticToken(comment.span, "comment") for comment in analysis.scanned.comments]
    for token in analysis.scanned.tokens:
        span = Span(analysis.source, token.start, token.end)
        one = named.get((token.start, token.end))
        if one is not None:
            found.append(SemanticToken(span, TOKEN_TYPES[one.meaning.kind], _modifiers(one)))
        elif token.type in _OF_TOKEN and span.text == token.text:
            found.append(SemanticToken(span, _OF_TOKEN[token.type]))
    return tuple(sorted(found, key=lambda token: token.span.start))


def _modifiers(one: Occurrence) -> tuple[str, ...]:
    """Return the modifiers of a name. Names of the language and of std belong to the library."""
    place = one.meaning.place
    library = one.meaning.kind not in _OWN if place is None else is_library(place.source)
    chosen = (one.defines, library, one.meaning.kind == "word")
    return tuple(name for name, holds in zip(MODIFIERS, chosen, strict=True) if holds)
