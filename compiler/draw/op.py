"""Level ``op``: every operation. Blocks that are equal and stand beside each other are drawn once."""

from __future__ import annotations

from danetc.compiler.draw.feeds import StageLane
from danetc.compiler.draw.lanes import Stop
from danetc.compiler.draw.layers import FlowChart, op_flow, placed, point
from danetc.compiler.draw.legend import network_facts, with_header
from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, caption
from danetc.compiler.draw.stage import assembled, glue_box
from danetc.compiler.draw.units import Parts, parts, runs
from danetc.compiler.draw.words import clean, span_words
from danetc.compiler.ir.graph import Graph, Node


def op_level(graph: Graph) -> Sheet:
    """Every operation. Of blocks that are equal and stand beside each other the first is drawn."""
    of = parts(graph)
    flows: dict[str, FlowChart] = {}
    for name, nodes in of.glue.items():
        if nodes[0].op != "input":
            flows[name] = _glue_flow(of, name, nodes)
    grouped = {number: runs(stage, number, of) for number, stage in enumerate(graph.stages)}
    for number, groups in grouped.items():
        for group in groups:
            key = f"s{number}b{group[0]}"
            flows[key] = _block_flow(of, number, group[0], key)
    sheets = dict(zip(flows, placed(list(flows.values())), strict=True))
    units: dict[str, Unit] = {}
    for name in of.glue:
        units[name] = (
            _opened(name, sheets[name], of.title(name))
            if name in sheets
            else box_unit(glue_box(of, name))
        )
    for number, groups in grouped.items():
        stops = {}
        for group in groups:
            key = f"s{number}b{group[0]}"
            count = f"   ×{len(group)}" if len(group) > 1 else ""
            stops[group[0]] = _stop(_opened(key, sheets[key], span_words(group) + count))
        units[f"s{number}"] = StageLane(of, number, groups).unit(stops)
    return with_header(graph.name, network_facts(graph), assembled(of, units))


def _stop(unit: Unit) -> Stop:
    return Stop(unit.key, unit.sheet, unit.entry, unit.exit, unit.first, unit.last)


def _glue_flow(of: Parts, name: str, nodes: list[Node]) -> FlowChart:
    ends = {
        operand: (of.graph[operand].path, point(f"{name}in", f"from {of.graph[operand].path}"))
        for node in nodes
        for operand in node.inputs
        if of.unit_of[operand] != name
    }
    return op_flow(of.graph, nodes, f"{name}n", ends=ends, direction="LR", outputs=[nodes[-1].id])


def _block_flow(of: Parts, number: int, index: int, key: str) -> FlowChart:
    block = of.graph.stages[number].blocks[index]
    nodes = of.blocks[number, index]
    own = {node.id for node in nodes}
    ends = {block.input: ("in", point(f"{key}nin", "the block's input"))}
    for node in nodes:
        for operand in node.inputs:
            if operand not in own and operand not in ends:
                path = of.graph[operand].path
                ends[operand] = (path, caption(f"{key}n{operand}", clean(path, 24), size=SMALL))
    return op_flow(of.graph, nodes, f"{key}n", ends=ends, direction="LR", outputs=[block.output])


def _opened(key: str, sheet: Sheet, title: str) -> Unit:
    """A placed piece in a frame with a title; its input and output lie at the frame's sides."""
    pad = 8.0
    text = caption(f"{key}title", title, bold=True)
    text = text.at(pad + text.width / 2, 4 + text.height / 2)
    body = sheet.shifted(pad, text.bottom + 2)
    width = max(sheet.width, text.width) + 2 * pad
    height = text.bottom + 2 + sheet.height + pad
    frame = Box(
        f"{key}frame",
        (),
        width,
        height,
        width / 2,
        height / 2,
        shape="round",
        fill="inner",
        line="frame_line",
        tooltip=title,
    )
    first = next((box for box in body.boxes if box.key.endswith("nin")), None)
    first = first or min(body.boxes, key=lambda box: box.left)
    last = next((box for box in body.boxes if box.key.endswith("nout")), body.boxes[-1])
    whole = Sheet(width, height, (frame, text, *body.boxes), body.wires)
    return Unit(key, whole, (first.left, first.y), (last.right, last.y), first.key, last.key)
