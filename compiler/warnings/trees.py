"""The text that findings stand in: calls by their place, and comments that allow a warning."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from danetc.dsl import syntax as s
from danetc.dsl.diagnostics import Reporter
from danetc.dsl.parser import parse
from danetc.dsl.source import SourceFile, Span

_ALLOW = re.compile(r"#+ *allow +(W\d{4}(?:[, ]+W\d{4})*)(?!\w)")


class Trees:
    """The trees of the sources that are asked about, each read once."""

    def __init__(self, program: s.Program) -> None:
        self._programs: dict[SourceFile, s.Program] = {program.span.source: program}
        self._calls: dict[SourceFile, dict[tuple[int, int], s.Call]] = {}
        self._comments: dict[SourceFile, dict[str, list[tuple[int, bool]]]] = {}

    def program(self, source: SourceFile) -> s.Program:
        """The tree of a source that was read without errors before."""
        if source not in self._programs:
            self._programs[source] = parse(source, Reporter())
        return self._programs[source]

    def call(self, span: Span) -> s.Call | None:
        """The call that a span covers, or None where it covers something else."""
        if span.source not in self._calls:
            nodes = s.walk(self.program(span.source))
            self._calls[span.source] = {
                (node.span.start, node.span.end): node for node in nodes if isinstance(node, s.Call)
            }
        return self._calls[span.source].get((span.start, span.end))

    def allows(self, code: str, span: Span) -> bool:
        """Whether a comment ``# allow CODE`` stands at the statement of a span.

        It stands on one of the statement's lines, or on a line of its own right above.
        """
        allowed = self._allowed(span.source)
        if code not in allowed:
            return False
        first, last = _lines(self.program(span.source), span)
        return any(
            first <= line <= last or (alone and line == first - 1) for line, alone in allowed[code]
        )

    def _allowed(self, source: SourceFile) -> dict[str, list[tuple[int, bool]]]:
        """The lines of the comments that allow each code; whether nothing else stands there."""
        if source not in self._comments:
            found = self._comments[source] = {}
            comments = self.program(source).comments if "allow" in source.text else ()
            for comment in comments:
                match = _ALLOW.match(comment.text)
                for code in match[1].replace(",", " ").split() if match is not None else ():
                    line = comment.span.line
                    alone = not source.line(line)[: comment.span.column - 1].strip()
                    found.setdefault(code, []).append((line, alone))
        return self._comments[source]


def _lines(program: s.Program, span: Span) -> tuple[int, int]:
    """The lines of the innermost statement around a span; of a body's owner, those of its head."""
    first, last = span.line, span.source.position(span.end)[0]
    for node in _around(program, span):
        end = node.span.end
        body = getattr(node, "body", None)
        if body:
            end = min(end, body[0].span.start)
        if span.end <= end:
            first, last = node.span.line, span.source.position(end)[0]
            if body and body[0].span.line == last > first:
                last -= 1
    return first, last


def _around(program: s.Program, span: Span) -> Iterator[s.Use | s.Declaration | s.Stmt]:
    """The statements that hold a span, the outermost first."""
    items: tuple[s.Use | s.Declaration | s.Stmt, ...] = program.items
    while items:
        index = bisect_right(items, span.start, key=lambda item: item.span.start) - 1
        if index < 0 or span.end > items[index].span.end:
            return
        yield items[index]
        items = getattr(items[index], "body", None) or ()
