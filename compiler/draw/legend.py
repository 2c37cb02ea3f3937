"""Header of every picture: its title, facts of the network, and a legend."""

from __future__ import annotations

from danetc.compiler.draw.sheet import (
    SMALL,
    Box,
    DrawnWire,
    Look,
    Sheet,
    TextCell,
    caption,
    fitted,
    routed,
    sheet_of,
    stacked,
)
from danetc.compiler.draw.theme import Role
from danetc.compiler.draw.words import LOOKS, clean, size
from danetc.compiler.ir.graph import Graph

_GAP = 14.0
_LINE = 34.0


def network_facts(graph: Graph) -> str:
    taken = [size(node.value.shape) for node in graph.inputs]
    if len(taken) > 1:
        taken = [f"{node.name} {text}" for node, text in zip(graph.inputs, taken, strict=True)]
    return f"T = {graph.steps} · input{'s' * (len(taken) > 1)} {', '.join(taken)}"


def with_header(title: str, facts: str, body: Sheet, page: float = 900.0) -> Sheet:
    """Put a title and a legend of what occurs in the picture above it."""
    name = caption("title", clean(title), bold=True, size=16.0)
    about = caption("facts", clean(facts, 120), ink="quiet")
    name = name.from_corner(0, 0)
    about = about.from_corner(name.right + 6, name.bottom - about.height - 3)
    head = sheet_of([name, about])
    return stacked([head, _legend(body, max(page, body.width)), body], _GAP)


def _legend(body: Sheet, page: float) -> Sheet:
    """Return the samples with their meanings, in as many rows as they need."""
    items: list[tuple[Look | Box, str]] = []
    drawn = {(wire.look.colour, wire.look.dash) for wire in body.wires}
    items += [(look, text) for look, text in LOOKS if (look.colour, look.dash) in drawn]
    if ("quiet", "dotted") in drawn:
        items.append((Look("quiet", "dotted", 1.6), "detached: no gradient"))
    if any(wire.look.hollow for wire in body.wires):
        items.append((Look("quiet", "solid", 1.1, hollow=True), "the same at each step"))
    fills: set[Role] = {box.fill for box in body.boxes}
    fills |= {cell.fill for box in body.boxes for row in box.rows for cell in row}
    if "neuron" in fills:
        items.append((_sample("neuron", double=False), "neuron"))
    if "interblock" in fills:
        double = any(box.double for box in body.boxes)
        items.append((_sample("interblock", double=double), "interblock neuron"))
    boxes: list[Box] = []
    wires: list[DrawnWire] = []
    x = y = 0.0
    for number, (sample, text) in enumerate(items):
        words = caption(f"legend{number}", text, size=SMALL)
        width = (_LINE if isinstance(sample, Look) else sample.width) + words.width + 18
        if x and x + width > page:
            x, y = 0.0, y + 22
        middle = y + 10
        if isinstance(sample, Look):
            ends = [
                Box(f"legend{number}{end}", (), 1, 1, at, middle, shape="plain")
                for end, at in (("a", x + 0.5), ("b", x + _LINE))
            ]
            boxes += ends
            path = [(x, middle), (x + _LINE, middle)]
            wires.append(routed(ends[0].key, ends[1].key, sample, path))
            left = x + _LINE + 2
        else:
            boxes.append(sample.at(x + sample.width / 2, middle))
            left = x + sample.width + 2
        boxes.append(words.from_corner(left, middle - words.height / 2))
        x += width
    return sheet_of(boxes, wires)


def _sample(fill: Role, *, double: bool) -> Box:
    name = f"sample_{fill}"
    rows = ((TextCell("", size=SMALL),),)
    return fitted(
        Box(name, rows, shape="round", fill=fill, line="neuron_line", pen=1.6, double=double),
        (24, 12),
    )
