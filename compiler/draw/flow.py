"""Pictures of the data flow between operations. The layout is computed by ``dot``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from danetc.compiler.draw.engine import DrawError, layouts
from danetc.compiler.draw.sheet import (
    FONT,
    SMALL,
    Box,
    DrawnWire,
    Look,
    Point,
    Sheet,
    TextCell,
    caption,
    fitted,
    sheet_of,
)
from danetc.compiler.draw.theme import Role
from danetc.compiler.draw.units import Parts
from danetc.compiler.draw.words import layer_parts, look, tooltip, wire_tooltip
from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record

Direction = Literal["TB", "LR"]
_STRAIGHT, _ALONE = 100, 10  # Graphviz's weights of edges


@record
class Line:
    """A wire without a position."""

    tail: str
    head: str
    look: Look
    tooltip: str = ""
    back: bool = False  # to the next steps


@record
class FlowChart:
    """Boxes and wires before the layout. The boxes are in topological order."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    direction: Direction = "TB"
    gap: float = 16.0  # between ranks
    beside: float = 14.0  # between boxes of a rank
    first: tuple[str, ...] = ()  # boxes of the first rank, in order
    last: tuple[str, ...] = ()


def placed(flows: Sequence[FlowChart]) -> list[Sheet]:
    """Lay out each flow on a sheet. Raises DrawError."""
    return [
        _read(flow, layout) for flow, layout in zip(flows, layouts(map(_text, flows)), strict=True)
    ]


def _text(flow: FlowChart) -> str:
    index = {box.key: i for i, box in enumerate(flow.boxes)}
    found = [
        f"digraph g {{ graph [rankdir={flow.direction} ranksep={flow.gap / 72:.3f} "
        f'nodesep={flow.beside / 72:.3f} pad=0] node [shape=box fixedsize=true label=""] '
        "edge [arrowsize=0.6]"
    ]
    for box, i in zip(flow.boxes, index.values(), strict=True):
        shape = " shape=circle" if box.shape in ("circle", "point") else ""
        found.append(f"{i} [width={box.width / 72:.4f} height={box.height / 72:.4f}{shape}]")
    for rank, keys in (("min", flow.first), ("max", flow.last)):
        if keys:
            row = [str(index[key]) for key in keys]
            found.append(f"{{ rank={rank}; {'; '.join(row)} }}")
            found += [f"{' -> '.join(row)} [style=invis]"] if len(row) > 1 else []
    for i, (line, weight) in enumerate(zip(flow.lines, _weights(flow), strict=True)):
        pull = "constraint=false" if line.back else f"weight={weight}"
        found.append(f'{index[line.tail]} -> {index[line.head]} [id="{i}" {pull}]')
    return "\n".join([*found, "}"])


def _weights(flow: FlowChart) -> list[int]:
    """Return Graphviz's weight of each wire, highest on the longest path (a block's branch)."""
    into: dict[str, list[str]] = {box.key: [] for box in flow.boxes}
    out_of = dict.fromkeys(into, 0)
    for line in flow.lines:
        if not line.back:
            into[line.head].append(line.tail)
            out_of[line.tail] += 1
    length: dict[str, int] = {}
    for key, tails in into.items():
        length[key] = 1 + max((length[tail] for tail in tails), default=0)
    longest: set[tuple[str, str]] = set()
    at = max(length, key=length.__getitem__, default="")
    while at and into[at]:
        before = max(into[at], key=length.__getitem__)
        longest.add((before, at))
        at = before
    return [
        _STRAIGHT
        if (line.tail, line.head) in longest
        else _ALONE
        if len(into[line.head]) == 1 == out_of[line.tail]
        else 1
        for line in flow.lines
    ]


