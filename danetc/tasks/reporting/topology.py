"""Pictures of ``danetc.compiler.draw`` as parts of a page, with measures as colours and numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from danetc.compiler.draw import LEVELS, DrawError, GraphvizError, draw_with_members
from danetc.compiler.draw.theme import CSS_CLASS, DARK, LIGHT
from danetc.dsl.diagnostics.visible import visible
from danetc.tasks.reporting.layer_values import LayerMeasure, Scale, of_nodes, step_of
from danetc.tasks.reporting.runs import ShownRun

_SVG = "http://www.w3.org/2000/svg"


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
        except DrawError as error:  # there is nothing to show
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
    scale and a line in its tooltip. The page's style sheet shows the colours of one measure.
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
        nodes = [run.graph[id] for id in ids]
        for measure, scale, values in measured:
            shown = of_nodes(measure, values, nodes)
            if shown is None:
                continue
            group.set(f"data-{measure.key}", str(step_of(shown.value, scale)))
            if title is not None:
                value, least, most = map(measure.words, shown[:3])
                several = f" ({shown.size} layers, {least} to {most})" * (shown.size > 1)
                title.text = f"{title.text}\n{measure.title} {value}{several}"
    ET.register_namespace("", _SVG)
    return Markup(ET.tostring(root, encoding="unicode"))


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
