"""Nothing overlaps and nothing is cut off, whichever usual font displays the picture."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib
import numpy as np
import pytest
from PIL import ImageFont

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.draw import LEVELS, compare, draw
from danetc.compiler.draw.block import op_level
from danetc.compiler.draw.stage import stage_level
from danetc.compiler.draw.theme import DARK, LIGHT, Palette, text_width
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.compiler.draw.test_edges import check_feeds
from tests.differential.networks import VARIETY
from tests.fuzzing.generate import spec

SVG = "{http://www.w3.org/2000/svg}"
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache
def font_of(bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONTS / f"DejaVuSans{'-Bold' * bold}.ttf", 1000)


@dataclass(frozen=True)
class Area:
    """A rectangle and its text. y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float
    text: str = ""

    def overlaps(self, other: Area, by: float = 0.5) -> bool:
        return (
            min(self.right, other.right) - max(self.left, other.left) > by
            and min(self.bottom, other.bottom) - max(self.top, other.top) > by
        )

    def holds(self, other: Area, by: float = 0.5) -> bool:
        return (
            self.left - by <= other.left
            and self.top - by <= other.top
            and other.right <= self.right + by
            and other.bottom <= self.bottom + by
        )


def text_area(element: Element) -> Area:
    """The area of a text: its width in DejaVu Sans or its ``textLength``, its height with descenders."""
    text = (element.text or "").replace("\xa0", " ")
    size = float(element.attrib["font-size"])
    bold = element.get("font-weight") == "bold"
    width = float(element.get("textLength", font_of(bold).getlength(text) * size / 1000))
    x, y = float(element.attrib["x"]), float(element.attrib["y"])
    left = x - width / 2 if element.get("text-anchor") == "middle" else x
    return Area(left, y - 0.75 * size, left + width, y + 0.22 * size, text.strip())


def outline(element: Element) -> Area | None:
    """The rectangle around a polygon, path or ellipse."""
    match element.tag.removeprefix(SVG):
        case "ellipse":
            x, y, a, b = (float(element.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
            return Area(x - a, y - b, x + a, y + b)
        case "polygon" | "path":
            written = element.get("points") or element.attrib["d"]
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", written)]
            xs, ys = numbers[::2], numbers[1::2]
            return Area(min(xs), min(ys), max(xs), max(ys))
        case _:
            return None


def groups(root: Element, kind: str) -> Iterator[Element]:
    return (g for g in root.iter(f"{SVG}g") if g.get("class") == kind)


def read(svg: str | bytes) -> Element:
    return ElementTree.fromstring(svg)


def canvas(root: Element) -> Area:
    """The area of the picture's background."""
    graph = next(groups(root, "graph"))
    found = outline(next(child for child in graph if child.tag == f"{SVG}polygon"))
    assert found is not None
    return found


def texts(root: Element) -> list[Area]:
    return [text_area(e) for e in root.iter(f"{SVG}text") if (e.text or "").strip("\xa0 ")]


def curve(element: Element, parts: int = 24) -> list[tuple[float, float]]:
    """Points along a path of Bézier curves."""
    numbers = re.findall(r"-?[\d.]+", element.attrib["d"])
    points = np.array(numbers, float).reshape(-1, 2)
    t = np.linspace(0, 1, parts + 1)[1:, None]
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    found = [points[:1]]
    for i in range(0, len(points) - 3, 3):
        found.append(sum(w * p for w, p in zip(weights, points[i : i + 4], strict=True)))
    return [(x, y) for x, y in np.concatenate(found).tolist()]


def crossed(lines: list[list[tuple[float, float]]], areas: list[Area]) -> list[str]:
    """The texts of the areas that a line crosses, tested at points along the line."""
    points = sorted(point for line in lines for point in line)
    found = []
    for area in areas:
        near = points[bisect_left(points, (area.left,)) : bisect_right(points, (area.right,))]
        found += [area.text] * any(area.top <= y <= area.bottom for _, y in near)
    return found


SHIPPED = (
    *("danet_c_r50", "danet_a_r152", "danet_c_small", "ms_resnet104"),
    *("spiking_densenet201", "own_connection", "own_neuron", "own_rule"),
)
COMPARED = ("origin_r18", "tdbn_r18", "baa_r18", "sew_r18", "danet_a_r18", "danet_b_r18")


def problems(svg: bytes) -> list[str]:
    """The flaws of a picture that a reader would notice."""
    root = read(svg)
    page = canvas(root)
    words = texts(root)
    found = [f"cut off: {text.text}" for text in words if not page.holds(text)]
    # Texts are sorted by their top edge, so only neighbours are compared.
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
        if is_piece:  # a piece of a formula, which follows its box
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
    edges = (child for group in groups(root, "edge") for child in group)
    lines = [curve(child) for child in edges if child.tag.endswith("path")]
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
        if level == "block" and not network.stages:  # there is no wiring to show
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
    """The contrast ratio of WCAG 2."""
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
