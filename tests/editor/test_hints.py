"""Inlay hints (shapes and kinds along flows) and hover, also in files with errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from danetc import compiler
from danetc.compiler.frontend.program import Checking
from danetc.compiler.lowering.builder import Trace
from danetc.compiler.lowering.stages import StageBuilder
from danetc.dsl.loading import standard
from danetc.dsl.reading import find_spec, read_source
from danetc.dsl.syntax.source import SourceFile
from danetc.editor import Analysis, analyse
from danetc.editor.hints import PlaceValues, inlay_hints
from danetc.editor.hover import hover
from tests.editor.marked import at_cursor, network


def hinted(analysis: Analysis, *others: Analysis) -> list[tuple[str, str]]:
    """The word before each hint, and the hint."""
    found = []
    for hint in inlay_hints(analysis, others):
        line = analysis.text[: hint.offset].rpartition("\n")[2]
        found.append((line.rpartition("->")[2].rpartition(" = ")[2].strip(), hint.text))
    return found


def test_a_hint_stands_where_shape_or_kind_changes() -> None:
    text = network(
        "stem = conv(64, kernel = 7, stride = 2) -> norm -> spike -> maxpool(3, stride = 2)",
        "stages = stage(basic(64), 2) via sew",
        "head = avgpool -> mean_over_time -> linear(classes)",
    )
    assert hinted(analyse(text)) == [
        ("image(3, 32, 32)", "3 x 32 x 32 analog"),
        ("2)", "64 x 16 x 16 analog"),
        ("spike", "64 x 16 x 16 spike"),
        ("2)", "64 x 8 x 8 spike"),
        ("stage(basic(64), 2) via sew", "64 x 8 x 8 in 0 .. 3"),
        ("avgpool", "64 x 1 x 1 in 0 .. 192 of 1/64"),
        ("mean_over_time", "64 x 1 x 1 analog"),
        ("linear(classes)", "10 analog"),
    ]


def test_a_block_has_the_values_of_its_first_use_and_says_so() -> None:
    block = "block fire(width) { out = in -> conv(width) -> norm -> spike }\n"
    text = block + network("out = in -> fire(8) -> fire(16) -> avgpool -> linear(classes)")
    first, second, *_ = inlay_hints(analyse(text))
    assert first.text == "8 x 32 x 32 analog (1st of 2)"
    assert second.text == "8 x 32 x 32 spike (1st of 2)"
    alike = block + network("out = in -> fire(3) -> fire(3) -> avgpool -> linear(classes)")
    assert inlay_hints(analyse(alike))[0].text == "3 x 32 x 32 spike"


def test_a_value_is_told_of_once_behind_parentheses() -> None:
    lines = ("f = shared(conv(8) -> norm -> spike)", "out = in -> f -> avgpool -> linear(classes)")
    found = [word for word, text in hinted(analyse(network(*lines))) if text == "8 x 32 x 32 spike"]
    assert found == ["spike)", "f"]


def test_what_stands_before_an_error_keeps_its_hints() -> None:
    text = network("stem = conv(8) -> norm -> spike", "head = avgpool -> nothing -> linear(10)")
    found = hinted(analyse(text))
    assert ("conv(8)", "8 x 32 x 32 analog") in found
    assert ("spike", "8 x 32 x 32 spike") in found


def test_a_file_without_networks_has_the_hints_of_one_that_uses_it(tmp_path: Path) -> None:
    library = tmp_path / "blocks.danet"
    own = analyse("block fire(width) { out = in -> conv(width) }\n", str(library))
    text = 'use "blocks.danet"\n' + network("out = in -> fire(8) -> avgpool -> linear(classes)")
    user = analyse(text, str(tmp_path / "user.danet"), {str(library.resolve()): own.text})
    assert not user.survey.errors
    assert hinted(own) == []
    assert hinted(own, user) == [("conv(width)", "8 x 32 x 32 analog")]


@pytest.mark.parametrize("name", ["danet_c_r50", "zoo/spikformer", "zoo/glif"])
def test_a_traced_check_comes_out_as_one_without(name: str) -> None:
    source = read_source(find_spec(name))
    graphs = compiler.check_source(source).graphs
    found = Checking(source).survey({})
    assert {key: str(graph) for key, graph in found.checked.graphs.items()} == {
        key: str(graph) for key, graph in graphs.items()
    }
    for key, trace in found.traces.items():
        for _, id, _ in trace.notes:  # what was taken back leaves no note
            value = trace.nodes[id].value
            assert value == graphs[key].nodes.get(id, trace.nodes[id]).value


def test_copies_of_a_block_have_the_values_that_lowering_each_would_give() -> None:
    text = (
        "block fire(width, stride = 1) { out = in -> conv(width, stride = stride) -> norm -> spike }\n"
        "connection added { out = branch + shortcut }\n"
        + network("stem = conv(8) -> norm -> spike", "stages = stage(fire(8), 5) via added")
    )
    analysis = analyse(text)
    assert not [item for item in analysis.diagnostics if item.severity == "error"]
    (joined,) = [line for line in analysis.program.declarations if line.name == "added"]
    at = PlaceValues(analysis).at(joined.body[0].value.span)  # type: ignore[union-attr]
    assert [str(each.value.kind) for each in at] == [f"0 .. {n}" for n in range(2, 7)]
    assert [each.scope for each in at] == [f"stages.0.blocks.{i}" for i in range(5)]
    assert [each.neurons() for each in at] == [(n + 1, 8 * 32 * 32 * (n + 1)) for n in range(1, 6)]


# -- hover: what a name is, and the value that stands there ----------------------------------------


def text_at(marked: str) -> str:
    analysis, offset = at_cursor(marked)
    found = hover(analysis, offset)
    return "" if found is None else found.markdown


STEM = "stem = conv(64, kernel = 7, stride = 2) -> norm -> spike"


@pytest.mark.parametrize(
    ("marked", "says"),
    [
        (STEM.replace("conv", "co|nv"), ["64 x 16 x 16 analog", "from 3 x 32 x 32 analog", "no neurons so far", "convolution", "height and width of the kernel"]),
        (STEM.replace("kernel", "ker|nel"), ["height and width of the kernel", "argument of* `conv`"]),
        (STEM.replace("spike", "spi|ke"), ["64 x 16 x 16 spike", "1 layer of neurons so far, 16,384 neurons", "neuron"]),
        (STEM.replace("64", "6|4"), ["64 x 16 x 16 analog"]),
        (STEM.replace("stem", "st|em"), ["64 x 16 x 16 spike", "setting of* `small`"]),
        ("neuron = L|IF", ["v = (1 - 1 / tau) * u", "*neuron*"]),
        ("head = linear(cla|sses)", ["classes = 10", "parameter of* `small`"]),
        ("stages = stage(basic(8), 1) v|ia origin", ["ires the blocks of a backbone"]),
        ("stages = stage(basic(8), 1) via ori|gin", ["projection = conv -> norm", "*connection*"]),
        ("stem = sum(over = chan|nels)", ["First axis"]),
    ],
)  # fmt: skip
def test_a_name_of_a_network_is_explained(marked: str, says: list[str]) -> None:
    found = text_at(network(marked))
    for each in says:
        assert each in found


def test_a_line_of_a_block_tells_of_all_its_uses() -> None:
    block = "block fire(width) { out = in -> conv(width) -> no|rm -> spike }\n"
    flow = "out = in -> fire(8) -> fire(16) -> fire(16) -> avgpool -> linear(classes)"
    found = text_at(block + network(flow))
    assert "the first of 3 uses" in found
    assert "- 8 x 32 x 32 analog: `fire`" in found
    assert "- 16 x 32 x 32 analog: `fire2` and 1 more" in found


@pytest.mark.parametrize(
    ("marked", "says"),
    [
        ("neuron N(tau = 2.0) { state u = 0.0; v = u + x / ta|u; s = heaviside(v) }", "tau = 2.0"),
        ("neuron N { state u = 0.0; v = |u + x; s = heaviside(v); u = v }", "state u = 0.0"),
        ("neuron N { s = heavi|side(x) }", "heaviside"),
        ("rule r { in[i] = out[i-1]; result = out[|n-1] }", "number of blocks"),
        ("rule r { in[i] = sum(out[|j] for j in 0 .. i-1); result = out[n-1] }", "variable"),
        ("network n { out = sum(in -> conv(|j) for j in 1 .. 2) }", "variable"),
        ("recipe r { epo|chs = 3; optimizer = adamw(lr = 0.1) }", "asses over"),
        ("recipe r { epochs = 3; optimizer = adamw(l|r = 0.1) }", "learning rate"),
        ("recipe r { epochs = 3; loss = tet(wei|ght = 0.1) }", "squared error"),
        ("# Mine.\nblock fi|re = conv(8)", "Mine."),
        ("net|work n { out = in }", "declares"),
    ],
)
def test_a_name_of_anything_else_is_explained(marked: str, says: str) -> None:
    assert says.casefold() in text_at("use std\n" + marked + "\n").casefold()


def test_every_name_of_the_library_is_explained() -> None:
    text = "use std (" + ", ".join(sorted(standard())) + ")\n"
    analysis = analyse(text)
    for name in standard():
        place = text.index(f"{name},") if f"{name}," in text else text.index(f"{name})")
        found = hover(analysis, place + 1)
        assert found is not None, name
        assert name in found.markdown


def test_comments_and_blank_lines_have_no_hover() -> None:
    assert text_at("use std\n|\n") == ""
    assert text_at("# a com|ment\n") == ""


def test_an_editor_sees_copied_blocks_as_built_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of a stage, with the values of its own nodes."""
    text = (
        "use std\nblock own(c) = conv(c) -> conv(c, kernel = 1)\n"
        "network n { input = image(3, 16, 16); stem = conv(8) -> norm -> spike; neuron = IF; surrogate = sigmoid\n"
        "  stages = (stage(own(8), 4) -> stage(own(8), 3)) via origin by densely_additive\n"
        "  head = avgpool -> linear(10) }\n"
    )

    source = SourceFile("a.danet", text)

    def traced() -> Trace:
        survey = Checking(source).survey({})
        assert not survey.errors
        return survey.traces["n"]

    copied = traced()
    monkeypatch.setattr(StageBuilder, "_part", lambda self, bound: None)
    built = traced()
    assert copied.nodes == built.nodes
    assert copied.notes == built.notes
    inner = [id for span, id, _ in built.notes if span.text == "conv(c, kernel = 1)"]
    assert len({*inner}) == 7
