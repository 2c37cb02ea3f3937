"""Level ``stage``: blocks, and what feeds each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from danetc.compiler.analysis.summary import is_neuron
from danetc.compiler.draw.feeds import StageLane
from danetc.compiler.draw.lanes import box_stop
from danetc.compiler.draw.legend import network_facts, with_header
from danetc.compiler.draw.rows import Unit, box_unit, in_rows
from danetc.compiler.draw.sheet import SMALL, Box, Rows, Sheet, TextCell, caption, fitted
from danetc.compiler.draw.theme import Role
from danetc.compiler.draw.units import Parts, parts, runs
from danetc.compiler.draw.words import (
    clean,
    interblock,
    layer,
    neurons,
    sign,
    size,
    tooltip,
    value_words,
)
from danetc.compiler.ir.graph import Block, Graph, Node
from danetc.compiler.ir.ops import OPS

_MOST_WHOLE = 6  # a stage of up to so many blocks is drawn whole
_MOST_SHOWN = 8  # and no stage shows more than this


def stage_level(graph: Graph) -> Sheet:
    """Blocks, and what feeds each of them."""
    of = parts(graph)
    fires, between = neurons(graph), interblock(graph)
    units = {name: box_unit(glue_box(of, name)) for name in of.glue}
    for number, stage in enumerate(graph.stages):
        groups = groups_of(of, number)
        stops = {}
        for index in (group[0] for group in groups if len(group) == 1):
            nodes = of.blocks[number, index]
            key, block = f"s{number}b{index}", stage.blocks[index]
            box = block_box(graph, key, index, block, nodes, fires, between)
            stops[index] = box_stop(box)
        units[f"s{number}"] = StageLane(of, number, groups).unit(stops)
    return with_header(graph.name, network_facts(graph), assembled(of, units))


def assembled(of: Parts, units: dict[str, Unit]) -> Sheet:
    """All units of a network in rows, and its outputs at the end."""
    ordered = [units[name] for name in of.order]
    for index, (output, id) in enumerate(of.graph.outputs.items()):
        box = caption(f"out{index}", clean(output), bold=True)
        ordered.append(box_unit(replace(box, tooltip=value_words(of.graph[id].value))))
    return in_rows(ordered, of.links)


def glue_box(of: Parts, name: str) -> Box:
    """Layers outside of the stages as one box."""
    nodes = of.glue[name]
    if nodes[0].op == "input":
        value = nodes[0].value
        rows: Rows = (
            (TextCell("input", bold=True, wide=True),),
            (TextCell(size(value.shape), wide=True),),
        )
        return fitted(Box(name, rows, tooltip=tooltip(nodes[0])))
    title = of.title(name)
    head: Rows = ((TextCell(title, bold=True, wide=True),),) if title else ()
    rows = tuple((_cell(node, is_neuron(of.graph, node), wide=True),) for node in nodes)
    message = "\n".join(map(tooltip, nodes))
    return fitted(Box(name, head + rows, tooltip=message))


def _cell(node: Node, fires: bool, *, wide: bool = False) -> TextCell:
    if fires:
        return TextCell(layer(node), bold=True, fill="neuron", wide=wide)
    return TextCell(layer(node), wide=wide)


def block_box(
    graph: Graph,
    key: str,
    index: int,
    block: Block,
    nodes: Sequence[Node],
    fires: set[int],
    between: set[int],
) -> Box:
    """A block as a box: a line for each of its weighted layers, and one for what joins them.

    ``fires`` are the layers of neurons of the graph, ``between`` the interblock ones.
    """
    after: list[Node] = []
    at = graph[block.output]
    while at.id != block.join and at.inputs:
        after.insert(0, at)
        at = graph[at.inputs[0]]
    join = graph[block.join]
    joins = sign(join)
    apart = {node.id for node in after} | ({join.id} if joins else set())
    inner = [node for node in nodes if node.id not in apart]
    rows: list[tuple[TextCell, ...]] = [(TextCell(f"block {index}", bold=True, wide=True),)]
    rows += layer_rows(inner, len(block.scope), fires)
    if joins or after:
        marked = any(node.id in between for node in after)
        fill: Role = "interblock" if marked else "none"
        words = [joins] if joins else []
        words += [layer(node) for node in after]
        rows.append((TextCell("  ".join(words), bold=True, fill=fill, wide=True),))
    message = [".".join(block.scope), *map(tooltip, nodes)]
    return fitted(Box(key, tuple(rows), shape="round", tooltip="\n".join(message)))


def layer_rows(nodes: Iterable[Node], depth: int, fires: set[int]) -> list[tuple[TextCell, ...]]:
    """Lines of layers. A scope's line starts again where its first operation comes again."""
    rows: list[tuple[str, list[Node]]] = []
    for node in nodes:
        scope = ".".join(node.scope[depth:])
        if rows and rows[-1][0] == scope:
            line = rows[-1][1]
            weighted = any(OPS[item.op].weighted for item in line)
            if not (weighted and node.op == _first(rows, scope)):
                line.append(node)
                continue
        rows.append((scope, [node]))
    regular = [line for _, line in rows if _is_regular(line)]
    named = any(scope not in ("branch", "") for scope, line in rows if _is_regular(line))
    lead = max(map(_weighted, regular), default=0)
    found: list[tuple[TextCell, ...]] = []
    before = ""
    for scope, line in rows:
        label = clean(scope, 16) if scope not in (before, "branch") else ""
        before = scope
        if _is_regular(line):
            drawn = [_cell(node, node.id in fires) for node in line]
            cells = (*[TextCell("")] * (lead - _weighted(line)), *drawn)
            found.append((TextCell(label, ink="quiet", size=SMALL), *cells) if named else cells)
        else:
            words = " · ".join(map(layer, line))
            found.append((TextCell(f"{label}: {words}" if label else words, wide=True),))
    return found


def _is_regular(line: Sequence[Node]) -> bool:
    """Whether a line is that of one weighted layer; only such lines stand in columns."""
    return sum(OPS[node.op].weighted for node in line) == 1 and len(line) <= 4


def _weighted(line: Sequence[Node]) -> int:
    """Where a line's weighted layer stands: these are put under each other."""
    return next((i for i, node in enumerate(line) if OPS[node.op].weighted), 0)


def _first(rows: Sequence[tuple[str, list[Node]]], scope: str) -> str:
    return next(line[0].op for name, line in rows if name == scope)


def groups_of(of: Parts, number: int) -> list[list[int]]:
    """A stage's blocks: those that are drawn alone, and runs that are drawn as one."""
    stage = of.graph.stages[number]
    n = len(stage.blocks)
    if n <= _MOST_WHOLE:
        return [[index] for index in range(n)]
    shown = {0, 1, n - 1}
    for run in runs(stage, number, of):
        shown |= set(run) if len(run) <= 3 else {run[0], run[-1]}
    if len(shown) > _MOST_SHOWN:
        shown = {0, 1, n - 1}
    found: list[list[int]] = []
    for index in range(n):
        if index in shown or not found or found[-1][-1] in shown:
            found.append([index])
        else:
            found[-1].append(index)
    return found
