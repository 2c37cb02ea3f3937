"""Symbols, folding, semantic tokens, formatting and the preview, also in files with errors."""

import re
from collections.abc import Mapping

import pytest

from danetc.compiler.draw import LEVELS
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.reading import find_spec
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile
from danetc.editor.analysis import Analysis, analyse
from danetc.editor.navigation import edited
from danetc.editor.outline import OutlineSymbol, folds, semantic_tokens, symbols
from danetc.editor.positions import TextLines
from danetc.editor.preview import BoxPlaces, Preview, preview
from danetc.editor.problems import format_edits, problems
from tests.editor.marked import network

BROKEN = """use std

network a(k = 3) {
  input = image(3, 8, 8)
  steps = 2
  stem = conv(64, -> norm
  head = avgpool ->
}

neuron N(a = ) { s = x }

recipe r {
  epochs = 3
  phase first { steps = 1 }
  quick
}

network z {
  out = in ->
"""


def named(found: tuple[OutlineSymbol, ...]) -> list[tuple[str, str, list[str]]]:
    return [(item.kind, item.name, [child.name for child in item.children]) for item in found]


def test_a_file_with_errors_keeps_its_symbols() -> None:
    analysis = analyse(BROKEN)
    assert len(problems(analysis)) >= 4
    assert named(symbols(analysis)) == [
        ("network", "a", ["k", "input", "steps", "stem", "head"]),
        ("neuron", "N", []),
        ("recipe", "r", ["epochs", "first"]),
        ("network", "z", ["out"]),
    ]
    for item in symbols(analysis):
        assert item.name_span.text == item.name
        for child in item.children:
            assert item.span.start <= child.span.start < child.span.end <= item.span.end


def test_details_say_the_values() -> None:
    (found,) = symbols(analyse("neuron N(tau = 2.0) = LIF(tau = tau)\n"))
    assert (found.detail, found.children[0].detail) == ("neuron", "= 2.0")


def test_bodies_comments_and_uses_fold() -> None:
    text = "# one\n# two\nuse std\nuse std\n\n" + network("out = in", "  -> conv(3)") + "# last\n"
    analysis = analyse(text)
    lines = [
        (analysis.source.position(fold.start)[0], analysis.source.position(fold.end)[0], fold.kind)
        for fold in folds(analysis)
    ]
    assert lines == [(1, 2, "comment"), (3, 4, "imports"), (8, 15, "region")]


def test_what_is_wrong_in_a_used_file_stands_at_the_use() -> None:
    used = {"/nowhere/b.danet": "block b = ("}
    analysis = analyse('use "b.danet"\nuse std\n', "/nowhere/a.danet", used)
    (found,) = {item.code: item for item in problems(analysis)}.values()
    assert found.span.text == 'use "b.danet"'
    assert found.message.startswith("in b.danet: ")
    assert found.labels[0].span.source.name == "/nowhere/b.danet"


def test_positions_count_utf_16_units_and_know_every_line_end() -> None:
    text = "a\U0001f600b\r\nc\rd\n\u00e9e"
    lines = TextLines(text)
    assert [lines.position(i) for i in (0, 1, 2, 3, 5, 7, 9, 10)] == [
        (0, 0), (0, 1), (0, 3), (0, 4), (1, 0), (2, 0), (3, 0), (3, 1),
    ]  # fmt: skip
    for offset in range(len(text) + 1):
        if text[offset - 1 : offset + 1] != "\r\n":
            assert lines.offset(*lines.position(offset)) == offset
    assert lines.offset(0, 99) == 3 + 0
    assert lines.offset(99, 0) == len(text)
    assert [TextLines(text, "utf-8").position(i) for i in (2, 10)] == [(0, 5), (3, 2)]
    assert TextLines(text, "utf-8").offset(0, 5) == 2
    assert TextLines(text, "utf-32").position(2) == (0, 2)


def test_formatting_is_that_of_fmt() -> None:
    text = network("stem=conv(8)   ->  norm", "head   = avgpool  # last")
    (edit,) = format_edits(analyse(text))
    formatted = edited(text, [edit])
    assert formatted == format_source(parse(SourceFile("x", text), Reporter()))
    assert format_edits(analyse(formatted)) == ()
    assert format_edits(analyse(network("stem=conv(8"))) == (), "a syntax error"


def test_the_meaning_of_a_word_is_its_colour() -> None:
    text = (
        "use std\nneuron mine(tau = 2.0) { state u = 0.0; s = heaviside(u + x / tau) }  # mine\n"
        + network("stem = conv(8, over = time) -> mine(tau = 3.0)")
    )
    tokens = semantic_tokens(analyse(text))
    assert {
        ("neuron", "keyword", ()),
        ("mine", "struct", ("declaration",)),
        ("mine", "struct", ()),
        ("tau", "parameter", ("declaration",)),
        ("tau", "parameter", ()),
        ("u", "property", ("declaration",)),
        ("heaviside", "function", ("defaultLibrary",)),
        ("x", "variable", ("defaultLibrary", "readonly")),
        ("# mine", "comment", ()),
        ("conv", "function", ("defaultLibrary",)),
        ("time", "enumMember", ("defaultLibrary",)),
        ("LIF", "struct", ("defaultLibrary",)),
        ("8", "number", ()),
        ("->", "operator", ()),
    } <= {(token.span.text, token.type, token.modifiers) for token in tokens}


