"""Header of every picture: its title, facts of the network, and a legend."""

from __future__ import annotations

from dataclasses import replace

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
    taken = [
        size(value.shape) + f" of {value.kind.high + 1:,} tokens" * value.kind.is_token
        for value in (node.value for node in graph.inputs)
    ]
    if len(taken) > 1:
        taken = [f"{node.name} {text}" for node, text in zip(graph.inputs, taken, strict=True)]
    return f"T = {graph.steps} · input{'s' * (len(taken) > 1)} {', '.join(taken)}"


def with_header(title: str, facts: str, body: Sheet, page: float = 900.0) -> Sheet:
    """Put a title and a legend of what occurs in the picture above it."""
    name = caption("title", clean(title), bold=True, size=16.0).from_corner(0, 0)
    about = caption("facts", clean(facts, 120), ink="quiet")
    about = about.from_corner(name.right + 6, name.bottom - about.height - 3)
    return stacked([sheet_of([name, about]), _legend(body, max(page, body.width)), body], _GAP)


def _legend(body: Sheet, page: float) -> Sheet:
    """Return the samples with their meanings, in as many rows as they need."""
    looks = {wire.look for wire in body.wires}
    drawn = {(look.colour, look.dash) for look in looks}
    items = [(look, text) for look, text in LOOKS if (look.colour, look.dash) in drawn]
    if any(look.hollow for look in looks):
        items.append((Look("quiet", "solid", 1.1, hollow=True), "the same at each step"))
    samples: list[tuple[Sheet, str]] = []
    for number, (look, text) in enumerate(items):
        left = Box(f"legend{number}a", (), 1, 1, 0.5, 0.5, shape="plain")
        right = Box(f"legend{number}b", (), 1, 1, _LINE - 0.5, 0.5, shape="plain")
        wire = routed(left.key, right.key, look, [(0, 0.5), (_LINE, 0.5)])
        samples.append((sheet_of([left, right], [wire]), text))
    fills: set[Role] = {box.fill for box in body.boxes}
    fills |= {cell.fill for box in body.boxes for row in box.rows for cell in row}
    double = any(box.double for box in body.boxes)
    for fill, text, rim in (("neuron", "neuron", 0), ("interblock", "interblock neuron", double)):
        if fill in fills:
            cell = TextCell("", size=SMALL)
            box = Box(f"sample_{fill}", ((cell,),), shape="round", fill=fill, line="neuron_line")
            box = fitted(replace(box, pen=1.6, double=bool(rim)), (24, 12))
            samples.append((sheet_of([box]), text))
    boxes: list[Box] = []
    wires: list[DrawnWire] = []
    x = y = 0.0
    for number, (sample, text) in enumerate(samples):
        words = caption(f"legend{number}", text, size=SMALL)
        width = sample.width + words.width + 18
        if x and x + width > page:
            x, y = 0.0, y + 22
        moved = sample.shifted(x, y + 10 - sample.height / 2)
        boxes += [*moved.boxes, words.from_corner(x + sample.width + 2, y + 10 - words.height / 2)]
        wires += moved.wires
        x += width
    return sheet_of(boxes, wires)
