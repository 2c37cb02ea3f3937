"""The levels ``block``, which draws the wiring of a block as in Fig. 1 of the paper, and ``op``.

The level ``block`` draws each kind of block in the network once. Usually these are the first block of
a stage, which has a projection, and the other blocks of the stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from danetc.compiler.draw.engine import DrawError
from danetc.compiler.draw.flow import Direction, FlowChart, op_flow, placed, point
from danetc.compiler.draw.legend import network_facts, with_header
from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, caption, frame, grid, sheet_of, stacked
from danetc.compiler.draw.stage import assembled, chain_box
from danetc.compiler.draw.stage_lane import StageLane
from danetc.compiler.draw.units import Parts, runs, wiring_of
from danetc.compiler.draw.words import clean, size, span_words
from danetc.compiler.ir.graph import Graph, Node
from danetc.dsl.record import record

_MOST_WIRINGS = 8
_ACROSS = 4  # wirings side by side


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
    of = Parts(graph)
    wirings = wirings_of(of)
    shown = wirings[:_MOST_WIRINGS]
    sheets = placed([_wiring_flow(of, wiring, f"w{i}") for i, wiring in enumerate(shown)])
    cells = [
        _captioned(f"w{i}", sheet, *_words(of, wiring))
        for i, (sheet, wiring) in enumerate(zip(sheets, shown, strict=True))
    ]
    body = grid([cells[i : i + _ACROSS] for i in range(0, len(cells), _ACROSS)], 44, 30)
    if len(wirings) > len(shown):
        rest = f"{len(wirings) - len(shown)} more ways of wiring are not drawn"
        body = stacked([body, sheet_of([caption("rest", rest, ink="quiet")])], 12)
    return with_header(graph.name, network_facts(graph), body)


def comparison(graphs: Sequence[Graph]) -> Sheet:
    """Draw the first block and a later block of a stage of each network, as in Fig. 1 of the paper.

    Raises DrawError if a network has no blocks.
    """
    flows: dict[tuple[int, int], tuple[FlowChart, str, str]] = {}
    names = []
    for column, graph in enumerate(graphs):
        of = Parts(graph)
        found = wirings_of(of)
        opening = next((w for w in reversed(found) if w.opening), None)
        repeated = next((w for w in found if not w.opening), None)
        for row, (wiring, title) in enumerate(
            ((opening, "opening block"), (repeated, "repeated block"))
        ):
            if wiring is not None:
                flow = _wiring_flow(of, wiring, f"c{column}r{row}")
                flows[row, column] = flow, title, _words(of, wiring)[1]
        via, by = (
            ", ".join(dict.fromkeys(words))
            for words in zip(
                *((stage.connection, stage.rule) for stage in graph.stages), strict=True
            )
        )
        letter = ascii_lowercase[column] if column < len(ascii_lowercase) else str(column + 1)
        head = caption(f"c{column}name", clean(f"({letter}) {graph.name}"), bold=True, size=12)
        about = caption(f"c{column}about", clean(f"via {via} by {by}"), size=SMALL, ink="quiet")
        names.append(stacked([sheet_of([head]), sheet_of([about])], 2, 0.5))
    sheets = placed([flow for flow, _, _ in flows.values()])
    cells = {
        (row, column): _captioned(f"c{column}r{row}", sheet, title, where)
        for ((row, column), (_, title, where)), sheet in zip(flows.items(), sheets, strict=True)
    }
    rows = [
        [cells.get((row, column), Sheet(0, 0)) for column in range(len(graphs))]
        for row in sorted({row for row, _ in cells})
    ]
    return with_header("Connections", "how each wires its blocks", grid([names, *rows], 36, 20))


def wirings_of(of: Parts) -> list[Wiring]:
    """Return the distinct wirings of blocks, regardless of sizes, widths and rates.

    A wiring is drawn as the first of its blocks that follows another, if there is one. Raises
    DrawError if the network has no blocks.
    """
    found: dict[object, list[tuple[int, int]]] = {}
    for number, stage in enumerate(of.graph.stages):
        for index, block in enumerate(stage.blocks):
            wiring = wiring_of(
                block,
                of.blocks[number, index],
                lambda node: (node.op, str(node.attrs.get("neuron", ""))),
            )
            found.setdefault((stage.connection, wiring), []).append((number, index))
    if not found:
        raise DrawError(f"{of.graph.name} has no stages of blocks; --level op draws its operations")
    return [
        Wiring(*next((place for place in places if place[1] > 0), places[0]), tuple(places))
        for places in found.values()
    ]


def _wiring_flow(of: Parts, wiring: Wiring, key: str) -> FlowChart:
    drawn = wiring.number, wiring.index
    block = of.graph.stages[wiring.number].blocks[wiring.index]
    ends = [
        caption(f"{key}{word}", f"{word}  {size(of.graph[id].value.shape)}", ink="quiet")
        for word, id in (("in", block.input), ("out", block.output))
    ]
    places = [drawn, *(place for place in wiring.places if place != drawn)]
    return _block_flow(of, places, key, "TB", *ends)


def _block_flow(
    of: Parts,
    places: Sequence[tuple[int, int]],
    key: str,
    direction: Direction,
    entry: Box,
    end: Box | None = None,
) -> FlowChart:
    """Return the flow chart of the first of some equal blocks."""
    number, index = places[0]
    block = of.graph.stages[number].blocks[index]

    def outside(source: Node) -> Box:
        if source.id == block.input:
            return entry
        text = clean(source.path, 24)
        return caption(f"{key}from{source.id}", text, size=SMALL, ink="quiet")

    blocks = [of.blocks[place] for place in places]
    return op_flow(of, blocks, key, direction, outside, block.output, end)


def _words(of: Parts, wiring: Wiring) -> tuple[str, str]:
    """Return a title for a wiring, and the blocks that have it."""
    stages: dict[int, list[int]] = {}
    for number, index in wiring.places:
        stages.setdefault(number, []).append(index)
    connection = of.graph.stages[wiring.number].connection or "a block with its own wiring"
    what = "opening block" if wiring.opening else "repeated block"
    first, *others = stages
    where = f"{'.'.join(of.graph.stages[first].scope)} {span_words(stages[first])}"
    if others:
        where += f"; also {span_words(others, 'stage')}"
    return f"{connection}: {what}", where


def _captioned(key: str, sheet: Sheet, title: str, where: str) -> Sheet:
    head = sheet_of([caption(f"{key}title", clean(title), bold=True)])
    about = sheet_of([caption(f"{key}where", clean(where, 60), size=SMALL, ink="quiet")])
    return stacked([head, about, sheet], 3, 0.5)


def op_level(graph: Graph) -> Sheet:
    """Draw every operation. Only the first of several equal blocks is drawn."""
    of = Parts(graph)
    grouped = [runs(stage, number, of) for number, stage in enumerate(graph.stages)]
    flows: dict[str, FlowChart] = {}
    titles: dict[str, str] = {}
    for name, nodes in of.chains.items():
        if nodes[0].op != "input":
            flows[name] = _chain_flow(of, name, nodes)
            titles[name] = of.title(name)
    for number, groups in enumerate(grouped):
        for group in groups:
            key = f"s{number}b{group[0]}"
            places = [(number, index) for index in group]
            entry = point(f"{key}nin", "the block's input")
            flows[key] = _block_flow(of, places, f"{key}n", "LR", entry)
            titles[key] = span_words(group) + (f"   ×{len(group)}" if len(group) > 1 else "")
    units = {
        key: _opened(key, sheet, titles[key])
        for key, sheet in zip(flows, placed(list(flows.values())), strict=True)
    }
    for name in of.chains:
        if name not in units:
            units[name] = box_unit(chain_box(of, name))
    for number, groups in enumerate(grouped):
        shown = {group[0]: units[f"s{number}b{group[0]}"] for group in groups}
        units[f"s{number}"] = StageLane(of, number, groups).unit(shown)
    return with_header(graph.name, network_facts(graph), assembled(of, units))


def _chain_flow(of: Parts, name: str, nodes: list[Node]) -> FlowChart:
    def outside(source: Node) -> Box:
        return point(f"{name}nin{source.id}", f"from {source.path}")

    return op_flow(of, [nodes], f"{name}n", "LR", outside, nodes[-1].id)


def _opened(key: str, sheet: Sheet, title: str) -> Unit:
    """Return a sheet in a frame with a title. Wires enter at a point ``KEYnin...``, if there is one."""
    pad = 8.0
    text = caption(f"{key}title", title, bold=True).from_corner(pad, 4)
    body = sheet.shifted(pad, text.bottom + 2)
    width = max(sheet.width, text.width) + 2 * pad
    around = frame(f"{key}frame", width, text.bottom + 2 + sheet.height + pad, title, inner=True)
    first = min(body.boxes, key=lambda box: (box.key != f"{key}nin", box.left))
    whole = Sheet(width, around.height, (around, text, *body.boxes), body.wires)
    return Unit(key, whole, first.key, f"{key}nout")
