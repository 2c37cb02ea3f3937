"""How much a check may do, so that a spec costs what it says and not what it can be made to ask for.

What is done is counted in steps of about a microsecond, wherever a short text can ask for much: values
of expressions, operations of networks, terms of rules, names that are taken from other files. The
letters that are compared to suggest a name are counted by themselves. The counts of a check depend on nothing but
the text, so that a spec is accepted or refused alike on every machine.
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
MAX_COMPARED = 300_000


class Exhausted(Exception):
    """A check has done as much as it may. ``span`` is what it was about to work out, if known."""

    def __init__(self, limit: float, span: Span | None) -> None:
        super().__init__(limit, span)
        self.limit, self.span = limit, span


@record(frozen=False)
class Work:
    """What has been done so far, and what may be."""

    limit: float = inf
    steps: int = 0
    letters: float = inf

    def spend(self, steps: int, span: Span | None = None) -> None:
        """Count what is about to be done. Raises Exhausted."""
        self.steps += steps
        if self.steps > self.limit:
            raise Exhausted(self.limit, span)

    def allow(self, characters: int) -> None:
        """Raise the limit for a text of so many characters that was read."""
        self.limit += PER_CHARACTER * characters

    def compare(self, name: str, names: int) -> bool:
        """True if a name may still be compared with so many others; counts its letters for each."""
        self.letters -= len(name) * names
        return self.letters >= 0


_current: ContextVar[Work | None] = ContextVar("_current", default=None)


def current() -> Work:
    """The work of the check that is going on; without one, nothing is bounded."""
    return _current.get() or Work()


def of_a_check() -> Work:
    """The work of a check that begins."""
    return Work(BASE, 0, MAX_COMPARED)


@contextmanager
def bounded(work: Work | None = None) -> Iterator[Work]:
    """A check, or another part of one. What is counted inside is added to the check around it, if
    there is one."""
    outer = current()
    inner = of_a_check() if work is None else work
    before = inner.steps
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)
        outer.steps += inner.steps - before
