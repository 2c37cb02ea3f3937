"""Pictures of ``danetc.compiler.draw`` as parts of a page: parts that can be reached and coloured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from danetc.compiler.draw import LEVELS, DrawError, GraphvizError, draw, members
from danetc.compiler.draw.theme import CSS_CLASS, DARK, LIGHT
from danetc.compiler.draw.units import parts, runs
from danetc.compiler.ir.graph import Graph, Node
from danetc.errors import UserError
from danetc.tasks.reporting.layer_values import LayerMeasure, Scale, Shown, of_nodes
from danetc.tasks.reporting.runs import ShownRun

_SVG = "http://www.w3.org/2000/svg"
_COLOURED = ("network", "stage", "block", "op")  # a neuron's equations have no layers


@dataclass(frozen=True)
class Picture:
    """A level of a network. ``parts`` is what the script knows of each box, ``why_not`` says why
    there is no picture, ``failed`` that there should be one."""

    level: str
    svg: Markup
    parts: Mapping[str, Mapping[str, object]]
    why_not: str = ""
    failed: bool = False


def pictures(run: ShownRun, scales: Sequence[tuple[LayerMeasure, Scale]]) -> list[Picture]:
    """The network on every level; where Graphviz is missing or fails, why there is no picture."""
    found = []
    for level in LEVELS:
        try:
            drawn = draw(run.graph, level, theme="light")
        except GraphvizError as error:
            why_not = f"the picture could not be drawn: {error}"
            found.append(Picture(level, Markup(), {}, why_not, failed=True))
            continue
        except DrawError as error:
            if level == "block" and not run.graph.stages:
                found.append(Picture(level, Markup(), {}, str(error).partition(";")[0]))
                continue
            if level == "neuron" and not run.graph.neurons:
                found.append(Picture(level, Markup(), {}, str(error)))
                continue
            raise UserError(f"the picture could not be drawn: {error}") from error
        known = _parts(run, level, scales)
        found.append(Picture(level, _part_of_page(drawn, run.label, level, known), known))
    return found


def _parts(
    run: ShownRun, level: str, scales: Sequence[tuple[LayerMeasure, Scale]]
) -> dict[str, dict[str, object]]:
    """What is known of each box by its key, in the order of the text: ``name``, ``lines`` (a line a measure), and by measure
    ``text`` and ``heat``, the step of the scale; ``opens`` is a level and a key there."""
    opened = _opens(run.graph, level)
    measured = [(measure, scale, measure.of(run.measures)) for measure, scale in scales]
    found: dict[str, dict[str, object]] = {}
    boxes = members(run.graph, level) if level in _COLOURED else {}
    for key, ids in sorted(boxes.items(), key=lambda item: item[1]):
        nodes = [run.graph[id] for id in ids]
        text, heat, lines = {}, {}, []
        for measure, scale, values in measured:
            shown = of_nodes(measure, values, nodes)
            if shown is not None:
                text[measure.key] = measure.words(shown.value)
                heat[measure.key] = scale.step(shown.value)
                lines.append(f"{measure.title} {_range(measure, shown)}")
        found[key] = {"name": _name(nodes), "lines": lines, "text": text, "heat": heat}
        if key in opened:
            found[key]["opens"] = opened[key]
    return found


def _range(measure: LayerMeasure, shown: Shown) -> str:
    if shown.count == 1:
        return measure.words(shown.value)
    least, most = measure.words(shown.least), measure.words(shown.most)
    return f"{measure.words(shown.value)} ({shown.count} layers, {least} to {most})"


def _name(nodes: Sequence[Node]) -> str:
    """What nodes have in common: their path, or the scope of all; ``0 to 2`` where blocks differ."""
    first, last = nodes[0], nodes[-1]
    if len(nodes) == 1:
        return first.path
    if first.name == last.name and len(first.scope) == len(last.scope):
        return f"{first.path} to {last.path}"
    common = []
    for one, other in zip(first.scope, last.scope, strict=False):
        if one != other:
            break
        common.append(one)
    if common[-1:] == ["blocks"]:
        low, high = first.scope[len(common)], last.scope[len(common)]
        stage = {node.scope[: len(common)] for node in nodes}
        return f"{'.'.join(common)}.{low} to {high}" if len(stage) == 1 else ".".join(common)
    return ".".join(common) or first.path


def _opens(graph: Graph, level: str) -> dict[str, tuple[str, str]]:
    """Where a box leads: a stage to its blocks, a block to its operations."""
    of = parts(graph)
    if level == "network":
        return {f"s{number}": ("stage", f"s{number}") for number in range(len(graph.stages))}
    if level != "stage":
        return {}
    found = {}
    for number, stage in enumerate(graph.stages):
        for run in runs(stage, number, of):
            for index in run:
                place = ("op", f"s{number}b{run[0]}")
                found[f"s{number}b{index}"] = found[f"s{number}more{index}"] = place
    return found


def _part_of_page(
    drawn: bytes, label: str, level: str, known: Mapping[str, Mapping[str, object]]
) -> Markup:
    """The picture without ids, for a page holds several; boxes of which something is known are the
    options of a list, all else is for the eye."""
    root = ET.fromstring(drawn)
    for name in ("width", "height", "font-family"):
        root.attrib.pop(name, None)
    root.set("role", "listbox")
    root.set("aria-label", f"Parts of {label} on the level {level}")
    root.set("data-level", level)
    if not known:
        root.set("role", "img")
        root.set("aria-label", f"{label} on the level {level}")
    for parent in list(root.iter()):
        parent.text = parent.text if parent.tag in (f"{{{_SVG}}}text", f"{{{_SVG}}}title") else None
        parent.tail = None
    for group in root.iter(f"{{{_SVG}}}g"):
        key = group.attrib.pop("id", "")
        if group.get("class") == "graph":
            group.set("role", "presentation")
            title = group.find(f"{{{_SVG}}}title")
            if title is not None:
                group.remove(title)  # it would be the tooltip of everything
            continue
        group.set("data-key", key)
        if key in known:
            part = known[key]
            group.set("class", "node part")
            group.set("role", "option")
            group.set("tabindex", "-1")
            group.set("aria-selected", "false")
            lines = part["lines"]
            assert isinstance(lines, list)
            opens = ["Enter opens it"] if "opens" in part else []
            group.set("aria-label", "; ".join([str(part["name"]), *lines, *opens]))
        elif known:
            group.set("aria-hidden", "true")
    graph = root.find(f"{{{_SVG}}}g")
    if graph is not None:  # parts come last: in the order of the text, and above what leads to them
        order = {key: place for place, key in enumerate(known)}
        graph[:] = sorted(graph, key=lambda each: order.get(each.get("data-key", ""), -1))
    for shape in root.findall(f"{{{_SVG}}}g/{{{_SVG}}}polygon"):
        shape.set("aria-hidden", "true")
    ET.register_namespace("", _SVG)
    return Markup(ET.tostring(root, encoding="unicode"))


def colours(dark: bool) -> str:
    """The palette of pictures as CSS variables."""
    palette = DARK if dark else LIGHT
    return "".join(f"--t-{role}:{colour};" for role, colour in palette.items() if role != "none")


def colour_rules() -> str:
    """Rules that give everything in a picture the colour of its role in the page's theme."""
    rules = []
    for role, light in LIGHT.items():
        if role != "none":
            for what in ("fill", "stroke"):
                rules.append(f'.{CSS_CLASS} [{what}="{light}"]{{{what}:var(--t-{role})}}')
    return "\n".join(rules)
