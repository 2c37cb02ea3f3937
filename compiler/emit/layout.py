"""Models to measure: the layout of a network, from its graph, and a model whose neurons hooks can see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from danetc.compiler.analysis.summary import is_neuron, on_main_path, summarise
from danetc.compiler.draw.units import Parts
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.at_node import products_of
from danetc.compiler.ir.graph import Block, Graph
from danetc.compiler.ir.loops import loop_of
from danetc.dsl.errors import UserError
from danetc.runtime.layers.inference import InferenceModel
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.segments import Recomputed
from danetc.runtime.measure import Layout, NeuronLayer, StageLayout, WeightLayer
from danetc.runtime.model.built import Model

if TYPE_CHECKING:
    import networkx as nx


def layout_of(graph: Graph) -> Layout:
    """Return what can be measured of a graph, by the names of its modules.

    A stage that runs in a loop over time has no blocks: no module returns their outputs.
    """
    within = loop_of(graph)

    def is_called(block: Block) -> bool:
        loop = within.get(block.output)
        return loop is None or loop.scope[: len(block.scope)] == block.scope

    called = (stage for stage in graph.stages if all(map(is_called, stage.blocks)))
    graph = replace(graph, stages=tuple(called))
    scopes = {stage.scope: index for index, stage in enumerate(graph.stages)}
    flow, joined = graph.to_networkx(), Parts(graph).between
    members: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    neurons, weights = [], []
    for node in graph.nodes.values():
        for depth in range(1, len(node.scope) + 1):
            members[node.scope[:depth]].append(node.id)
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
        kinds = tuple(each.kinds for each in products_of(graph, node)) if node.inputs else ()
        if kinds:
            weights.append(WeightLayer(dotted(*node.scope, node.name), on_main_path(node), kinds))
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
    return Layout(graph.name, graph.steps, tuple(neurons), tuple(weights), stages)


def _output(
    graph: Graph, flow: nx.MultiDiGraph[int], block: Block, members: Sequence[int]
) -> tuple[str, int | None]:
    """Return where a block's output leaves a module: its own if it has one, else its scope."""
    node, inside = graph[block.output], set(members)
    if node.id not in inside:
        return dotted(*node.scope, node.name), None
    given = set(graph.outputs.values())
    leaving = [id for id in members if id in given or not inside.issuperset(flow.successors(id))]
    return dotted(*block.scope), leaving.index(node.id) if len(leaving) > 1 else None


def topology_of(model: object) -> Graph:
    """Return the topology of a model that danetc built. Raises UserError for others and folded ones."""
    graph = getattr(model, "topology", None)
    if not isinstance(graph, Graph):
        raise UserError("only a model that danetc built can be measured: this one has no topology")
    if isinstance(model, InferenceModel):
        raise UserError("a folded model has no norms; use the model that it was folded from")
    return graph


def eager_twin(model: Model) -> Model:
    """Return the model itself if its backend is eager, else an eager one that shares its tensors."""
    modules = list(model.modules())
    eager = all(type(each) is Neuron for each in modules if isinstance(each, Neuron))
    if eager and not any(isinstance(each, Recomputed) for each in modules):
        return model
    assert isinstance(model.topology, Graph)
    twin = emit(model.topology, 0, "eager", "none")
    twin.load_state_dict(model.state_dict(keep_vars=True), assign=True)
    return twin
