"""Level ``network``: stages, and what stands before, between and after them."""

from __future__ import annotations

from danetc.compiler.draw.legend import network_facts, with_header
from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import SMALL, Box, Cell, Sheet, fitted
from danetc.compiler.draw.stage import assembled, glue_box
from danetc.compiler.draw.units import Parts, parts, runs
from danetc.compiler.draw.words import clean, layer, layers_tooltip, size
from danetc.compiler.graph import Graph


def network_level(graph: Graph) -> Sheet:
    """Each stage is one box."""
    of = parts(graph)
    units: dict[str, Unit] = {name: box_unit(glue_box(of, name)) for name in of.glue}
    for number in range(len(graph.stages)):
        units[f"s{number}"] = box_unit(_stage_box(of, number))
    return with_header(graph.name, network_facts(graph), assembled(of, units))


def _stage_box(of: Parts, number: int) -> Box:
    stage = of.graph.stages[number]
    rows = [(Cell(clean(".".join(stage.scope)), bold=True, wide=True),)]
    for run in runs(stage, number, of):
        nodes = of.blocks[number, run[0]]
        weights = [
            layer(node).removeprefix("conv ")
            for node in nodes
            if node.op == "conv" and "shortcut" not in node.scope
        ]
        inside = f" of conv {' → '.join(weights)}" if len(weights) <= 4 else ""
        words = f"{len(run)} block{'s' * (len(run) > 1)}{inside}"
        if len(rows) <= 6:
            rows.append((Cell(clean(words, 60), wide=True),))
    neurons = {
        node.op == "neuron"
        for (owner, index), nodes in of.blocks.items()
        if owner == number
        for node in nodes
        if node.id == stage.blocks[index].output
    }
    about = [
        f"via {stage.connection}" if stage.connection else "wired by its blocks",
        f"by {stage.rule}",
    ]
    rows += [(Cell(clean(line), size=SMALL, ink="quiet", wide=True),) for line in about]
    if True in neurons and any(b.output != b.join for b in stage.blocks):
        rows.append((Cell("interblock neurons", bold=True, fill="interblock", wide=True),))
    result = of.graph[stage.result].value
    told = (
        f"{'.'.join(stage.scope)} gives {size(result.shape)} {result.kind}; {layers_tooltip(stage)}"
    )
    return fitted(Box(f"s{number}", tuple(rows), shape="round", tooltip=told))
