"""The version of the language that a file says it is written in: ``# danet 1`` in its first line.

A line of comment, so that each version can read it of any other, whatever became of the grammar. Files
that danetc writes have it; others may. It counts up when a file of before would mean something else, or
nothing any more.
"""

from __future__ import annotations

import re

from danetc.dsl.syntax.source import SourceFile, Span

LANGUAGE = 1
FIRST_LINE = f"# danet {LANGUAGE}"
_FIRST_LINE = re.compile(r"\ufeff?# *danet +([0-9]{1,9})[ \t]*(?:\r?\n|\Z)")


def later_version(source: SourceFile) -> tuple[int, Span] | None:
    """The version that a file names, and where, if this one cannot read it."""
    found = _FIRST_LINE.match(source.text)
    if found is None or int(found[1]) <= LANGUAGE:
        return None
    return int(found[1]), Span(source, *found.span(1))
