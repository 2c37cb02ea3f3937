"""What of a network is measured, from its graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import networkx as nx

from danetc.compiler.analysis.summary import is_neuron, on_main_path, summarise
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.at_node import macs_of, products_of
from danetc.compiler.ir.graph import Block, Graph
from danetc.compiler.ir.loops import Cycle, loop_of
from danetc.compiler.ir.ops import OPS
from danetc.runtime.measure import (
    BlockOutput,
    Layout,
    NeuronLayer,
    ProductLayer,
    StageLayout,
    WeightLayer,
)

Flow: TypeAlias = "nx.MultiDiGraph[int]"


def layout_of(graph: Graph) -> Layout:
    """Return what can be measured of a graph, by the names of its modules.

    A stage that runs in a loop over time has no blocks: no module returns their outputs.
    """
    within = loop_of(graph)
    called = (s for s in graph.stages if all(_is_called(block, within) for block in s.blocks))
    graph = replace(graph, stages=tuple(called))
    scopes = {stage.scope: index for index, stage in enumerate(graph.stages)}
    flow, members = graph.to_networkx(), _members(graph)
    joined = _behind_joins(graph, flow, members)
    neurons, weights, products = [], [], []
    for node in graph.nodes.values():
        if node.op == "neuron":
            neurons.append(
                NeuronLayer(
                    dotted(*node.scope, node.name),
                    on_main_path(node),
                    node.id in joined,
                    is_neuron(graph, node),
                    node.value.kind,
                    next((scopes[s] for s in scopes if node.scope[: len(s)] == s), None),
                )
            )
        if not node.inputs or not macs_of(graph, node):
            continue
        name = dotted(*node.scope, node.name)
        if OPS[node.op].products is not None:
            pairs = [(a, b) for a, b in (each.kinds for each in products_of(graph, node))]
            products.append(ProductLayer(name, on_main_path(node), tuple(pairs)))
        else:
            weights.append(WeightLayer(name, on_main_path(node), graph[node.inputs[0]].value.kind))
    stages = tuple(
        StageLayout(
            ".".join(stage.scope),
            stage.connection,
            stage.rule,
            facts.block_gives,
            tuple(_output(graph, flow, block, members[block.scope]) for block in stage.blocks),
        )
        for stage, facts in zip(graph.stages, summarise(graph).stages, strict=True)
    )
    return Layout(graph.name, graph.steps, tuple(neurons), tuple(weights), stages, tuple(products))


def _is_called(block: Block, within: Mapping[int, Cycle]) -> bool:
    """Return True if a block is a module that is called, not part of a larger loop over time."""
    loop = within.get(block.output)
    return loop is None or loop.scope[: len(block.scope)] == block.scope


def _members(graph: Graph) -> Mapping[tuple[str, ...], list[int]]:
    """Return the nodes of each scope, those of scopes in it included."""
    found: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for node in graph.nodes.values():
        for depth in range(1, len(node.scope) + 1):
            found[node.scope[:depth]].append(node.id)
    return found


def _behind_joins(
    graph: Graph, flow: Flow, members: Mapping[tuple[str, ...], list[int]]
) -> set[int]:
    """Return the interblock neurons: those on the way from a block's join to its output."""
    found = set()
    for stage in graph.stages:
        for block in stage.blocks:
            inside = flow.subgraph((*members[block.scope], block.join))
            if block.output in inside and block.output != block.join:
                behind = nx.descendants(inside, block.join)
                leading = nx.ancestors(inside, block.output) | {block.output}
                found |= {id for id in behind & leading if graph[id].op == "neuron"}
    return found


def _output(graph: Graph, flow: Flow, block: Block, members: Sequence[int]) -> BlockOutput:
    """Return where a block's output leaves a module: its own if it has one, else its scope."""
    node = graph[block.output]
    inside = set(members)
    if node.id not in inside:
        return BlockOutput(dotted(*node.scope, node.name), None)
    given = set(graph.outputs.values())
    leaving = [id for id in members if id in given or not inside.issuperset(flow.successors(id))]
    index = leaving.index(node.id) if len(leaving) > 1 else None
    return BlockOutput(dotted(*block.scope), index)
