"""Entries of errors and warnings: their pages."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.dsl.diagnostics.codes import CODES
from danetc.dsl.diagnostics.explain import examples, page
from danetc.reference.entry import Entry, sentence


def codes() -> Iterator[Entry]:
    """All codes. The text is the page without its heading, the example its fixed spec."""
    for row in CODES.values():
        text = page(row.code).partition("\n")[2].strip()
        yield Entry(
            row.code,
            row.severity,
            row.code,
            sentence(row.title),
            text=text,
            example=examples(row.code).fixed,
        )
