"""Diagnostics: their text, and a page for every code with examples that do what it says."""

import re
from pathlib import Path

import pytest

from danetc.compiler.frontend.program import Checked, check_text, graph_of
from danetc.compiler.warnings import files, layers, neurons, recipes, warnings_of
from danetc.dsl.diagnostics.codes import CODES, severity
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, SpecError, render, render_all
from danetc.dsl.diagnostics.explain import examples, page
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
    assert UserError("no file\nhint")._render_traceback_() == ["no file", "hint"]  # in notebooks


# -- pages of codes --------------------------------------------------------------------------------


_ROOT = Path(__file__).parents[2]
_PAGE = re.compile(
    r"# ([EW]\d{4}): ([^\n]+)\n\n(.+?)\n\n"
    r"## Wrong\n\n```danet\n(.+?)\n```\n\n## Fixed\n\n```danet\n(.+?)\n```\n",
    re.DOTALL,
)


# Errors of a request about a correct spec; the page describes the request.
_ASKED = {
    "E0220": Checked.declaration,
    "E0309": lambda checked: graph_of(checked, settings={"clases": 100}),
}


def found(code: str, text: str) -> list[str]:
    """The codes of a spec's errors, or of its warnings if there are none, in the order of the text."""
    try:
        checked = check_text(text)
        if code in _ASKED:
            _ASKED[code](checked)
    except SpecError as error:
        return [diagnostic.code for diagnostic in error.diagnostics]
    return [diagnostic.code for diagnostic in warnings_of(checked)]


@pytest.mark.parametrize("code", CODES)
def test_page(code: str) -> None:
    match = _PAGE.fullmatch(page(code))
    assert match is not None, "a title, an explanation, a wrong and a fixed example"
    assert match[1] == code
    wrong = found(code, examples(code)[0])
    if code == "E0907":  # it comes after the errors that are shown
        wrong.reverse()
    warns = severity(code) == "warning"
    assert (wrong if warns else wrong[:1]) == [code]  # a warning is the only one
    assert match[2] == CODES[code]
    with_request = code if code == "E0220" else ""  # E0309 is a mistake in the request
    assert found(with_request, examples(code)[1]) == []


def test_every_code_has_a_page_and_every_warning_a_rule() -> None:
    used: set[str] = set()
    for room in ("dsl", "compiler"):
        for path in (_ROOT / room).rglob("*.py"):
            if path.name != "codes.py":
                used |= set(re.findall(r"\"([EW]\d{4})\"", path.read_text("utf-8")))
    pages = (_ROOT / "dsl/diagnostics/explain").glob("*.md")
    assert used == {path.stem for path in pages} == set(CODES)
    rules = (*files.RULES, *layers.RULES, *neurons.RULES, *recipes.RULES)
    warnings = [code for code in CODES if severity(code) == "warning"]
    assert [rule.code for rule in rules] == warnings


@each_of(["E9999", "../E0101", "", "__init__"])
def test_what_has_no_page(code: str) -> None:
    with pytest.raises(KeyError):
        page(code)
