"""Level ``network``: stages, and what stands before, between and after them."""

from __future__ import annotations

from danetc.compiler.draw.legend import network_facts, with_header
from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, TextCell, fitted
from danetc.compiler.draw.stage import assembled, chain_box
from danetc.compiler.draw.units import Parts, parts, runs
from danetc.compiler.draw.words import clean, interblock, layer, layers_tooltip, size
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS

_MOST_KINDS = 5  # of blocks that are distinguished in a stage


def network_level(graph: Graph) -> Sheet:
    """Each stage is one box."""
    of = parts(graph)
    units: dict[str, Unit] = {name: box_unit(chain_box(of, name)) for name in of.chains}
    for number in range(len(graph.stages)):
        units[f"s{number}"] = box_unit(_stage_box(of, number))
    return with_header(graph.name, network_facts(graph), assembled(of, units))


def _stage_box(of: Parts, number: int) -> Box:
    stage = of.graph.stages[number]
    rows = [(TextCell(clean(".".join(stage.scope)), bold=True, wide=True),)]
    kinds = _kinds(of, number)
    for words, count in kinds[:_MOST_KINDS]:
        text = f"{count} block{'s' * (count > 1)}{words}"
        rows.append((TextCell(clean(text, 60), wide=True),))
    if len(kinds) > _MOST_KINDS:
        rest = sum(count for _, count in kinds[_MOST_KINDS:])
        rows.append((TextCell(f"{rest} more block{'s' * (rest > 1)}", wide=True),))
    about = [
        f"via {stage.connection}" if stage.connection else "wired by its blocks",
        f"by {stage.rule}",
    ]
    rows += [(TextCell(clean(line), size=SMALL, ink="quiet", wide=True),) for line in about]
    own = {node.id for (at, _), nodes in of.blocks.items() if at == number for node in nodes}
    if own & interblock(of.graph):
        rows.append((TextCell("interblock neurons", bold=True, fill="interblock", wide=True),))
    result = of.graph[stage.result].value
    message = f"{'.'.join(stage.scope)} gives {size(result.shape)}, {result.kind}; {layers_tooltip(stage)}"
    return fitted(Box(f"s{number}", tuple(rows), shape="round", tooltip=message))


def _kinds(of: Parts, number: int) -> list[tuple[str, int]]:
    """What a stage's blocks are made of, and how many such blocks stand beside each other."""
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
