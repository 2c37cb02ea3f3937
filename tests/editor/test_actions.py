"""Code actions: applying the fix of a hint removes its problem."""

import copy
import pickle

import pytest

from danetc.dsl.diagnostics.codes import CODES
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.diagnostics.explain import examples
from danetc.dsl.diagnostics.fixes import Hint
from danetc.editor import analyse
from danetc.editor.navigation import edited
from danetc.editor.problems import CodeFix, code_fixes
from tests.editor.marked import network

FIXED = 26
"""Number of pages whose wrong example has a hint that an editor can apply; it may only grow."""


def all_fixes(text: str) -> tuple[CodeFix, ...]:
    return code_fixes(analyse(text), 0, len(text))


def test_every_fix_of_every_page_leaves_less_to_fix() -> None:
    fixed: set[str] = set()
    for code in CODES.keys() - {"E0906"}:  # E0906 takes seconds
        wrong = examples(code)[0]
        before = analyse(wrong)
        fixes = code_fixes(before, 0, len(wrong))
        for fix in fixes:
            assert all(edit.span.source is before.source for edit in fix.edits)
            found = analyse(edited(wrong, fix.edits)).diagnostics
            left = [item for item in found if item.code != "E0201"]  # the file does not exist here
            assert len(left) < len(before.diagnostics), (code, fix.title)
        if code in {fix.problem.code for fix in fixes if not fix.title.startswith("allow ")}:
            fixed.add(code)
        if code.startswith("W") and any(item.code == code for item in before.diagnostics):
            assert f"allow {code} here" in [fix.title for fix in fixes]
    assert len(fixed) >= FIXED, fixed


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("stem = cnov(8)", "stem = conv(8)"),
        ("stem = conv(8, kernel_size = 3)", "stem = conv(8, kernel = 3)"),
        ("stem = conv(8) → norm", "stem = conv(8) -> norm"),
        ("head = linear(over = tmie)", "head = linear(over = time)"),
        ("stem = BN", "stem = norm"),
        ("stem = conv(8 kernel = 3)", "stem = conv(8, kernel = 3)"),
    ],
)
def test_a_wrong_line_becomes_the_right_one(wrong: str, right: str) -> None:
    lines = ["stem = spike", "head = avgpool"]
    name = right.partition(" ")[0]
    rest = [line for line in lines if not line.startswith(name)]
    text, wanted = network(*rest, wrong), network(*rest, right)
    assert wanted in [edited(text, fix.edits) for fix in all_fixes(text)]


NET = network("stem = conv(8) -> norm -> spike", "stages = stage(basic(16), 1) via c")
EACH, OUT, PROJECTED = "each = conv -> norm", "out = branch + shortcut", "projection = conv -> norm"
ADD = ("E0602", f"add `{PROJECTED}`")
FIRST, END = "connection c {", "}\n" + NET
ADDED = [
    # a text, the code and title of its fix, and the fixed text
    ("block for(w) = conv(w)", "E0113", "", "block for_(w) = conv(w)"),
    (NET.replace("}\n", "") + "\nblock b = conv(8)", "E0102", "", f"{NET}\nblock b = conv(8)"),
    (f"use std\n{FIRST} {OUT}", "", "", f"use std\n{FIRST} {OUT}\n}}"),
    (FIRST + END, "", "", f"{FIRST} {OUT} {END}"),
    (f"{FIRST} {END}", "", "", f"{FIRST} {OUT} {END}"),
    # a fix follows the style of the body
    (f"{FIRST} {EACH}; {OUT} {END}", *ADD, f"{FIRST} {EACH}; {OUT}; {PROJECTED} {END}"),
    (
        f"{FIRST}\n  {EACH}\n  {OUT}  # 1\n{END}",
        *ADD,
        f"{FIRST}\n  {EACH}\n  {OUT}  # 1\n  {PROJECTED}\n{END}",
    ),
]


@pytest.mark.parametrize(("text", "code", "title", "after"), ADDED)
def test_what_is_missing_is_added(text: str, code: str, title: str, after: str) -> None:
    (fix,) = [fix for fix in all_fixes(text) if code in fix.problem.code]
    assert title in (fix.title, "")
    assert edited(text, fix.edits) == after


def test_what_is_without_use_is_removed_with_its_line_if_it_has_one() -> None:
    used = {"/nowhere/b.danet": "block b = conv(3)\n"}
    begin, end = "use std\nnetwork n { input = image(3, 8, 8)", "out = in -> conv(8) }"
    for text, title, left in (
        ('use std\nuse "b.danet"  \nrule a = chain', "remove this line", "use std\nrule a = chain"),
        ('use "b.danet"', "remove this line", ""),
        (f"{begin}\n  norm = tdbn ;\n{end}", "remove this line", f"{begin}\n{end}"),
        (f"{begin}; norm = tdbn; {end}", "remove this", f"{begin}; {end}"),
        (f"{begin};\n norm = tdbn; {end}", "remove this", f"{begin};\n {end}"),
        (f"{begin}; norm = tdbn\n{end}", "remove this", f"{begin}; \n{end}"),
    ):  # fmt: skip
        fixes = code_fixes(analyse(text, "/nowhere/a.danet", used), 0, len(text))
        found = [(fix.title, edited(text, fix.edits)) for fix in fixes if "remove" in fix.title]
        assert found == [(title, left)]


def test_the_library_is_used_behind_the_comment_of_the_file() -> None:
    text = "# mine\n\nnetwork n { input = image(3, 8, 8); neuron = LIF; out = in -> spike }\n"
    fixed = {edited(text, fix.edits) for fix in all_fixes(text)}
    assert fixed == {text.replace("network", "use std\n\nnetwork")}


def test_a_warning_is_allowed_beside_what_is_allowed_already() -> None:
    text = network("stem = conv(8, bias = true) -> norm", "head = spike")
    allowed = text
    while fixes := [fix for fix in all_fixes(allowed) if fix.title.startswith("allow")]:
        allowed = edited(allowed, fixes[0].edits)
    assert allowed != text
    assert not analyse(allowed).diagnostics
    assert "\n  # allow W0205\n  stem = conv(8, bias = true) -> norm\n" in allowed


def test_fixes_are_of_the_place_asked_about() -> None:
    text = network("stem = cnov(8)", "head = avgpol")
    at = text.index("avgpol") + 2
    assert [fix.title for fix in code_fixes(analyse(text), at, at)] == ["write `avgpool`"]


def test_hints_are_texts_that_can_be_copied() -> None:
    found = did_you_mean("cnov", ["conv"])
    assert isinstance(found, Hint)
    for hint in (found, Hint("do")):
        for other in (copy.deepcopy(hint), pickle.loads(pickle.dumps(hint))):
            assert other == hint
