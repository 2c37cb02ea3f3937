"""What a rule of warnings is made of, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span

Subject = TypeVar("Subject", contravariant=True)


@record
class Finding:
    """What a rule has found: the parts of a diagnostic besides its code."""

    span: Span
    message: str
    label: str = ""
    labels: tuple[Label, ...] = ()
    hint: str | None = None


@record
class Rule(Generic[Subject]):
    """A row of the table: a code, and what finds it.

    ``find`` finds only what is certain: a rule that may be wrong about a spec is none.
    """

    code: str
    find: Callable[[Subject], Iterator[Finding]]
