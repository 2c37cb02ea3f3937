"""Diagnostics: their text, and what a reporter keeps of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danetc.dsl.diagnostics.diagnostic import (
    Diagnostic,
    Label,
    Reporter,
    SpecError,
    TooManyErrors,
    render,
    render_all,
)
from danetc.dsl.syntax.source import SourceFile, Span

LONG = SourceFile("long.danet", "a\n" * 8 + "\tbad x\u202ey = 1\n\nend")
OTHER, EMPTY = SourceFile("o\n.danet", "one two\nthree"), SourceFile("gone", "")


def span(source: SourceFile, text: str) -> Span:
    start = source.text.index(text)
    return Span(source, start, start + len(text))


FOUND = Diagnostic(
    "E0101", "wro\x1bng", span(LONG, "bad x"), "her\u202ee",
    (Label(span(LONG, "end"), "to here"), Label(span(OTHER, "two\nth"), ""), Label(span(OTHER, "three"), "t"),
     Label(Span(EMPTY, 0, 0), "nowhere")), "try\x00",
)  # fmt: skip
RENDERED = """\
error[E0101]: wro\\x1bng
  --> long.danet:9:2
 9 |  bad x\N{REPLACEMENT CHARACTER}y = 1
   |  ^^^^^ her<U+202E>e
11 | end
   | --- to here
  ::: o\\n.danet:1:5
 1 | one two
   |     ---
 2 | three
   | ----- t
  ::: gone
   = hint: try\\x00"""


def test_the_text_of_a_diagnostic() -> None:
    assert render(FOUND) == RENDERED
    warning = Diagnostic("W0101", "unused", span(OTHER, "one"), severity="warning")
    assert render_all([FOUND, warning]) == f"{RENDERED}\n\n{render(warning)}"
    assert render(warning, colour=True).splitlines() == [
        "\033[1;33mwarning[W0101]\033[0m\033[1m: unused\033[0m", "\033[1;34m --> \033[0mo\\n.danet:1:1",
        "\033[1;34m1\033[0m \033[1;34m|\033[0m one two", "  \033[1;34m|\033[0m \033[1;33m^^^\033[0m",
    ]  # fmt: skip


def test_what_a_reporter_keeps() -> None:
    reporter, place, other = Reporter(most=3), span(OTHER, "one"), span(OTHER, "two")
    long, cut = "x" * 200 + "y" + "z" * 200, "x" * 200 + " ... " + "z" * 200
    reporter.error("E0101", long, place, label=long, labels=[Label(place, long)] * 9, hint=long)
    for code, end in (("E0101", 3), ("E0102", 3), ("E0101", 4), ("E0102", 3)):
        reporter.error(code, long[:400], Span(OTHER, 0, end))
    kept = reporter.diagnostics
    assert [item.code + str(item.span.end) for item in kept] == ["E01013", "E01023", "E01014"]
    assert (kept[0].message, kept[0].label, kept[0].hint) == (cut, cut, cut)
    assert kept[0].labels == (Label(place, cut),) * 8
    assert (kept[1].message, kept[1].hint, reporter.met) == (long[:400], None, 5)
    with pytest.raises(TooManyErrors):
        reporter.error("E0103", "one more", place)
    with pytest.raises(SpecError) as caught:
        Reporter([replace(FOUND, span=other), kept[1], kept[0], FOUND]).raise_if_errors()
    found = [f"{item.span} {item.code}" for item in caught.value.diagnostics]
    places = (
        "long.danet:9:2 E0101",
        "o\\n.danet:1:1 E0101",
        "o\\n.danet:1:1 E0102",
        "o\\n.danet:1:5 E0101",
    )
    assert found == [*places]
    Reporter().raise_if_errors()
