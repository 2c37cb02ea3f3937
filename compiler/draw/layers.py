"""Small pictures of dataflow: operations as boxes, placed by Graphviz's ``dot``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from danetc.compiler.draw.engine import layouts
from danetc.compiler.draw.errors import DrawError
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

Direction = Literal["TB", "LR"]


@dataclass(frozen=True, slots=True)
class Line:
    """A wire before it has a place."""

    tail: str
    head: str
    look: Look
    tooltip: str = ""
    back: bool = False  # to the next steps


@dataclass(frozen=True, slots=True)
class FlowChart:
    """Boxes and the wires between them, to be placed in one direction."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    direction: Direction = "TB"
    gap: float = 16.0  # between ranks
    beside: float = 14.0  # between boxes of a rank
    first: tuple[str, ...] = ()  # boxes of the first rank, in their order
    last: tuple[str, ...] = ()


def placed(flows: Sequence[FlowChart]) -> list[Sheet]:
    """Each flow as a sheet of its own. Raises DrawError."""
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
        f"{index[line.tail]} -> {index[line.head]} "
        f"[id={quoted(str(i))}{' constraint=false' if line.back else ''}]"
        for i, line in enumerate(flow.lines)
    ]
    ranks = []
    for rank, keys in (("min", flow.first), ("max", flow.last)):
        if keys:
            row = [str(index[key]) for key in keys]
            ranks.append(f"{{ rank={rank}; {'; '.join(row)} }}")
            ranks += [f"{' -> '.join(row)} [style=invis]"] if len(row) > 1 else []
    return "\n".join([head, *nodes, *ranks, *edges, "}"])


def _read(flow: FlowChart, layout: Mapping[str, Any]) -> Sheet:
    try:
        objects: Iterable[Mapping[str, Any]] = layout.get("objects", ())
        named = {str(item["name"]): item for item in objects}
        boxes = [box.at(*_point(str(named[str(i)]["pos"]))) for i, box in enumerate(flow.boxes)]
        drawn = {int(e["id"]): e for e in layout.get("edges", ()) if "id" in e}  # others steered
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
    """An operation: joins are circles, neurons rounded and heavy, interblock ones doubly framed.

    ``fires`` says that it is a layer of neurons, ``between`` of interblock ones. ``tall`` puts a
    layer's size under its name.
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
    nodes: Iterable[Node],
    prefix: str,
    *,
    ends: Mapping[int, tuple[str, Box]],
    direction: Direction,
    outputs: Iterable[int] = (),
    end: Box | None = None,
) -> FlowChart:
    """The wiring of some nodes of a graph.

    ``ends`` gives the box that stands for a value from elsewhere (by the node's id: the name of
    its source in tooltips, and the box); values in ``outputs`` lead to ``end``, or to a point ``PREFIXout``.
    """
    nodes = list(nodes)
    own = {node.id for node in nodes}
    fires, between = neurons(graph), interblock(graph)
    tall = direction == "LR"
    boxes: dict[str, Box] = {}
    lines: dict[Line, None] = {}
    for node in nodes:
        for position, operand in enumerate(graph.reads(node)):
            source = graph[operand]
            if operand in own:
                tail = f"{prefix}{operand}"
            elif operand in ends:
                tail = ends[operand][1].key
                boxes.setdefault(tail, ends[operand][1])
            else:
                continue
            twice = f" (operand {position})" if node.inputs.count(operand) > 1 else ""
            message = wire_tooltip(source.path, source.value) + twice
            head = f"{prefix}{node.id}"
            called = OPS[node.op].arguments[position : position + 1]
            if called:  # its name stands on the wire
                head = f"{head}.{position}"
                boxes[head] = caption(head, called[0], size=SMALL, ink="quiet")
                lines[Line(head, f"{prefix}{node.id}", look(source.value), message)] = None
            back = node.id in graph.carries
            lines[Line(tail, head, look(source.value), message, back)] = None
        boxes[f"{prefix}{node.id}"] = op_box(
            f"{prefix}{node.id}", node, node.id in fires, node.id in between, tall=tall
        )
    for id in outputs:
        key = f"{prefix}out"
        boxes.setdefault(key, end or point(key, "the output"))
        tail = f"{prefix}{id}" if id in own else ends[id][1].key if id in ends else ""
        if tail and tail in boxes:
            source = graph[id]
            message = wire_tooltip(source.path, source.value)
            lines[Line(tail, key, look(source.value), message)] = None
    gap = 14.0 if direction == "LR" else 16.0
    return FlowChart(tuple(boxes.values()), tuple(lines), direction, gap)


def point(key: str, tooltip: str = "") -> Box:
    return Box(key, (), 7, 7, shape="point", fill="quiet", line="quiet", tooltip=tooltip)
