"""The preview: its network, its boxes, and the source position of each box."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from danetc.compiler.draw import LEVELS
from danetc.dsl.reading import find_spec
from danetc.editor.analysis import Analysis, analyse
from danetc.editor.preview import BoxPlaces, Preview, preview

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


def at(words: str, text: str = TEXT) -> int:
    assert words in text
    return text.index(words)


def shown_at(boxes: Mapping[str, BoxPlaces], offset: int) -> set[str]:
    """The boxes that an editor marks: those with the shortest span around the cursor."""
    around = [
        (span.end - span.start, key)
        for key, places in boxes.items()
        for span in places.spans
        if span.start <= offset <= span.end
    ]
    least = min(around, default=(0, ""))[0]
    return {key for length, key in around if length == least}


def place(preview: Preview, key: str) -> str:
    found = preview.boxes[key].place
    return found.text


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


def test_a_click_on_a_stage_or_a_block_leads_to_its_stage(analysis: Analysis) -> None:
    found = preview(analysis, 0, "stage")
    assert place(found, "s0b1") == "stage(own(8), 2)"
    assert place(found, "s1b0") == "stage(basic(16), 2, stride = 2)"
    assert place(preview(analysis, 0, "network"), "s1") == "stage(basic(16), 2, stride = 2)"
    (stem,) = [key for key in found.boxes if place(found, key).startswith("conv(8)")]
    assert stem.startswith("g")


def test_the_cursor_leads_to_boxes(analysis: Analysis) -> None:
    boxes = preview(analysis, 0, "stage").boxes
    assert shown_at(boxes, at("stage(own")) == {"s0b0", "s0b1"}
    assert shown_at(boxes, at("stage(basic")) == {"s1b0", "s1b1"}
    assert shown_at(boxes, at("conv(width, stride")) == {"s0b0", "s0b1"}
    assert shown_at(boxes, at("use std")) == set()
    (head,) = shown_at(boxes, at("linear(10)"))
    assert place(preview(analysis, 0, "stage"), head) == "avgpool"
    operations = preview(analysis, 0, "op").boxes
    sums = shown_at(operations, at("branch + shortcut"))
    assert sums
    assert all(key.startswith("s0") for key in sums)


def test_a_box_that_another_file_writes_leads_there() -> None:
    path = find_spec("danet_c_r50")
    found = preview(analyse(path.read_text("utf-8"), str(path)), 0, "stage").boxes
    stem = next(places for key, places in found.items() if key.startswith("g"))
    assert stem.place is None
    assert stem.written.source.name.endswith("imagenet.danet")
    assert found["s0b0"].place is not None
    assert found["s0b0"].place.text.startswith("resnet50")


def test_the_network_is_that_of_the_cursor(analysis: Analysis) -> None:
    assert [*preview(analysis, 0).networks] == ["first", "second"]
    assert preview(analysis, 0).network == "first"
    assert preview(analysis, at("kernel = 5")).network == "second"
    assert preview(analysis, 0, network="second").network == "second"
    assert preview(analysis, 0, network="gone").network == "first"
    assert preview(analysis, at("stem = conv(8) "), network="second").network == "first"


def test_themes_and_levels(analysis: Analysis) -> None:
    light, dark = (preview(analysis, 0, theme=theme).svg for theme in ("light", "dark"))
    assert "#0d1117" in dark
    assert "#0d1117" not in light
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
