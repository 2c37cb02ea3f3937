"""Pictures of ``danetc.compiler.draw`` as parts of a page, with measures as colours and numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from danetc.compiler.draw import LEVELS, DrawError, GraphvizError, draw_with_members
from danetc.compiler.draw.theme import CSS_CLASS, DARK, LIGHT
from danetc.dsl.diagnostics.visible import visible
from danetc.errors import UserError
from danetc.tasks.reporting.layer_values import LayerMeasure, Scale, Shown, of_nodes, step_of
from danetc.tasks.reporting.runs import ShownRun

_SVG = "http://www.w3.org/2000/svg"
_WIDTH = 0.58  # of a character, as a share of the font size
_SIZE = 9.0  # of a measure's number


class Picture(NamedTuple):
    """A level of a network. ``why_not`` says why there is no picture; if it ``failed``, unexpectedly."""

    level: str
    svg: Markup
    why_not: str = ""
    failed: bool = False


def pictures(run: ShownRun, scales: Sequence[tuple[LayerMeasure, Scale]]) -> list[Picture]:
    """Draw the network on every level."""
    found = []
    for level in LEVELS:
        try:
            drawn, boxes = draw_with_members(run.graph, level, theme="light")
        except GraphvizError as error:
            why_not = f"the picture could not be drawn: {error}"
            found.append(Picture(level, Markup(), why_not, failed=True))
        except DrawError as error:
            nothing = {"block": not run.graph.stages, "neuron": not run.graph.neurons}
            if not nothing.get(level):
                raise UserError(f"the picture could not be drawn: {error}") from error
            found.append(Picture(level, Markup(), str(error).partition(";")[0]))
        else:
            found.append(Picture(level, _with_measures(drawn, boxes, run, level, scales)))
    return found


def _with_measures(
    drawn: str,
    boxes: Mapping[str, tuple[int, ...]],
    run: ShownRun,
    level: str,
    scales: Sequence[tuple[LayerMeasure, Scale]],
) -> Markup:
    """Return a picture without ids, since a page holds several.

    A box whose layers were measured has for each measure an attribute with the step of its colour
    scale, a text and a line in its tooltip. The page's style sheet shows those of one measure.
    """
    root = ET.fromstring(drawn)
    root.attrib.pop("font-family", None)
    root.set("aria-label", visible(f"{run.label} on the level {level}"))
    for parent in root.iter():
        parent.text = parent.text if parent.tag in (f"{{{_SVG}}}text", f"{{{_SVG}}}title") else None
        parent.tail = None
    measured = [(measure, scale, measure.of(run.measures)) for measure, scale in scales]
    for group in root.iter(f"{{{_SVG}}}g"):
        ids = boxes.get(group.attrib.pop("id", ""))
        title = group.find(f"{{{_SVG}}}title")
        if group.get("class") == "graph" and title is not None:
            group.remove(title)  # it would be the tooltip of everything
        if ids is None:
            continue
        group.set("class", "node part")
        texts = group.findall(f"{{{_SVG}}}text")
        nodes = [run.graph[id] for id in ids]
        for measure, scale, values in measured:
            shown = of_nodes(measure, values, nodes)
            if shown is None:
                continue
            group.set(f"data-{measure.key}", str(step_of(shown.value, scale)))
            words = measure.words(shown.value)
            place = _place(group, texts, words, beside=level == "block")
            ET.SubElement(
                group, f"{{{_SVG}}}text", place, **{"data-measure": measure.key}
            ).text = words
            if title is not None:
                title.text = f"{title.text}\n{measure.title} {_range(measure, shown)}"
    ET.register_namespace("", _SVG)
    return Markup(ET.tostring(root, encoding="unicode"))


def _range(measure: LayerMeasure, shown: Shown) -> str:
    if shown.size == 1:
        return measure.words(shown.value)
    least, most = measure.words(shown.least), measure.words(shown.most)
    return f"{measure.words(shown.value)} ({shown.size} layers, {least} to {most})"


def _place(
    group: ET.Element, texts: Sequence[ET.Element], words: str, *, beside: bool
) -> dict[str, str]:
    """Return the class and the place of a number: in the first line of its box if there is room, else beside it in
    pictures whose wires run downwards, else above it.
    """
    top, right, bottom = _bounds(group)
    start = right - 5 - _WIDTH * _SIZE * len(words)
    first = float(texts[0].get("y", 0)) if texts else top
    line = [text for text in texts if abs(float(text.get("y", 0)) - first) < 4]
    if len(texts) > len(line) and all(_end(text) + 4 < start for text in line):
        found = ("value inside", right - 5, first, "end")
    elif beside:
        found = ("value", right + 3, (top + bottom) / 2 + 3, "start")
    else:
        found = ("value", right, top - 2.5, "end")
    kind, x, y, anchor = found
    return {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}


def _bounds(group: ET.Element) -> tuple[float, float, float]:
    """Return the coordinates of the top, the right and the bottom of the first shape."""
    for shape in group:
        if shape.tag == f"{{{_SVG}}}ellipse":
            x, y, rx, ry = (float(shape.get(name, 0)) for name in ("cx", "cy", "rx", "ry"))
            return y - ry, x + rx, y + ry
        if numbers := re.findall(r"-?[\d.]+", shape.get("d", "") or shape.get("points", "")):
            xs, ys = [*map(float, numbers[::2])], [*map(float, numbers[1::2])]
            return min(ys), max(xs), max(ys)
    return 0.0, 0.0, 0.0


def _end(text: ET.Element) -> float:
    """Return an estimate of the x coordinate of the end of a text."""
    width = _WIDTH * float(text.get("font-size", 10)) * len(text.text or "")
    share = {"start": 1.0, "middle": 0.5, "end": 0.0}[text.get("text-anchor", "start")]
    return float(text.get("x", 0)) + share * width


def colours() -> str:
    """Return the palettes of pictures as CSS variables."""
    return "".join(
        f"--t-{role}:light-dark({light},{DARK[role]});"
        for role, light in LIGHT.items()
        if role != "none"
    )


def colour_rules() -> str:
    """Return the rules that give everything in a picture the colour of its role."""
    return "\n".join(
        f'.{CSS_CLASS} [{what}="{light}"]{{{what}:var(--t-{role})}}'
        for role, light in LIGHT.items()
        if role != "none"
        for what in ("fill", "stroke")
    )
