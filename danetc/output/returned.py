"""What functions of danetc return: a prompt shows it in a line, a notebook as a table."""

from __future__ import annotations


class Returned:
    """A result with tables and figures, whose ``repr`` is a line with the figures that count."""

    __slots__ = ()

    def _line(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._line()}>"
