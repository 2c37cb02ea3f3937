"""Offsets in a text, and the lines and columns that the Language Server Protocol has for them."""

from __future__ import annotations

from bisect import bisect_right

from danetc.dsl.syntax.source import Span


class TextLines:
    """The lines of a text. An offset counts characters (code points) from 0.

    A position is a line and a column, both from 0; columns count the units that client and server
    have agreed upon: of UTF-16, of which characters beyond U+FFFF have two, unless they say otherwise.
    Lines end with ``\\n``, ``\\r\\n`` or ``\\r``, as the protocol has it.
    """

    def __init__(self, text: str, encoding: str = "utf-16") -> None:
        self.text = text
        self.encoding = encoding
        self.starts = [0]
        for i, ch in enumerate(text):
            if ch == "\n" or (ch == "\r" and text[i + 1 : i + 2] != "\n"):
                self.starts.append(i + 1)

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset; one beyond the text is its end."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.starts, offset) - 1
        return line, self._units(self.text[self.starts[line] : offset])

    def offset(self, line: int, column: int) -> int:
        """The offset of a position; what lies beyond a line or the text is its end."""
        if line < 0:
            return 0
        if line >= len(self.starts):
            return len(self.text)
        start = self.starts[line]
        end = self.starts[line + 1] if line + 1 < len(self.starts) else len(self.text)
        here = self.text[start:end].rstrip("\r\n")
        if here.isascii() or self.encoding == "utf-32":
            return start + max(0, min(column, len(here)))
        units = 0
        for i, ch in enumerate(here):
            if units >= column:
                return start + i
            units += self._units(ch)
        return start + len(here)

    def range(self, span: Span) -> tuple[tuple[int, int], tuple[int, int]]:
        """The positions where a span of this text starts and ends."""
        return self.position(span.start), self.position(span.end)

    def _units(self, text: str) -> int:
        if text.isascii() or self.encoding == "utf-32":
            return len(text)
        if self.encoding == "utf-8":
            return len(text.encode("utf-8", "surrogatepass"))
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
