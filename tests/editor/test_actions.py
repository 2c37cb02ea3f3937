"""Code actions: applying the fix of a hint removes its problem."""

from __future__ import annotations

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
"""Pages whose wrong example has a hint that an editor follows; it may only grow."""


def all_fixes(text: str) -> tuple[CodeFix, ...]:
    return code_fixes(analyse(text), 0, len(text))


def test_every_fix_of_every_page_leaves_less_to_fix() -> None:
    fixed: set[str] = set()
    for code in CODES.keys() - {"E0906"}:  # which takes seconds
        wrong = examples(code)[0]
        before = analyse(wrong)
        fixes = code_fixes(before, 0, len(wrong))
        for fix in fixes:
            found = analyse(edited(wrong, fix.edits)).diagnostics
            left = [item for item in found if item.code != "E0201"]  # no such file here
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
        ("stem = conv(.5)", "stem = conv(0.5)"),
        ("head = linear(over = tmie)", "head = linear(over = time)"),
        ("stem = nn.conv(8)", "stem = conv(8)"),
        ("stem = BN", "stem = norm"),
        ("stem = conv(8 kernel = 3)", "stem = conv(8, kernel = 3)"),
        ("norm = 'batchnorm'", 'norm = "batchnorm"'),
        ("stem = conv(8) // first", "stem = conv(8) # first"),
        ("stem = conv(8) -> -> norm", "stem = conv(8) -> norm"),
        ("stem stem = conv(8)", "stem = conv(8)"),
    ],
)
def test_a_wrong_line_becomes_the_right_one(wrong: str, right: str) -> None:
    lines = ["stem = spike", "head = avgpool"]
    name = right.partition(" ")[0]
    rest = [line for line in lines if not line.startswith(name)]
    text, wanted = network(*rest, wrong), network(*rest, right)
    assert wanted in [edited(text, fix.edits) for fix in all_fixes(text)]


def test_a_reserved_word_gets_an_underscore() -> None:
    text = "block for(width) = conv(width)\n"
    (fix,) = [fix for fix in all_fixes(text) if fix.problem.code == "E0113"]
    assert edited(text, fix.edits) == "block for_(width) = conv(width)\n"


def test_a_missing_brace_is_put_where_it_is_missing() -> None:
    text = network("stem = spike").removesuffix("}\n") + "\nblock b = conv(8)\n"
    (fix,) = [fix for fix in all_fixes(text) if fix.problem.code == "E0102"]
    assert edited(text, fix.edits) == network("stem = spike") + "\nblock b = conv(8)\n"
    short = "use std\nconnection c { out = branch"
    (fix,) = all_fixes(short)
    assert edited(short, fix.edits) == short + "\n}"


def test_a_line_is_added_in_the_style_of_its_body() -> None:
    net = network("stem = conv(8) -> norm -> spike", "stages = stage(basic(16), 1) via c")
    for body, wanted in (
        ("{ each = conv -> norm; out = branch + shortcut }",
         "{ each = conv -> norm; out = branch + shortcut; projection = conv -> norm }"),
        ("{\n  each = conv -> norm\n  out = branch + shortcut  # the join\n}",
         "{\n  each = conv -> norm\n  out = branch + shortcut  # the join\n  projection = conv -> norm\n}"),
    ):  # fmt: skip
        text = f"connection c {body}\n" + net
        (fix,) = [fix for fix in all_fixes(text) if fix.problem.code == "E0602"]
        assert fix.title == "add `projection = conv -> norm`"
        assert edited(text, fix.edits) == f"connection c {wanted}\n" + net
    for empty in ("{}", "{ }"):
        text = f"connection c {empty}\n" + net
        (fix,) = all_fixes(text)
        assert edited(text, fix.edits) == "connection c { out = branch + shortcut }\n" + net


def test_what_is_without_use_is_removed_with_its_line_if_it_has_one() -> None:
    used = {"/nowhere/b.danet": "block b = conv(3)\n"}
    for text, left in (
        ('use std\nuse "b.danet"  \nblock a = conv(3)\n', "use std\nblock a = conv(3)\n"),
        ('use "b.danet"', ""),
        ("use std\nnetwork n { input = image(3, 8, 8); norm = tdbn; out = in -> conv(8) }",
         "use std\nnetwork n { input = image(3, 8, 8); out = in -> conv(8) }"),
    ):  # fmt: skip
        fixes = code_fixes(analyse(text, "/nowhere/a.danet", used), 0, len(text))
        assert [edited(text, fix.edits) for fix in fixes if "remove" in fix.title] == [left]


def test_the_library_is_used_behind_the_comment_of_the_file() -> None:
    text = "# mine\n\nnetwork n { input = image(3, 8, 8); neuron = LIF; out = in -> spike }\n"
    fixed = {edited(text, fix.edits) for fix in all_fixes(text)}
    assert fixed == {text.replace("network", "use std\n\nnetwork")}


def test_nothing_of_the_library_is_edited() -> None:
    text = network(
        "stem = conv(8)", "stages = stage(basic(16), 1) via plain", "out = in -> nothing"
    )
    assert all(
        edit.span.source.name == "untitled.danet" for fix in all_fixes(text) for edit in fix.edits
    )


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
