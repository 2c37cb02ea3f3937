"""Limits of the work of a check, so that a short text cannot take long.

Work is counted in steps of about a microsecond: one for each value of an expression, operation of a
network, term of a rule, and imported name. Letters compared to suggest names are counted separately.
The counts only depend on the text, so that the same specs are accepted on all machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from math import inf

from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span

BASE = 1_700_000
PER_CHARACTER = 1  # of a text, by which the limit increases
MAX_COMPARED = 100_000


class Exhausted(Exception):
    """Raised if a check needs more steps than its limit. ``span`` is the place of the next step, if known."""

    def __init__(self, limit: float, span: Span | None) -> None:
        self.limit, self.span = limit, span


@record(frozen=False)
class Work:
    """Steps so far, and the limits of a check."""

    limit: float = field(default_factory=lambda: BASE)
    steps: int = 0
    letters: float = field(default_factory=lambda: MAX_COMPARED)

    def spend(self, steps: int, span: Span | None = None) -> None:
        """Count steps that follow. Raises Exhausted if they exceed the limit."""
        if self.steps + steps > self.limit:
            raise Exhausted(self.limit, span)
        self.steps += steps

    def compare(self, name: str, names: int) -> bool:
        """Count the comparison of a name with others. Return False beyond the limit."""
        self.letters -= len(name) * names
        return self.letters >= 0


_current: ContextVar[Work | None] = ContextVar("_current", default=None)


def current() -> Work:
    """Return the work of the current check; without one, nothing is bounded."""
    return _current.get() or Work(inf, letters=inf)


@contextmanager
def bounded(work: Work | None = None) -> Iterator[Work]:
    """Limit the work of a check. Its steps are added to those of an enclosing check."""
    outer, inner = current(), work or Work()
    before = inner.steps
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)
        outer.steps += inner.steps - before
