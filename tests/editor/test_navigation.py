"""Definitions, references, renaming, over several files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax import tree as s
from danetc.editor import Analysis, analyse
from danetc.editor.navigation import RenameRefused, definition, edited, references, rename
from danetc.editor.open_files import OpenFiles
from tests.editor.marked import at_cursor, network
from tests.editor.soaking import Soak

BLOCKS = "use std\nblock fire(width, kernel = 3) { out = in -> conv(width, kernel = kernel) -> norm -> spike }\n"


@pytest.fixture
def files(tmp_path: Path) -> OpenFiles:
    """`blocks.danet` open, `user.danet` open, `other.danet` on disk alone."""
    files = OpenFiles([str(tmp_path)])
    files.change(str(tmp_path / "blocks.danet"), BLOCKS)
    user = 'use "blocks.danet"\n' + network(
        "out = in -> fire(8, kernel = 5) -> avgpool -> linear(2)"
    )
    files.change(str(tmp_path / "user.danet"), user)
    (tmp_path / "other.danet").write_text('use "blocks.danet"\nblock two = fire(16)\n')
    return files


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


def test_a_use_leads_to_its_file(files: OpenFiles) -> None:
    user = opened(files, "user")
    found = definition(user, user.text.index("blocks"))
    assert found.source.name == opened(files, "blocks").source.name


def test_references_are_found_over_files(files: OpenFiles) -> None:
    blocks = opened(files, "blocks")
    at = blocks.text.index("fire")
    found = references(blocks, at, list(files.mentioning("fire")))
    assert sorted(Path(span.source.name).name for span in found) == [
        "blocks.danet", "other.danet", "user.danet",
    ]  # fmt: skip
    uses = references(blocks, at, list(files.mentioning("fire")), definitions=False)
    assert len(uses) == 2
    kernel = blocks.text.index("kernel")
    names = [Path(span.source.name).name for span in references(blocks, kernel, files.others(""))]
    assert sorted(names) == ["blocks.danet", "blocks.danet", "user.danet"]


def test_a_name_is_changed_in_all_files(files: OpenFiles) -> None:
    user = opened(files, "user")
    edits = rename(user, user.text.index("fire(8"), "burst", list(files.mentioning("fire")))
    assert {Path(edit.span.source.name).name for edit in edits} == {
        "blocks.danet", "other.danet", "user.danet",
    }  # fmt: skip
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
    with pytest.raises(RenameRefused) as refused:
        rename(analysis, offset, name)
    assert why in str(refused.value)


def test_a_name_of_a_file_that_is_not_there_is_refused(files: OpenFiles) -> None:
    user = opened(files, "user")
    with pytest.raises(RenameRefused, match="open it first"):
        rename(user, user.text.index("fire(8"), "burst")


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


def test_symbols_of_all_files_are_found(files: OpenFiles) -> None:
    found = {item.name for item in files.workspace_symbols("fr")}
    assert found == {"fire"}
    assert {item.name for item in files.workspace_symbols("")} == {"fire", "small", "two"}


# -- a few of the random edits of `make edits` -----------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_random_edits_are_answered(seed: int) -> None:
    Soak(random.Random(seed)).run(10)