def _read(flow: FlowChart, layout: Mapping[str, Any]) -> Sheet:
    try:
        objects: Iterable[Mapping[str, Any]] = layout.get("objects", ())
        named = {str(item["name"]): item for item in objects}
        boxes = [box.at(*_point(str(named[str(i)]["pos"]))) for i, box in enumerate(flow.boxes)]
        drawn = {e["id"]: str(e["pos"]) for e in layout.get("edges", ()) if "id" in e}
        wires = []
        for id, line in enumerate(flow.lines):  # invisible edges have no id
            tip, *points = drawn[str(id)].removeprefix("e,").split()
            curve = tuple(map(_point, points))
            wires.append(
                DrawnWire(line.tail, line.head, line.look, curve, _point(tip), line.tooltip)
            )
    except (KeyError, ValueError) as error:
        raise DrawError(f"Graphviz's layout cannot be read: {error!r}") from error
    return sheet_of(boxes, wires)


def _point(text: str) -> Point:
    x, y = text.split(",")
    return (float(x), -float(y))


# -- operations -----------------------------------------------------------------------------------


def op_box(of: Parts, key: str, node: Node, *, tall: bool = False) -> Box:
    """Return the box of an operation: circles for joins, rounded for neurons, double if interblock.

    ``tall`` puts the size of a layer below its name.
    """
    row, message = OPS[node.op], tooltip(node)
    if row.sign:
        single = len(row.sign) == 1
        text = TextCell(row.sign, bold=single, size=FONT + 2 if single else FONT - 1)
        return Box(key, ((text,),), 24, 24, shape="circle", fill="join", pen=1.2, tooltip=message)
    parts = [part for part in layer_parts(node) if part]
    lines = parts if tall else [" ".join(parts)]
    fires, between = node.id in of.fires, node.id in of.between
    cells = [TextCell(line, bold=fires, wide=len(lines) > 1) for line in lines]
    box = Box(key, tuple((cell,) for cell in cells), tooltip=message)
    if fires:
        fill: Role = "interblock" if between else "neuron"
        box = replace(box, shape="round", fill=fill, line="neuron_line", pen=1.6, double=between)
    elif row.norm is not None:
        box = replace(box, fill="norm")
    elif row.products is not None:
        box = replace(box, fill="join", pen=1.2)
    return fitted(box, (34, 20))


def op_flow(
    of: Parts,
    blocks: Sequence[Sequence[Node]],
    prefix: str,
    direction: Direction,
    outside: Callable[[Node], Box],
    output: int,
    end: Box | None = None,
) -> FlowChart:
    """Return the flow chart of the first of some equal ``blocks``; boxes have the keys ``PREFIXid``.

    ``outside`` returns the box for a value of another node. The value ``output`` leads to ``end``,
    or to a point ``PREFIXout``.
    """
    graph, nodes = of.graph, blocks[0]
    own = {node.id for node in nodes}
    boxes: dict[str, Box] = {}
    lines: dict[Line, None] = {}

    def wire(source: Node, head: str, more: str = "", name: str = "", back: bool = False) -> None:
        box = None if source.id in own else outside(source)
        if box is not None:
            boxes.setdefault(box.key, box)
        tail = f"{prefix}{source.id}" if box is None else box.key
        style, message = look(source.value), wire_tooltip(source.path, source.value) + more
        if name:  # on the wire
            box = caption(f"{head}.{name}", name, size=SMALL, ink="quiet")
            boxes[box.key] = box
            lines[Line(box.key, head, style, message)] = None
            head = box.key
        lines[Line(tail, head, style, message, back)] = None

    for place, node in enumerate(nodes):
        key = f"{prefix}{node.id}"
        for position, operand in enumerate(graph.reads(node)):
            more = f" (operand {position})" if node.inputs.count(operand) > 1 else ""
            name = "".join(OPS[node.op].arguments[position : position + 1])
            wire(graph[operand], key, more, name, node.id in graph.carries and operand in own)
        alike = tuple(block[place].id for block in blocks)
        boxes[key] = replace(op_box(of, key, node, tall=direction == "LR"), nodes=alike)
    end = end or point(f"{prefix}out", "the output")
    wire(graph[output], end.key)
    boxes[end.key] = end
    return FlowChart(
        tuple(boxes.values()), tuple(lines), direction, 14.0 if direction == "LR" else 16.0
    )


def point(key: str, tooltip: str = "") -> Box:
    return Box(key, (), 7, 7, shape="point", fill="quiet", line="quiet", tooltip=tooltip)
