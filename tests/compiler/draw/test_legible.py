"""Nothing overlaps and nothing is cut off, whatever usual font the picture is seen in."""

from __future__ import annotations

from itertools import combinations

import pytest

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.draw import LEVELS, compare, draw
from danetc.compiler.draw.block import op_level
from danetc.compiler.draw.stage import stage_level
from danetc.compiler.draw.theme import DARK, LIGHT, Palette, text_width
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.compiler.draw.pictures import (
    Area,
    canvas,
    crossed,
    curve,
    font_of,
    groups,
    outline,
    read,
    text_area,
    texts,
)
from tests.compiler.draw.test_edges import check_feeds
from tests.differential.networks import VARIETY
from tests.fuzzing.generate import spec

SHIPPED = (
    *("danet_c_r50", "danet_a_r152", "danet_c_small", "ms_resnet104"),
    *("spiking_densenet201", "own_connection", "own_neuron", "own_rule"),
)
COMPARED = ("origin_r18", "tdbn_r18", "baa_r18", "sew_r18", "danet_a_r18", "danet_b_r18")


def problems(svg: bytes) -> list[str]:
    """What a reader would stumble over."""
    root = read(svg)
    page = canvas(root)
    words = texts(root)
    found = [f"cut off: {text.text}" for text in words if not page.holds(text)]
    # Texts are sorted by height, so that only neighbours have to be compared.
    words.sort(key=lambda text: text.top)
    for i, one in enumerate(words):
        for other in words[i + 1 :]:
            if other.top >= one.bottom:
                break
            if one.overlaps(other):
                found.append(f"overlap: {one.text} / {other.text}")
    solid: list[Area] = []
    boxes: dict[str, Area] = {}
    for group in groups(root, "node"):
        box, is_piece, _ = group.attrib["id"].partition(".piece")
        shapes = [area for child in group if (area := outline(child)) is not None]
        inside = [text_area(child) for child in group if child.tag.endswith("text")]
        if is_piece:  # of a formula, behind its box
            around = boxes.get(box, page)
            found += [f"leaves its box: {t.text}" for t in inside if not around.holds(t, 1.5)]
        if is_piece or not shapes:
            continue
        around = max(shapes, key=lambda area: area.right - area.left)
        boxes[box] = around
        found += [f"leaves its box: {text.text}" for text in inside if not around.holds(text)]
        if inside:
            solid.append(Area(around.left, around.top, around.right, around.bottom, inside[0].text))
    found += [
        f"boxes overlap: {one.text} / {other.text}"
        for one, other in combinations(solid, 2)
        if one.overlaps(other)
    ]
    lines = [
        curve(child)
        for group in groups(root, "edge")
        for child in group
        if child.tag.endswith("path")
    ]
    cores = [Area(t.left + 1, t.top + 1, t.right - 1, t.bottom - 1, t.text) for t in words]
    found += [f"a wire crosses: {text}" for text in crossed(lines, cores)]
    for x, y in (point for line in lines for point in line):
        if not page.holds(Area(x, y, x, y)):
            found.append(f"a wire leaves the picture at {x}, {y}")
    return found


def graph(name: str) -> Graph:
    return graph_of(check_file(name))


KINDS = (
    *("sew_densely_additive_all", "sew_iand", "inception", "window", "functions", "dropped"),
    *("own_neurons", "mixed", "vgg", "unet", "poisson", "readout"),
)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [*SHIPPED, *KINDS])
def test_networks_of_all_kinds(name: str) -> None:
    network = graph(name) if name in SHIPPED else graph_of(check_text(f"use std\n{VARIETY[name]}"))
    for level in LEVELS:
        if level == "block" and not network.stages:  # then there is no wiring to show
            continue
        assert problems(draw(network, level)) == [], level


PARTS, CASES = 2, 4


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(PARTS))
def test_generated_networks(part: int) -> None:
    seen, number = 0, 1000 * part
    while seen < CASES:
        number += 1
        try:
            checked = check_text(spec(number))
        except SpecError:
            continue
        graph = graph_of(checked, checked.networks[0])
        if len(graph.nodes) > 80 or not graph.stages or not graph.neurons:
            continue
        seen += 1
        for level in LEVELS:
            assert problems(draw(graph, level)) == [], (number, level)
        check_feeds(graph, stage_level(graph))
        check_feeds(graph, op_level(graph))


def test_connections_side_by_side() -> None:
    assert problems(compare([graph(name) for name in COMPARED])) == []


# -- widths, kinds and colours --------------------------------------------------------------------


@pytest.mark.parametrize("bold", [False, True])
def test_text_is_never_wider_than_it_was_taken_for(bold: bool) -> None:
    font = font_of(bold)
    for code in [*range(32, 127), *map(ord, "·–−×→…∂′é√≤≥≠¬∧∨αβγδεζηθικλμνξπρστυφχψω")]:
        text = chr(code)
        assert text_width(text, 1000, bold) >= font.getlength(text) - 1, text


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_colours_can_be_told_from_what_is_behind_them(colours: Palette) -> None:
    assert len(set(colours.values())) == len(colours)
    for behind in ("paper", "frame", "inner", "box", "norm", "neuron", "interblock", "join"):
        assert contrast(colours["ink"], colours[behind]) >= 4.5, behind
    for behind in ("paper", "frame", "inner", "box"):
        assert contrast(colours["quiet"], colours[behind]) >= 4.5, behind
    for line in ("spike", "count", "analog", "neuron_line"):
        for behind in ("paper", "frame", "inner"):
            assert contrast(colours[line], colours[behind]) >= 3.0, line
