"""Level ``op``: every operation. Blocks that are equal and stand beside each other are drawn once."""

from __future__ import annotations

from collections.abc import Iterable

from danetc.compiler.draw.flow import FlowChart, op_flow, placed, point
from danetc.compiler.draw.legend import network_facts, with_header
from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, caption, frame
from danetc.compiler.draw.stage import assembled, chain_box
from danetc.compiler.draw.stage_lane import StageLane
from danetc.compiler.draw.units import Parts, parts, runs
from danetc.compiler.draw.words import clean, span_words
from danetc.compiler.ir.graph import Graph, Node


def op_level(graph: Graph) -> Sheet:
    """Every operation. Of blocks that are equal and stand beside each other the first is drawn."""
    of = parts(graph)
    grouped = [runs(stage, number, of) for number, stage in enumerate(graph.stages)]
    flows: dict[str, FlowChart] = {}
    for name, nodes in of.chains.items():
        if nodes[0].op != "input":
            flows[name] = _chain_flow(of, name, nodes)
    for number, groups in enumerate(grouped):
        for group in groups:
            key = f"s{number}b{group[0]}"
            flows[key] = _block_flow(of, number, group[0], key)
    sheets = dict(zip(flows, placed(list(flows.values())), strict=True))
    units: dict[str, Unit] = {}
    for name, nodes in of.chains.items():
        if name in sheets:
            units[name] = _opened(name, sheets[name], of.title(name), of.graph.reads(nodes[0]))
        else:
            units[name] = box_unit(chain_box(of, name))
    for number, groups in enumerate(grouped):
        shown = {}
        for group in groups:
            key = f"s{number}b{group[0]}"
            count = f"   ×{len(group)}" if len(group) > 1 else ""
            shown[group[0]] = _opened(key, sheets[key], span_words(group) + count)
        units[f"s{number}"] = StageLane(of, number, groups).unit(shown)
    return with_header(graph.name, network_facts(graph), assembled(of, units))


def _chain_flow(of: Parts, name: str, nodes: list[Node]) -> FlowChart:
    def outside(source: Node) -> Box:
        return point(f"{name}nin{source.id}", f"from {source.path}")

    return op_flow(of.graph, nodes, f"{name}n", "LR", outside, nodes[-1].id)


def _block_flow(of: Parts, number: int, index: int, key: str) -> FlowChart:
    block = of.graph.stages[number].blocks[index]

    def outside(source: Node) -> Box:
        if source.id == block.input:
            return point(f"{key}nin", "the block's input")
        return caption(f"{key}nfrom{source.id}", clean(source.path, 24), size=SMALL)

    nodes = of.blocks[number, index]
    return op_flow(of.graph, nodes, f"{key}n", "LR", outside, block.output)


def _opened(key: str, sheet: Sheet, title: str, inputs: Iterable[int] = ()) -> Unit:
    """A placed piece in a frame with a title. Its wires end at its points: at ``KEYnin``, or at the
    one of each of its ``inputs`` (ids of nodes)."""
    pad = 8.0
    text = caption(f"{key}title", title, bold=True).from_corner(pad, 4)
    body = sheet.shifted(pad, text.bottom + 2)
    width = max(sheet.width, text.width) + 2 * pad
    height = text.bottom + 2 + sheet.height + pad
    around = frame(f"{key}frame", width, height, title, inner=True)
    boxes = {box.key: box for box in body.boxes}
    found = ((id, boxes.get(f"{key}nin{id}")) for id in inputs)
    entries = {id: ((box.left, box.y), box.key) for id, box in found if box is not None}
    first = boxes.get(f"{key}nin") or min(body.boxes, key=lambda box: box.left)
    last = boxes[f"{key}nout"]
    whole = Sheet(width, height, (around, text, *body.boxes), body.wires)
    ends = (first.left, first.y), (last.right, last.y)
    return Unit(key, whole, *ends, first.key, last.key, entries)
