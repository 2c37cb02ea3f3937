"""Definitions, references and renaming over several files, and analyses that are reused after an edit."""

import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pytest

from danetc.dsl import work
from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.editor.analysis import Analysis, analyse
from danetc.editor.hints import inlay_hints
from danetc.editor.navigation import RenameRefused, definition, edited, references, rename
from danetc.editor.open_files import OpenFiles
from danetc.editor.problems import problems
from tests.editor.marked import at_cursor, network
from tests.editor.soaking import Soak

BLOCKS = "use std\nblock fire(width, kernel = 3) { out = in -> conv(width, kernel = kernel) -> norm -> spike }\n"


@pytest.fixture
def files(tmp_path: Path) -> OpenFiles:
    """`blocks.danet` open, `user.danet` open, `other.danet` only on disk."""
    files = OpenFiles([str(tmp_path)])
    files.change(str(tmp_path / "blocks.danet"), BLOCKS)
    user = 'use "blocks.danet"\n' + network(
        "out = in -> fire(8, kernel = 5) -> avgpool -> linear(2)"
    )
    files.change(str(tmp_path / "user.danet"), user)
    (tmp_path / "other.danet").write_text('use "blocks.danet"\nblock two = fire(16)\n')
    return files


ALL = ["blocks.danet", "other.danet", "user.danet"]


def named(spans: Iterable[Span]) -> list[str]:
    return [Path(span.source.name).name for span in spans]


def opened(files: OpenFiles, word: str) -> Analysis:
    return files.analysis(next(name for name in files.names if word in name))


@pytest.mark.parametrize("name", list(shipped_specs())[::4])
def test_every_name_of_a_shipped_spec_means_something(name: str) -> None:
    location = shipped_specs()[name]
    analysis = analyse(location.read_text(encoding="utf-8"), str(location))
    known = {one.span for one in analysis.meanings.occurrences}
    names = [node for node in s.walk(analysis.program) if isinstance(node, s.Name | s.UseName)]
    assert [node.id for node in names if node.span not in known] == []


@pytest.mark.parametrize(
    ("marked", "line", "word"),
    [
        (network("a = in -> conv(8)", "out = |a -> avgpool"), "a = in -> conv(8)", "a"),
        (network("stem = spi|ke"), "neuron = LIF", "neuron"),
        (network("stem = |LIF(tau = 3.0)"), "neuron LIF(tau = 2.0, ", "LIF"),
        (network("stem = LIF(ta|u = 3.0)"), "neuron LIF(tau = 2.0, ", "tau"),
        ("network n { input = inputs(rgb = image(3, 8, 8)); out = |rgb -> relu }", "network n { input = inputs(rgb = ", "rgb"),
        ("neuron n { state u = 0; v = |u + x; s = v; u = v }", "neuron n { state u = 0; ", "u"),
        ("network n { out = sum(in -> conv(|j) for j in 1 .. 2) }", "network n { out = sum(in -> conv(j) for ", "j"),
        ("rule r { in[i] = sum(out[|j] for j in 0 .. i-1); result = out[n-1] }", "rule r { in[i] = sum(out[j] for ", "j"),
        ("use std\nrecipe r { phase a { epochs = 1 }; phase b { epochs = 2; start = |a } }", "recipe r { phase a { ", "a"),
        (network("stem = conv(8)") + "network b = small { out = in -> st|em }", "stem = conv(8)", "stem"),
    ],
)  # fmt: skip
def test_a_definition_is_found(marked: str, line: str, word: str) -> None:
    found = definition(*at_cursor(marked))
    assert found.text == word
    assert found.source.line(found.line).strip().startswith(line.strip())


def test_names_of_the_language_have_no_definition() -> None:
    for marked in (network("stem = co|nv(8)"), "rule r { in[|i] = out[i-1]; result = out[n-1] }"):
        assert definition(*at_cursor(marked)) is None


def test_references_and_symbols_are_found_over_files(files: OpenFiles) -> None:
    assert {item.name for item in files.workspace_symbols("fr")} == {"fire"}
    assert {item.name for item in files.workspace_symbols("")} == {"fire", "small", "two"}
    user = opened(files, "user")
    found = definition(user, user.text.index("blocks"))
    assert found.source.name == opened(files, "blocks").source.name
    blocks = opened(files, "blocks")
    at = blocks.text.index("fire")
    found = references(blocks, at, list(files.mentioning("fire")))
    assert sorted(named(found)) == ALL
    uses = references(blocks, at, list(files.mentioning("fire")), definitions=False)
    assert len(uses) == 2
    kernel = blocks.text.index("kernel")
    names = named(references(blocks, kernel, files.others("")))
    assert sorted(names) == ["blocks.danet", "blocks.danet", "user.danet"]


def test_a_name_is_changed_in_all_files(files: OpenFiles) -> None:
    user = opened(files, "user")
    with pytest.raises(RenameRefused, match="open it first"):
        rename(user, user.text.index("fire(8"), "burst")
    edits = rename(user, user.text.index("fire(8"), "burst", list(files.mentioning("fire")))
    assert {*named(edit.span for edit in edits)} == {*ALL}
    own = [edit for edit in edits if edit.span.source.name == user.source.name]
    assert edited(user.text, own) == user.text.replace("fire(8", "burst(8")


