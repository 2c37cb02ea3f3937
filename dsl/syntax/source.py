"""Source files, and spans of their text."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from dataclasses import field
from functools import cached_property

from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.record import record


@record(slots=False, eq=False)
class SourceFile:
    """A text with a name. Two source files are equal only if they are the same object."""

    name: str
    text: str = field(repr=False)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0] + [i + 1 for i, ch in enumerate(self.text) if ch == "\n"]

    @cached_property
    def words(self) -> Counter[str]:
        """Number of occurrences of each word."""
        return Counter(re.findall(r"\w+", self.text))

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, counted from 1."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """Return the text of a line (counted from 1) without its line end."""
        start = self._line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start:] if end < 0 else self.text[start:end]


@record
class Span:
    """The part of a source file from ``start`` to ``end`` (exclusive)."""

    source: SourceFile
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def line(self) -> int:
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.position(self.start)[1]

    def __str__(self) -> str:
        return f"{visible(self.source.name)}:{self.line}:{self.column}"


NOWHERE = Span(SourceFile("<nowhere>", ""), 0, 0)


def shorten(text: str, limit: int = 40) -> str:
    """Return a text on one line, cut at the end if it is long."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 4] + " ..."
