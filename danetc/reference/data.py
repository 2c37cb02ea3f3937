"""Entries of data sets: what ``--data`` takes."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.reference.entry import Entry, sentence
from danetc.runtime.data.sources import SOURCES


def data() -> Iterator[Entry]:
    """The kinds of data, which training reads."""
    for name, row in SOURCES.items():
        yield Entry(name, "data", f"--data {row.usage}", sentence(row.meaning))
