"""Level ``network``, which draws stages, and level ``stage``, which draws the blocks of stages."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from danetc.compiler.draw.block_box import block_box, layer_cell
from danetc.compiler.draw.legend import network_facts, with_header
from danetc.compiler.draw.rows import Unit, box_unit, in_rows
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, TextCell, caption, fitted
from danetc.compiler.draw.stage_lane import StageLane
from danetc.compiler.draw.units import Parts, runs
from danetc.compiler.draw.words import clean, layer, origin, size, tooltip, value_words
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS

_MOST_WHOLE = 6  # a stage of at most this many blocks is drawn completely
_MOST_SHOWN = 8  # maximum number of blocks drawn in a longer stage


def stage_level(graph: Graph) -> Sheet:
    """Draw the blocks of all stages and their wires."""
    of = Parts(graph)
    units = {name: box_unit(chain_box(of, name)) for name in of.chains}
    for number in range(len(graph.stages)):
        groups = groups_of(of, number)
        alone = [group[0] for group in groups if len(group) == 1]
        shown = {index: box_unit(block_box(of, number, index)) for index in alone}
        units[f"s{number}"] = StageLane(of, number, groups).unit(shown)
    return with_header(graph.name, network_facts(graph), assembled(of, units))


def assembled(of: Parts, units: dict[str, Unit]) -> Sheet:
    """Lay out all units of a network in rows, with its outputs at the end."""
    ordered = [units[name] for name in of.order]
    for index, (output, id) in enumerate(of.graph.outputs.items()):
        box = caption(f"out{index}", clean(output), bold=True)
        ordered.append(box_unit(replace(box, tooltip=value_words(of.graph[id].value))))
    return in_rows(ordered, of.links)


def chain_box(of: Parts, name: str) -> Box:
    """Return a chain of layers outside of the stages as one box."""
    nodes = of.chains[name]
    if nodes[0].op == "input":
        title, cells = clean(nodes[0].name), [TextCell(size(nodes[0].value.shape), wide=True)]
    else:
        title, cells = of.title(name), [layer_cell(of, node, wide=True) for node in nodes]
    head = [TextCell(title, bold=True, wide=True)] if title else []
    rows = tuple((cell,) for cell in [*head, *cells])
    ids = tuple(node.id for node in nodes)
    return fitted(Box(name, rows, tooltip="\n".join(map(tooltip, nodes)), nodes=ids))


def groups_of(of: Parts, number: int) -> list[list[int]]:
    """Group the indices of a stage's blocks. Each group is drawn as one box."""
    stage = of.graph.stages[number]
    n = len(stage.blocks)
    if n <= _MOST_WHOLE:
        return [[index] for index in range(n)]
    shown = {0, 1, n - 1}
    for run in runs(stage, number, of):
        shown |= set(run) if len(run) <= 3 else {run[0], run[-1]}
    if len(shown) > _MOST_SHOWN:
        shown = {0, 1, n - 1}
    hidden = groupby(range(n), key=lambda index: index if index in shown else -1)
    return [[*group] for _, group in hidden]


_MOST_KINDS = 5  # maximum number of kinds of blocks listed in a stage


def network_level(graph: Graph) -> Sheet:
    """Draw the stages of the network, each as a box."""
    of = Parts(graph)
    units: dict[str, Unit] = {name: box_unit(chain_box(of, name)) for name in of.chains}
    for number in range(len(graph.stages)):
        units[f"s{number}"] = box_unit(_stage_box(of, number))
    return with_header(graph.name, network_facts(graph), assembled(of, units))


def _stage_box(of: Parts, number: int) -> Box:
    stage = of.graph.stages[number]
    name, count = ".".join(stage.scope), len(stage.blocks)
    kinds = _kinds(of, number)
    lines = [f"{n} block{'s' * (n > 1)}{words}" for words, n in kinds[:_MOST_KINDS]]
    if len(kinds) > _MOST_KINDS:
        rest = sum(n for _, n in kinds[_MOST_KINDS:])
        lines.append(f"{rest} more block{'s' * (rest > 1)}")
    via = f"via {stage.connection}" if stage.connection else "blocks with bodies"
    cells = [TextCell(clean(name), bold=True, wide=True)]
    cells += [TextCell(clean(line, 60), wide=True) for line in lines]
    for about in (via, f"by {stage.rule}"):
        cells.append(TextCell(clean(about), size=SMALL, ink="quiet", wide=True))
    ids = of.ids(number, range(count))
    if of.between & {*ids}:
        cells.append(TextCell("interblock neurons", bold=True, fill="interblock", wide=True))
    result = value_words(of.graph[stage.result].value)
    place = ", ".join(filter(None, (f"{count} blocks", origin(stage.origin))))
    message = f"{name} returns {result}; {place}"
    rows = tuple((cell,) for cell in cells)
    return fitted(Box(f"s{number}", rows, shape="round", tooltip=message, nodes=ids))


def _kinds(of: Parts, number: int) -> list[tuple[str, int]]:
    """Describe the convolutions of a stage's blocks, with the number of equal adjacent blocks."""
    found: list[tuple[str, int]] = []
    for run in runs(of.graph.stages[number], number, of):
        weights = [
            layer(node).removeprefix("conv ")
            for node in of.blocks[number, run[0]]
            if OPS[node.op].convolves and "shortcut" not in node.scope
        ]
        words = f" of conv {' → '.join(weights)}" if 0 < len(weights) <= 4 else ""
        before = found.pop()[1] if found and found[-1][0] == words else 0
        found.append((words, before + len(run)))
    return found
