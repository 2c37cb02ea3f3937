"""An edit reuses the networks that it leaves unchanged, and the editor shows the same as without."""

from __future__ import annotations

import random

import pytest

from danetc.dsl import work
from danetc.editor.analysis import Analysis, analyse
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
WORDS = ("fire", "conv", "8", "(", ")", "->", " = ", "spike", "norm", "{", "}", "\n", "# x\n", "in")


def shown(analysis: Analysis) -> object:
    """All that an editor shows of the values and problems of a file."""
    survey = analysis.survey
    return (
        [
            (
                item.code,
                item.message,
                item.hint,
                [(span.source.text, span.start, span.end) for span in (item.span, *(label.span for label in item.labels))],
                [[(edit.span.start, edit.text) for edit in fix.edits] for fix in item.fixes],
            )
            for item in problems(analysis)
        ],
        [(hint.offset, hint.text, hint.tooltip) for hint in inlay_hints(analysis)],
        {
            name: [(span.start, span.end, id) for span, id, _ in trace.notes]
            for name, trace in survey.traces.items()
        },
        {
            name: [
                (place.origin.source.name, place.origin.start)
                for place in (*item.graph.nodes.values(), *item.graph.stages)
            ]
            for name, item in survey.lowered.items()
        },
    )  # fmt: skip


def edit(before: Analysis, old: str, new: str) -> tuple[Analysis, set[str]]:
    """Return the analysis after an edit, and the networks that were reused."""
    text = before.text.replace(old, new, 1)
    assert text != before.text
    earlier = before.survey.traces
    after = analyse(text, before=before)
    assert shown(after) == shown(analyse(text))
    found = after.survey.traces
    kept = {
        name
        for name, trace in found.items()
        if name in earlier and trace.nodes is earlier[name].nodes
    }
    return after, kept


def test_an_edit_keeps_the_networks_that_it_does_not_reach() -> None:
    first = analyse(TWO)
    assert [item.code for item in problems(first)] == ["W0103", "W0202"]
    second, kept = edit(first, "use std\n", "use std\n# a comment\n")
    assert kept == {"small", "other"}
    third, kept = edit(second, "fire(8)", "fire(16)")
    assert kept == {"other"}
    fourth, kept = edit(third, "conv(width) ->", "conv(width) -> relu ->")
    assert kept == {"other"}
    _, kept = edit(fourth, "stem = conv(8, kernel = 4)", "stem = conv(9, kernel = 4)")
    assert kept == {"small"}


def test_a_check_that_was_not_needed_passes_on_the_one_before() -> None:
    first = analyse(TWO)
    nodes = first.survey.traces["other"].nodes
    skipped = analyse(TWO.replace("fire(8)", "fire(9)"), before=first)
    last = analyse(TWO.replace("fire(8)", "fire(16)"), before=skipped)
    assert last.survey.traces["other"].nodes is nodes


def test_names_with_a_new_meaning_are_checked_again() -> None:
    before = analyse(TWO)
    for old, new, kept in (
        ("use std\n", "use std\nblock avgpool = conv(3)\n", set[str]()),
        ("block avgpool = conv(3)\n", "neuron mine = LIF(tau = 3.0)\n", set()),
        ("neuron = LIF", "neuron = mine", {"other"}),
        ("tau = 3.0", "tau = 5.0", {"other"}),
        ("use std\n", "", set()),
        ("neuron mine", "use std\nneuron mine", set()),
        ("out = in -> conv", "out = in -> cnov", {"other"}),
        ("cnov", "conv", {"other"}),
        ("network small", "network smaller", {"other"}),
    ):
        before, found = edit(before, old, new)
        assert found == kept, (old, new)


def test_networks_that_read_another_file_are_checked_again(tmp_path: object) -> None:
    text = TWO.replace("use std\n", 'use std\nuse "other.danet"\n', 1).replace(
        "block fire(width) { out = in -> conv(width) -> norm -> spike }\n", ""
    )
    name = f"{tmp_path}/main.danet"
    other = f"{tmp_path}/other.danet"
    block = "use std\nblock fire(width) { out = in -> conv(width) -> norm -> spike }\n"
    before = analyse(text, name, {other: block})
    assert before.survey.lowered.keys() == {"small", "other"}
    after = analyse(text, name, {other: block.replace("norm", "norm -> relu")}, before)
    earlier, found = before.survey.traces, after.survey.traces
    assert found["other"].nodes is earlier["other"].nodes
    assert len(found["small"].nodes) == len(earlier["small"].nodes) + 1


def test_the_work_of_reused_networks_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, other = TWO.partition("network other")
    longer = f"{TWO}\nnetwork more{other}"
    steps = sum(trace.steps for trace in analyse(longer).survey.traces.values())
    monkeypatch.setattr(work, "BASE", steps - len(longer))
    first = analyse(TWO)
    assert not first.survey.errors
    for after in (analyse(longer), analyse(longer, before=first)):
        assert [item.code for item in after.survey.errors] == ["E0906"]


@pytest.mark.parametrize("seed", range(3))
def test_random_edits_show_what_a_fresh_check_shows(seed: int) -> None:
    draw = random.Random(seed)
    before = analyse(TWO)
    for step in range(20):
        text = before.text if step % 10 else TWO
        start = draw.randrange(len(text))
        text = text[:start] + draw.choice(WORDS) + text[start + draw.randrange(3) :]
        after = analyse(text, before=before)
        assert shown(after) == shown(analyse(text)), text
        before = after
