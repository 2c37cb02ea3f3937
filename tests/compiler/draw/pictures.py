"""SVG read back: where its texts, boxes and lines are."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib
from PIL import ImageFont

SVG = "{http://www.w3.org/2000/svg}"
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache
def font_of(bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONTS / f"DejaVuSans{'-Bold' * bold}.ttf", 1000)


@dataclass(frozen=True)
class Area:
    """A rectangle, and what stands in it. y grows downwards."""

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
    """A text as wide as it is in DejaVu Sans, or was set; as high as its capitals and what hangs below."""
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
            numbers = [
                float(n)
                for n in re.findall(r"-?[\d.]+", element.get("points") or element.attrib["d"])
            ]
            xs, ys = numbers[::2], numbers[1::2]
            return Area(min(xs), min(ys), max(xs), max(ys))
        case _:
            return None


def groups(root: Element, kind: str) -> Iterator[Element]:
    return (g for g in root.iter(f"{SVG}g") if g.get("class") == kind)


def read(svg: str | bytes) -> Element:
    return ElementTree.fromstring(svg)


def canvas(root: Element) -> Area:
    """The picture: its background."""
    graph = next(groups(root, "graph"))
    found = outline(next(child for child in graph if child.tag == f"{SVG}polygon"))
    assert found is not None
    return found


def texts(root: Element) -> list[Area]:
    return [text_area(e) for e in root.iter(f"{SVG}text") if (e.text or "").strip("\xa0 ")]


def curve(element: Element, parts: int = 24) -> list[tuple[float, float]]:
    """Points along a path of Bézier curves."""
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", element.attrib["d"])]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    found = [points[0]]
    for i in range(0, len(points) - 3, 3):
        a, b, c, d = points[i : i + 4]
        for step in range(1, parts + 1):
            t = step / parts
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            found.append(
                tuple(  # type: ignore[arg-type]
                    sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True))
                    for axis in (0, 1)
                )
            )
    return found


def crossed(lines: list[list[tuple[float, float]]], areas: list[Area]) -> list[str]:
    """The texts of the areas that a line runs through, by points along it."""
    points = sorted(point for line in lines for point in line)
    found = []
    for area in areas:
        near = points[bisect_left(points, (area.left,)) : bisect_right(points, (area.right,))]
        found += [area.text] * any(area.top <= y <= area.bottom for _, y in near)
    return found
