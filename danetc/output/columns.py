"""Columns that fit a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

from danetc.output.echo import echo

NARROWEST = 20
"""Of a column of text; on a narrower terminal its lines are cut by that."""


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Columns of a terminal; None where the output is a file or a program, which has any width."""
    stream = sys.stdout if stream is None else stream
    return shutil.get_terminal_size().columns if stream.isatty() else None


def in_parts(widths: Sequence[int], limit: int | None, between: int = 2) -> Iterator[list[int]]:
    """The numbers of columns that stand side by side, part by part.

    A table that is wider than ``limit`` is cut into several, each of which begins with the first
    column again.
    """
    part: list[int] = [0]
    used = widths[0]
    for number in range(1, len(widths)):
        wider = used + between + widths[number]
        if limit is not None and wider > limit and len(part) > 1:
            yield part
            part, wider = [0], widths[0] + between + widths[number]
        part.append(number)
        used = wider
    yield part


def print_columns(rows: Sequence[tuple[str, str]]) -> None:
    """Names, and what each is, which is broken where a terminal is too narrow."""
    widest = max((len(name) for name, _ in rows), default=0)
    limit = terminal_width()
    for name, text in rows:
        if limit is None:
            echo(f"{name:<{widest}}  {text}".rstrip())
            continue
        lines = textwrap.wrap(text, max(NARROWEST, limit - widest - 2)) or [""]
        for place, line in enumerate(lines):
            echo(f"{name if place == 0 else '':<{widest}}  {line}".rstrip())


def print_text(text: str) -> None:
    """A text, broken where a terminal is too narrow."""
    limit = terminal_width()
    for line in [text] if limit is None else textwrap.wrap(text, max(NARROWEST, limit)):
        echo(line)
