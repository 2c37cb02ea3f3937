"""Every code has a page, and its examples do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from danetc.compiler.frontend.program import Checked, check_text, graph_of
from danetc.compiler.warnings import files, layers, neurons, recipes, warnings_of
from danetc.dsl.diagnostics.codes import CODES, severity
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.diagnostics.explain import examples, page

_ROOT = Path(__file__).parents[2]
_PAGE = re.compile(
    r"# ([EW]\d{4}): ([^\n]+)\n\n(.+?)\n\n"
    r"## Wrong\n\n```danet\n(.+?)\n```\n\n## Fixed\n\n```danet\n(.+?)\n```\n",
    re.DOTALL,
)


def _take_main_network(checked: Checked) -> None:
    checked.declaration()


def _set_what_is_not_there(checked: Checked) -> None:
    graph_of(checked, settings={"clases": 100})


# Errors of what is asked about a spec that is right; the page says what is asked.
_ASKED = {"E0220": _take_main_network, "E0309": _set_what_is_not_there}


def found(code: str, text: str) -> list[str]:
    """The codes of a spec's errors, else of its warnings, in the order of the text."""
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
    if code == "E0907":  # it follows those that are shown
        wrong.reverse()
    warns = severity(code) == "warning"
    assert (wrong if warns else wrong[:1]) == [code]  # a warning stands alone
    assert match[2] == CODES[code]
    with_request = code if code == "E0220" else ""  # the other's mistake is not in the spec
    assert found(with_request, examples(code)[1]) == []


def test_every_code_has_a_page() -> None:
    used: set[str] = set()
    for room in ("dsl", "compiler"):
        for path in (_ROOT / room).rglob("*.py"):
            if path.name == "codes.py":
                continue
            used |= set(re.findall(r"\"([EW]\d{4})\"", path.read_text("utf-8")))
    assert used == set(CODES)


def test_every_page_and_every_warning_is_in_the_registry() -> None:
    pages = (_ROOT / "dsl/diagnostics/explain").glob("*.md")
    assert {path.stem for path in pages} == set(CODES)
    rules = (*files.RULES, *layers.RULES, *neurons.RULES, *recipes.RULES)
    warnings = [code for code in CODES if severity(code) == "warning"]
    assert [rule.code for rule in rules] == warnings


@pytest.mark.parametrize("code", ["E9999", "../E0101", "", "__init__"])
def test_what_has_no_page(code: str) -> None:
    with pytest.raises(KeyError):
        page(code)
