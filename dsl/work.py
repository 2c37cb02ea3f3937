"""Limits of the work of a check, so that a short text cannot take long.

Work is counted in steps of about a microsecond. Steps are the values of expressions, operations of
networks, terms of rules and names taken from other files, as a short text can cause many of them. Letters compared to
suggest a name are counted separately. The counts depend on the text alone, so that every machine
accepts the same specs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf

from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span

BASE = 1_700_000
PER_CHARACTER = 1
MAX_COMPARED = 100_000


class Exhausted(Exception):
    """Raised if a check exceeds its limit; ``span`` is the place of the next step, if known."""

    def __init__(self, limit: float, span: Span | None) -> None:
        super().__init__(limit, span)
        self.limit, self.span = limit, span


@record(frozen=False)
class Work:
    """Steps so far, and their limit."""

    limit: float = inf
    steps: int = 0
    letters: float = inf

    def spend(self, steps: int, span: Span | None = None) -> None:
        """Count steps that follow. Raises Exhausted if they exceed the limit."""
        if self.steps + steps > self.limit:
            raise Exhausted(self.limit, span)
        self.steps += steps

    def allow(self, characters: int) -> None:
        """Raise the limit for a text of so many characters."""
        self.limit += PER_CHARACTER * characters

    def compare(self, name: str, names: int) -> bool:
        """Count the comparison of a name with others. Return False beyond the limit."""
        self.letters -= len(name) * names
        return self.letters >= 0


_current: ContextVar[Work | None] = ContextVar("_current", default=None)


def current() -> Work:
    """Return the work of the current check; without one, nothing is bounded."""
    return _current.get() or Work()


def of_a_check() -> Work:
    """Return the work of a new check."""
    return Work(BASE, 0, MAX_COMPARED)


@contextmanager
def bounded(work: Work | None = None) -> Iterator[Work]:
    """Limit the work of a check. Its steps are added to those of an enclosing check."""
    outer = current()
    inner = of_a_check() if work is None else work
    before = inner.steps
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)
        outer.steps += inner.steps - before
