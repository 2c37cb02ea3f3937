"""Conversion between character offsets and the positions of editors."""

from __future__ import annotations

from bisect import bisect_right

from danetc.dsl.syntax.source import Span

_CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
"""Name of the codec in Python, and size of a code unit in bytes."""


def units(text: str, encoding: str = "utf-16") -> int:
    """Return the number of code units of a text."""
    codec, size = _CODECS[encoding]
    return len(text) if text.isascii() else len(text.encode(codec, "surrogatepass")) // size


def characters(text: str, count: int, encoding: str = "utf-16") -> int:
    """Return the number of complete characters in the first ``count`` code units of a text."""
    count = max(0, count)
    if text.isascii():
        return min(count, len(text))
    codec, size = _CODECS[encoding]
    return len(text.encode(codec, "surrogatepass")[: count * size].decode(codec, "ignore"))


class TextLines:
    """Lines of a text. Converts offsets to positions of the Language Server Protocol, and back.

    A position is a line and a column, both from 0. Columns count units of the encoding that client
    and server agreed on, by default UTF-16. Lines end with ``\\n``, ``\\r\\n`` or ``\\r``.
    """

    def __init__(self, text: str, encoding: str = "utf-16") -> None:
        self.text = text
        self.encoding = encoding
        self.starts = [0]
        for i, ch in enumerate(text):
            if ch == "\n" or (ch == "\r" and text[i + 1 : i + 2] != "\n"):
                self.starts.append(i + 1)

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, clamped to the text."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.starts, offset) - 1
        return line, units(self.text[self.starts[line] : offset], self.encoding)

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a position, clamped to its line and the text."""
        if line >= len(self.starts):
            return len(self.text)
        start, end = [*self.starts, len(self.text)][line : line + 2]
        return start + characters(self.text[start:end].rstrip("\r\n"), column, self.encoding)

    def range(self, span: Span) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the start and end positions of a span."""
        return self.position(span.start), self.position(span.end)
