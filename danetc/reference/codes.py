"""Entries of errors and warnings."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.dsl.diagnostics.codes import CODES, severity
from danetc.dsl.diagnostics.explain import examples, page
from danetc.reference.entry import Entry, sentence


def codes() -> Iterator[Entry]:
    """Yield all codes, with the text of the page and its fixed spec as the example."""
    for code, title in CODES.items():
        text = page(code).partition("\n")[2].strip()
        _, fixed = examples(code)
        yield Entry(code, severity(code), code, sentence(title), text=text, example=fixed)