# -- the preview: its network, its boxes, and the source position of each box ----------------------


TEXT = """use std

neuron mine(tau = 2.0) {
  state u = 0.0
  v = u + (x - u) / tau
  s = heaviside(v - 1)
  u = v * (1 - s)
}

block own(width, stride = 1) = conv(width, stride = stride) -> conv(width)
connection joined { each = conv -> norm -> spike; out = branch + shortcut; projection = conv -> norm }

network first {
  input = image(3, 16, 16); steps = 2; neuron = mine; surrogate = atan
  stem = conv(8) -> norm -> spike
  stages = stage(own(8), 2) via joined -> stage(basic(16), 2, stride = 2) via sew by densely_additive
  head = avgpool -> mean_over_time -> linear(10)
}
network second = first { stem = conv(8, kernel = 5) -> norm -> spike }
"""


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(TEXT)


at = TEXT.index


def shown_at(boxes: Mapping[str, BoxPlaces], offset: int) -> set[str]:
    """The boxes that an editor marks: those with the shortest span around the cursor."""
    spans = [(span, key) for key, places in boxes.items() for span in places.spans]
    around = [(len(span.text), key) for span, key in spans if span.start <= offset <= span.end]
    return {key for length, key in around if length == min(around)[0]}


def place(preview: Preview, key: str) -> str:
    return preview.boxes[key].place.text


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("spec", ["danet_c_small", "own_neuron", "spiking_densenet121"])
def test_boxes_are_in_the_picture_and_lead_to_the_file(spec: str, level: str) -> None:
    path = find_spec(spec)
    read = analyse(path.read_text("utf-8"), str(path))
    found = preview(read, 0, level)
    assert (found.problem, found.level, found.network) == ("", level, spec)
    drawn = set(re.findall(r'<g id="([^"]*)" class="node"', found.svg))
    assert bool(found.boxes) == (level != "neuron")
    assert set(found.boxes) <= drawn
    for places in found.boxes.values():
        assert places.place is not None or places.written is not None
        for span in (places.place, *places.spans):
            assert span is None or span.source is read.source
        assert places.written is None or places.written.source is not read.source


def test_a_click_on_a_box_leads_to_the_text_and_the_cursor_to_boxes(analysis: Analysis) -> None:
    found = preview(analysis, 0, "stage")
    assert place(found, "s0b1") == "stage(own(8), 2)"
    assert place(found, "s1b0") == "stage(basic(16), 2, stride = 2)"
    assert place(preview(analysis, 0, "network"), "s1") == "stage(basic(16), 2, stride = 2)"
    (stem,) = [key for key in found.boxes if place(found, key).startswith("conv(8)")]
    assert stem.startswith("g")
    boxes = found.boxes
    assert shown_at(boxes, at("stage(own")) == {"s0b0", "s0b1"}
    assert shown_at(boxes, at("stage(basic")) == {"s1b0", "s1b1"}
    assert shown_at(boxes, at("conv(width, stride")) == {"s0b0", "s0b1"}
    assert shown_at(boxes, at("use std")) == set()
    (head,) = shown_at(boxes, at("linear(10)"))
    assert place(found, head) == "avgpool"
    operations = preview(analysis, 0, "op").boxes
    assert {key[:2] for key in shown_at(operations, at("branch + shortcut"))} == {"s0"}


def test_a_box_that_another_file_writes_leads_there() -> None:
    path = find_spec("danet_c_r50")
    found = preview(analyse(path.read_text("utf-8"), str(path)), 0, "stage").boxes
    stem = next(places for key, places in found.items() if key.startswith("g"))
    assert stem.place is None
    assert stem.written.source.name.endswith("imagenet.danet")
    assert found["s0b0"].place.text.startswith("resnet50")


def test_the_network_is_that_of_the_cursor(analysis: Analysis) -> None:
    assert [*preview(analysis, 0).networks] == ["first", "second"]
    assert preview(analysis, 0).network == "first"
    assert preview(analysis, at("kernel = 5")).network == "second"
    assert preview(analysis, 0, network="second").network == "second"
    assert preview(analysis, 0, network="gone").network == "first"
    assert preview(analysis, at("stem = conv(8) "), network="second").network == "first"
    light, dark = (preview(analysis, 0, theme=theme).svg for theme in ("light", "dark"))
    assert ("#0d1117" in light, "#0d1117" in dark) == (False, True)
    assert preview(analysis, 0, "none such").level == "stage"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "use std\nnetwork a { input = image(1, 8, 8); steps = 1; out = in -> conv(2) }\n",
            "a has no neurons to draw.",
        ),
        ("use std\n\nnetwork a { neuron = LIFF }", "Line 3: "),
        ("network a {", "Line 1: "),
        ("block b = conv(3)\n", "This file declares no network."),
    ],
)
def test_why_there_is_no_picture(text: str, problem: str) -> None:
    found = preview(analyse(text), 0, "neuron")
    assert found.problem.startswith(problem)
    assert (found.svg, found.boxes) == ("", {})