@pytest.mark.parametrize(
    ("marked", "name", "after"),
    [
        ("block b(|w) = conv(w, kernel = 3)\nblock c = b(w = 3)\n", "width", "block b(width) = conv(width, kernel = 3)\nblock c = b(width = 3)\n"),
        ("rule r { in[i] = sum(out[j] for |j in 0 .. i-1); result = out[n-1] }", "k", "rule r { in[i] = sum(out[k] for k in 0 .. i-1); result = out[n-1] }"),
        ("neuron n { state |u = 0.0; v = u + x; s = v; u = v }", "m", "neuron n { state m = 0.0; v = m + x; s = v; m = v }"),
        ("connection c { each = conv -> |gate; gate = relu; out = branch }", "act", "connection c { each = conv -> act; act = relu; out = branch }"),
    ],
)  # fmt: skip
def test_a_name_of_one_declaration_is_changed(marked: str, name: str, after: str) -> None:
    analysis, offset = at_cursor(marked)
    assert edited(analysis.text, rename(analysis, offset, name)) == after


@pytest.mark.parametrize(
    ("marked", "name", "why"),
    [
        (network("stem = co|nv(8)"), "x", "name of the language"),
        (network("stem = L|IF"), "x", "standard library"),
        ("block |b = conv(8)", "my block", "cannot be a name"),
        ("block |b = conv(8)\nblock c = conv(8)", "c", "declared twice"),
        ("use std\nblock |b = conv(8)", "LIF", "LIF"),
        ("block b(|v, w) = conv(v + w)", "w", "w"),
        ("block b(|v) { a = in -> conv(v); out = a -> conv(v) }", "a", "a"),
        ("neuron n { state |u = 0.0; v = u + x; s = v; u = v }", "x", "x"),
        ("rule r(k = 3) { in[i] = sum(out[j - k] for |j in k .. i); result = out[n-1] }", "k", "k"),
        ("block b { |a = in -> relu; out = a -> relu }", "relu", "relu"),
    ],
)
def test_a_clash_is_refused(marked: str, name: str, why: str) -> None:
    analysis, offset = at_cursor(marked)
    with pytest.raises(RenameRefused, match=why):
        rename(analysis, offset, name)


def test_open_texts_go_before_those_on_disk(files: OpenFiles, tmp_path: Path) -> None:
    blocks, user = tmp_path / "blocks.danet", str(tmp_path / "user.danet")
    assert not files.analysis(user).survey.errors
    blocks.write_text("block other = conv(8)\n")
    files.disk_changed()
    assert not files.analysis(user).survey.errors
    files.change(str(blocks), BLOCKS.replace("fire", "burst"))
    (error,) = files.analysis(user).survey.errors
    assert (error.code, error.hint) == ("E0210", None) or "fire" in error.message
    assert files.dependents(str(blocks)) == (user,)
    files.close(str(blocks))
    assert "fire" in files.analysis(user).survey.errors[0].message
    assert files.analysis(user) is files.analysis(user)


# -- a few of the random edits of `make edits` -----------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_random_edits_are_answered(seed: int) -> None:
    Soak(random.Random(seed)).run(10)


# -- an edit reuses unchanged networks, and the editor shows the same as without reuse ------------


TWO = (
    "use std\n\nblock fire(width) { out = in -> conv(width) -> norm -> spike }\n\n"
    + network("out = in -> fire(8) -> avgpool -> linear(classes)").removeprefix("use std\n")
    + network("stem = conv(8, kernel = 4) -> norm -> spike", "head = avgpool").replace(
        "use std\n\nnetwork small", "\nnetwork other"
    )
)
WORDS = ("fire", "conv", "8", "(", ")", "->", " = ", "spike", "norm", "{", "}", "\n", "# x\n", "in")


def shown(analysis: Analysis) -> object:
    """Everything that an editor shows of the values and problems of a file."""
    survey = analysis.survey
    notes = {
        name: [(span.start, span.end, id) for span, id, _ in trace.notes]
        for name, trace in survey.traces.items()
    }
    origins = {
        name: [asdict(each.origin) for each in (*item.graph.nodes.values(), *item.graph.stages)]
        for name, item in survey.lowered.items()
    }
    return [asdict(item) for item in problems(analysis)], inlay_hints(analysis), notes, origins


def edit(before: Analysis, old: str, new: str) -> tuple[Analysis, set[str]]:
    """Return the analysis after an edit, and the networks that were reused."""
    text = before.text.replace(old, new, 1)
    assert text != before.text
    earlier = before.survey.traces
    after = analyse(text, before=before)
    assert shown(after) == shown(analyse(text))
    kept = after.survey.traces.keys() & earlier.keys()
    return after, {each for each in kept if after.survey.traces[each].nodes is earlier[each].nodes}


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
    block = "block fire(width) { out = in -> conv(width) -> norm -> spike }\n"
    text = TWO.replace("use std\n", 'use std\nuse "other.danet"\n', 1).replace(block, "")
    name, other = f"{tmp_path}/main.danet", f"{tmp_path}/other.danet"
    block = f"use std\n{block}"
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
