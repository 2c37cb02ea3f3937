"""Small data-flow pictures: operations as boxes, laid out by Graphviz's ``dot``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import Any, Literal

from danetc.compiler.draw.engine import DrawError, layouts
from danetc.compiler.draw.gv import quoted
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
from danetc.compiler.draw.words import (
    interblock,
    layer_parts,
    look,
    neurons,
    sign,
    tooltip,
    wire_tooltip,
)
from danetc.compiler.ir.graph import Graph, Node
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
    """Boxes and wires to lay out in one direction."""

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
    head = (
        f"digraph g {{ graph [rankdir={flow.direction} ranksep={flow.gap / 72:.3f} "
        f'nodesep={flow.beside / 72:.3f} pad=0] node [shape=box fixedsize=true label=""] '
        "edge [arrowsize=0.6]"
    )
    nodes = [
        f"{i} [width={box.width / 72:.4f} height={box.height / 72:.4f}"
        f"{' shape=circle' if box.shape in ('circle', 'point') else ''}]"
        for box, i in zip(flow.boxes, index.values(), strict=True)
    ]
    edges = [
        f"{index[line.tail]} -> {index[line.head]} [id={quoted(str(i))} "
        f"{'constraint=false' if line.back else f'weight={weight}'}]"
        for i, (line, weight) in enumerate(zip(flow.lines, _weights(flow), strict=True))
    ]
    ranks = []
    for rank, keys in (("min", flow.first), ("max", flow.last)):
        if keys:
            row = [str(index[key]) for key in keys]
            ranks.append(f"{{ rank={rank}; {'; '.join(row)} }}")
            ranks += [f"{' -> '.join(row)} [style=invis]"] if len(row) > 1 else []
    return "\n".join([head, *nodes, *ranks, *edges, "}"])


def _weights(flow: FlowChart) -> list[int]:
    """Return Graphviz's weight of each wire, highest on the longest path (a block's branch)."""
    lines = [line for line in flow.lines if not line.back]
    into: dict[str, list[str]] = {box.key: [] for box in flow.boxes}
    out_of: dict[str, int] = dict.fromkeys(into, 0)
    for line in lines:
        into[line.head].append(line.tail)
        out_of[line.tail] += 1
    length: dict[str, int] = {}
    order = TopologicalSorter(into).static_order()
    for key in order:
        length[key] = 1 + max((length[tail] for tail in into[key]), default=0)
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
        if len(into.get(line.head, ())) == 1 == out_of[line.tail]
        else 1
        for line in flow.lines
    ]


def _read(flow: FlowChart, layout: Mapping[str, Any]) -> Sheet:
    try:
        objects: Iterable[Mapping[str, Any]] = layout.get("objects", ())
        named = {str(item["name"]): item for item in objects}
        boxes = [box.at(*_point(str(named[str(i)]["pos"]))) for i, box in enumerate(flow.boxes)]
        drawn = {
            int(e["id"]): e for e in layout.get("edges", ()) if "id" in e
        }  # others are invisible
        wires = []
        for id, line in enumerate(flow.lines):
            points, tip = _curve(str(drawn[id]["pos"]))
            wires.append(DrawnWire(line.tail, line.head, line.look, points, tip, line.tooltip))
    except (KeyError, ValueError, IndexError) as error:
        raise DrawError(f"Graphviz's layout cannot be read: {error!r}") from error
    return sheet_of(boxes, wires)


def _point(text: str) -> Point:
    x, y = text.split(",")
    return (float(x), -float(y))


def _curve(text: str) -> tuple[tuple[Point, ...], Point | None]:
    tip = None
    points = []
    for part in text.split():
        if part.startswith("e,"):
            tip = _point(part[2:])
        else:
            points.append(_point(part))
    return tuple(points), tip


# -- operations -----------------------------------------------------------------------------------


def op_box(key: str, node: Node, fires: bool, between: bool, *, tall: bool = False) -> Box:
    """Return the box of an operation: circles for joins, rounded for neurons, double if interblock.

    ``fires`` marks layers of neurons, ``between`` interblock ones. ``tall`` puts the size of a
    layer below its name.
    """
    joins = sign(node)
    if joins is not None:
        text = TextCell(joins, bold=len(joins) == 1, size=FONT + 2 if len(joins) == 1 else FONT - 1)
        return Box(
            key, ((text,),), 24, 24, shape="circle", fill="join", pen=1.2, tooltip=tooltip(node)
        )
    parts = [part for part in layer_parts(node) if part]
    lines = parts if tall else [" ".join(parts)]
    rows = tuple((TextCell(line),) for line in lines)
    if len(rows) > 1:
        rows = tuple((replace(row[0], wide=True),) for row in rows)
    box = Box(key, rows, tooltip=tooltip(node))
    if fires:
        box = replace(
            box,
            rows=tuple((replace(row[0], bold=True),) for row in rows),
            shape="round",
            fill="interblock" if between else "neuron",
            line="neuron_line",
            pen=1.6,
            double=between,
        )
    elif OPS[node.op].norm is not None:
        box = replace(box, fill="norm")
    elif OPS[node.op].products is not None:
        box = replace(box, fill="join", pen=1.2)
    return fitted(box, (34, 20))


def op_flow(
    graph: Graph,
    nodes: Sequence[Node],
    prefix: str,
    direction: Direction,
    outside: Callable[[Node], Box],
    output: int | None = None,
    end: Box | None = None,
) -> FlowChart:
    """Return the flow chart of some nodes of a graph; boxes have the keys ``PREFIXid``.

    ``outside`` returns the box for a value of another node. The value ``output`` leads to ``end``,
    or to a point ``PREFIXout``.
    """
    own = {node.id for node in nodes}
    fires, between = neurons(graph), interblock(graph)
    boxes: dict[str, Box] = {}
    lines: dict[Line, None] = {}

    def source_box(source: Node) -> str:
        if source.id in own:
            return f"{prefix}{source.id}"
        box = outside(source)
        boxes.setdefault(box.key, box)
        return box.key

    for node in nodes:
        key = f"{prefix}{node.id}"
        for position, operand in enumerate(graph.reads(node)):
            source = graph[operand]
            tail = source_box(source)
            twice = f" (operand {position})" if node.inputs.count(operand) > 1 else ""
            message = wire_tooltip(source.path, source.value) + twice
            head = key
            called = OPS[node.op].arguments[position : position + 1]
            if called:  # the wire carries the name
                head = f"{key}.{position}"
                boxes[head] = caption(head, called[0], size=SMALL, ink="quiet")
                lines[Line(head, key, look(source.value), message)] = None
            back = node.id in graph.carries and operand in own
            lines[Line(tail, head, look(source.value), message, back)] = None
        boxes[key] = op_box(key, node, node.id in fires, node.id in between, tall=direction == "LR")
    if output is not None:
        source = graph[output]
        tail = source_box(source)
        end = end or point(f"{prefix}out", "the output")
        boxes[end.key] = end
        message = wire_tooltip(source.path, source.value)
        lines[Line(tail, end.key, look(source.value), message)] = None
    gap = 14.0 if direction == "LR" else 16.0
    return FlowChart(tuple(boxes.values()), tuple(lines), direction, gap)


def point(key: str, tooltip: str = "") -> Box:
    return Box(key, (), 7, 7, shape="point", fill="quiet", line="quiet", tooltip=tooltip)
