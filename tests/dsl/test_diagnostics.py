"""The text of a diagnostic: every place with its line, nothing hidden."""

from __future__ import annotations

from danetc.dsl.diagnostics.diagnostic import (
    Diagnostic,
    Label,
    render,
    render_all,
)
from danetc.dsl.diagnostics.fixes import line_removed
from danetc.dsl.errors import UserError
from danetc.dsl.syntax.source import SourceFile, Span
from tests.tables import each_of

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


@each_of(
    [
        ("a = 1\n  bad = 2 ;\nc = 3", "remove this line", "a = 1\nc = 3"),
        ("a = 1\nbad = 2", "remove this line", "a = 1\n"),
        ("a = 1; bad = 2; c = 3", "remove this", "a = 1; c = 3"),
        ("a = 1;\n bad = 2; c\nd", "remove this", "a = 1;\n c\nd"),
        ("a = 1; bad = 2\nc", "remove this", "a = 1; \nc"),
    ]
)
def test_a_statement_is_removed_with_its_line(before: str, title: str, after: str) -> None:
    fix = line_removed(span(SourceFile("a.danet", before), "bad = 2"))
    (edit,) = fix.edits
    assert (fix.title, edit.text) == (title, "")
    assert before[: edit.span.start] + before[edit.span.end :] == after


def test_a_notebook_shows_the_lines_of_an_error() -> None:
    assert UserError("no file\nhint")._render_traceback_() == ["no file", "hint"]
