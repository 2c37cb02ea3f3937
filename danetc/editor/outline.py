"""Symbols of a file as an editor's outline has them, and what can be folded.

What an error has kept out of the tree is there by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span, shorten
from danetc.editor.analysis import Analysis


@dataclass(frozen=True)
class OutlineSymbol:
    """Something that has a name. ``kind`` is that of a declaration, ``parameter``, ``line``,
    ``state``, ``phase`` or another group's word. ``span`` holds all of it, ``name_span`` its name."""

    name: str
    kind: str
    detail: str
    span: Span
    name_span: Span
    children: tuple[OutlineSymbol, ...] = ()


@dataclass(frozen=True)
class Fold:
    """Lines that can be folded, from the line of ``start`` to that of ``end`` (offsets).

    ``kind`` is ``comment``, ``imports`` or ``region``.
    """

    start: int
    end: int
    kind: str


def symbols(analysis: Analysis) -> tuple[OutlineSymbol, ...]:
    """The declarations of a file in order, each with its parameters and lines."""
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
        OutlineSymbol(param.name, "parameter", _default(param), param.span, param.name_span)
        for param in item.params
    ]
    children += _lines(item.body or ())
    children += [
        OutlineSymbol(each.name, "line", "", each.span, each.name_span)
        for each in program.lost
        if not each.kind and item.span.start < each.span.start < item.span.end
    ]
    children.sort(key=lambda child: child.span.start)
    return OutlineSymbol(
        item.name, item.kind, _head(item), item.span, item.name_span, tuple(children)
    )


def _head(item: s.Declaration) -> str:
    """The kind of a declaration, and what it is a variant of."""
    base = item.value
    if base is not None and item.body is not None:
        return f"{item.kind} = {shorten(base.span.text)}"
    return item.kind


def _default(param: s.Param) -> str:
    return "" if param.default is None else f"= {shorten(param.default.span.text)}"


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
    """Bodies, calls and flows over several lines, comments in a row and the `use` lines in a row."""
    source, program = analysis.source, analysis.program
    found: list[Fold] = []

    def add(start: int, end: int, kind: str) -> None:
        if source.position(start)[0] < source.position(end)[0]:
            found.append(Fold(start, end, kind))

    tokens = analysis.scanned.tokens
    for opening, closing in analysis.brackets.partner.items():
        if opening < closing:
            add(tokens[opening].start, tokens[closing].start, "region")
    for item in program.declarations:
        if item.body is None and item.value is not None:
            add(item.span.start, item.span.end, "region")
    own_line = [
        comment.span
        for comment in program.comments
        if not source.text[: comment.span.start].rpartition("\n")[2].strip()
    ]
    for kind, spans in (("comment", own_line), ("imports", [use.span for use in program.uses])):
        lines = list(enumerate(spans))
        for _, group in groupby(lines, key=lambda item: item[1].line - item[0]):
            row = [span for _, span in group]
            add(row[0].start, row[-1].end, kind)
    return tuple(sorted(set(found), key=lambda fold: (fold.start, fold.end)))
