"""Networks that an edit left alone are taken from the check before: what comes out is the same."""

from __future__ import annotations

import random

import pytest

from danetc.editor import Analysis, analyse
from danetc.editor.hints import inlay_hints
from danetc.editor.problems import problems
from tests.editor.marked import network

TWO = (
    "use std\n\nblock fire(width) { out = in -> conv(width) -> norm -> spike }\n\n"
    + network("out = in -> fire(8) -> avgpool -> linear(classes)").removeprefix("use std\n")
    + network("stem = conv(8, kernel = 4) -> norm -> spike", "head = avgpool")
    .removeprefix("use std\n")
    .replace("network small", "network other")
)


def told(analysis: Analysis) -> object:
    """All that an editor shows of the values and problems of a file."""
    return (
        [(item.code, item.message, item.span.start, item.span.end, item.hint,
          [(label.span.start, label.text) for label in item.labels],
          [[(edit.span.start, edit.text) for edit in fix.edits] for fix in item.fixes])
         for item in problems(analysis)],
        [(hint.offset, hint.text, hint.tooltip) for hint in inlay_hints(analysis)],
        {name: [(note.span.start, note.span.end, note.id) for note in trace.notes]
         for name, trace in analysis.survey.traces.items()},
    )  # fmt: skip


def edit(text: str, old: str, new: str, before: Analysis) -> tuple[str, Analysis]:
    text = text.replace(old, new, 1)
    after = analyse(text, after=before)
    assert told(after) == told(analyse(text))
    return text, after


def test_an_edit_leaves_what_it_does_not_reach() -> None:
    first = analyse(TWO)
    assert [item.code for item in problems(first)] == ["W0103", "W0202"]
    kept = dict(first.survey.lowered)
    text, second = edit(TWO, "use std\n", "use std\n# a comment\n", first)
    assert all(second.survey.traces[name].nodes is first.survey.traces[name].nodes for name in kept)
    text, third = edit(text, "fire(8)", "fire(16)", second)
    assert third.survey.traces["small"].nodes is not second.survey.traces["small"].nodes
    assert third.survey.traces["other"].nodes is second.survey.traces["other"].nodes
    text, fourth = edit(text, "conv(width) ->", "conv(width) -> relu ->", third)
    assert fourth.survey.traces["small"].nodes is not third.survey.traces["small"].nodes
    assert fourth.survey.traces["other"].nodes is third.survey.traces["other"].nodes


def test_names_that_mean_something_else_now_are_looked_at() -> None:
    text, before = TWO, analyse(TWO)
    before.survey  # noqa: B018
    for old, new in (
        ("use std\n", "use std\nblock avgpool = conv(3)\n"),
        ("block avgpool = conv(3)\n", "neuron mine = LIF(tau = 3.0)\n"),
        ("neuron = LIF", "neuron = mine"),
        ("tau = 3.0", "tau = 5.0"),
        ("use std\n", ""),
        ("neuron mine", "use std\nneuron mine"),
        ("out = in -> conv", "out = in -> cnov"),
        ("cnov", "conv"),
        ("network small", "network smaller"),
    ):
        text, before = edit(text, old, new, before)


@pytest.mark.thorough
def test_random_edits_give_what_a_fresh_check_gives() -> None:
    draw = random.Random(0)
    words = [
        "fire",
        "conv",
        "8",
        "(",
        ")",
        "->",
        " = ",
        "spike",
        "norm",
        "{",
        "}",
        "\n",
        "# x\n",
        "in",
    ]
    text, before = TWO, analyse(TWO)
    for step in range(60):
        if step % 12 == 0:
            text = TWO
        start = draw.randrange(len(text))
        text = text[:start] + draw.choice(words) + text[start + draw.randrange(3) :]
        after = analyse(text, after=before)
        assert told(after) == told(analyse(text)), text
        before = after
