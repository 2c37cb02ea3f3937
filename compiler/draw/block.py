"""Levels ``block`` and ``op``: the wiring of a block as in Fig. 1 of the paper, and every operation.

Level ``block`` draws each wiring of a network once: an opening block with its projection, a repeated
block with its identity, and any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from danetc.compiler.draw.engine import DrawError
from danetc.compiler.draw.flow import FlowChart, op_flow, placed, point
from danetc.compiler.draw.legend import network_facts, with_header
from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, caption, frame, grid, sheet_of, stacked
from danetc.compiler.draw.stage import assembled, chain_box
from danetc.compiler.draw.stage_lane import StageLane
from danetc.compiler.draw.units import Parts, parts, runs, wiring_of
from danetc.compiler.draw.words import clean, size, span_words
from danetc.compiler.ir.graph import Block, Graph, Node
from danetc.dsl.record import record

_MOST_WIRINGS = 8
_ACROSS = 4  # wirings side by side
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@record
class Wiring:
    """A drawn block, and the (stage, block) indices of all blocks with the same wiring."""

    number: int
    index: int
    places: tuple[tuple[int, int], ...]

    @property
    def opening(self) -> bool:
        """True if only the first blocks of stages have this wiring."""
        return all(index == 0 for _, index in self.places)


def block_level(graph: Graph) -> Sheet:
    """Draw each wiring of blocks. Raises DrawError if the network has no blocks."""
    of = parts(graph)
    wirings = wirings_of(of)
    shown = wirings[:_MOST_WIRINGS]
    sheets = placed([_flow(of, wiring, f"w{i}") for i, wiring in enumerate(shown)])
    cells = [
        _captioned(f"w{i}", sheet, *_words(of, wiring))
        for i, (sheet, wiring) in enumerate(zip(sheets, shown, strict=True))
    ]
    rows = [cells[i : i + _ACROSS] for i in range(0, len(cells), _ACROSS)]
    body = grid(rows, 44, 30)
    if len(wirings) > len(shown):
        rest = f"{len(wirings) - len(shown)} more ways of wiring are not drawn"
        body = stacked([body, sheet_of([caption("rest", rest, ink="quiet")])], 12)
    return with_header(graph.name, network_facts(graph), body)


def comparison(graphs: Sequence[Graph]) -> Sheet:
    """Draw a column for each network, its opening block above a repeated one, as in Fig. 1.

    Raises DrawError if a network has no blocks.
    """
    pieces: list[tuple[int, int, FlowChart]] = []
    wordings: dict[tuple[int, int], tuple[str, str]] = {}
    for column, graph in enumerate(graphs):
        of = parts(graph)
        found = wirings_of(of)
        opening = next((w for w in reversed(found) if w.opening), None)
        repeated = next((w for w in found if not w.opening), None)
        for row, wiring in enumerate((opening, repeated)):
            if wiring is None:
                continue
            pieces.append((row, column, _flow(of, wiring, f"c{column}r{row}")))
            _, where = _words(of, wiring)
            wordings[row, column] = (("opening block", "repeated block")[row], where)
    sheets = placed([flow for _, _, flow in pieces])
    cells: dict[tuple[int, int], Sheet] = {}
    for (row, column, _), sheet in zip(pieces, sheets, strict=True):
        title, where = wordings[row, column]
        cells[row, column] = _captioned(f"c{column}r{row}", sheet, title, where)
    present = [row for row in (0, 1) if any((row, c) in cells for c in range(len(graphs)))]
    names = []
    for column, graph in enumerate(graphs):
        connections = dict.fromkeys(stage.connection for stage in graph.stages)
        rules = dict.fromkeys(stage.rule for stage in graph.stages)
        head = caption(
            f"c{column}name", clean(f"({_letter(column)}) {graph.name}"), bold=True, size=12
        )
        words = f"via {', '.join(connections)} by {', '.join(rules)}"
        about = caption(f"c{column}about", clean(words), size=SMALL, ink="quiet")
        names.append(_centred([sheet_of([head]), sheet_of([about])], 2))
    empty = Sheet(0, 0)
    rows = [names] + [[cells.get((r, c), empty) for c in range(len(graphs))] for r in present]
    return with_header("Connections", "how each wires its blocks", grid(rows, 36, 20))


def _letter(column: int) -> str:
    return _LETTERS[column] if column < len(_LETTERS) else str(column + 1)


def wirings_of(of: Parts) -> list[Wiring]:
    """Return the distinct wirings of blocks, regardless of sizes. Raises DrawError if none."""
    found: dict[object, list[tuple[int, int]]] = {}
    for number, stage in enumerate(of.graph.stages):
        for index, block in enumerate(stage.blocks):
            kind = (stage.connection, _shape_of(block, of.blocks[number, index]))
            found.setdefault(kind, []).append((number, index))
    if not found:
        raise DrawError(f"{of.graph.name} has no stages of blocks; --level op draws its operations")
    return [Wiring(*_example(places), tuple(places)) for places in found.values()]


def _example(places: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the block to draw: the first that follows another, if there is one."""
    return next((place for place in places if place[1] > 0), places[0])


def _shape_of(block: Block, nodes: Sequence[Node]) -> object:
    """Return the wiring of a block without sizes, widths and rates."""
    return wiring_of(block, nodes, lambda node: (node.op, str(node.attrs.get("neuron", ""))))


def _flow(of: Parts, wiring: Wiring, key: str) -> FlowChart:
    graph = of.graph
    block = graph.stages[wiring.number].blocks[wiring.index]

    def outside(source: Node) -> Box:
        if source.id == block.input:
            return caption(f"{key}in", f"in  {size(source.value.shape)}", ink="quiet")
        return caption(f"{key}from{source.id}", clean(source.path, 24), ink="quiet")

    given = size(graph[block.output].value.shape)
    end = caption(f"{key}out", f"out  {given}", ink="quiet")
    nodes = of.blocks[wiring.number, wiring.index]
    return op_flow(graph, nodes, key, "TB", outside, block.output, end)


def _words(of: Parts, wiring: Wiring) -> tuple[str, str]:
    """Return a title for a wiring, and the blocks that have it."""
    stages: dict[int, list[int]] = {}
    for number, index in wiring.places:
        stages.setdefault(number, []).append(index)
    connection = of.graph.stages[wiring.number].connection or "a block of its own wiring"
    what = "opening block" if wiring.opening else "repeated block"
    numbers = list(stages)
    first = f"stages.{numbers[0]}"
    if wiring.number < len(of.graph.stages):
        first = ".".join(of.graph.stages[wiring.number].scope)
    where = f"{first} {span_words(stages[numbers[0]])}"
    if len(numbers) > 1:
        where += f"; also {span_words(numbers[1:], 'stage')}"
    return f"{connection}: {what}", where


def _captioned(key: str, sheet: Sheet, title: str, where: str) -> Sheet:
    head = sheet_of([caption(f"{key}title", clean(title), bold=True)])
    about = sheet_of([caption(f"{key}where", clean(where, 60), size=SMALL, ink="quiet")])
    return _centred([head, about, sheet], 3)


def _centred(sheets: Sequence[Sheet], gap: float) -> Sheet:
    return grid([[sheet] for sheet in sheets], 0, gap)


def op_level(graph: Graph) -> Sheet:
    """Draw every operation; of adjacent equal blocks, only the first."""
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
    """Return a sheet in a frame with a title.

    Wires into it end at its point ``KEYnin``, or at that of each of its ``inputs`` (node ids).
    """
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
