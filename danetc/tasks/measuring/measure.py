"""Measuring from Python and for ``danetc measure``: what of a graph is measured, and on what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import networkx as nx

from danetc.compiler.analysis.summary import is_neuron, on_main_path, summarise
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.at_node import macs_of, products_of
from danetc.compiler.ir.graph import Block, Graph, Node, Stage
from danetc.compiler.ir.loops import loop_of
from danetc.compiler.ir.ops import OPS
from danetc.errors import UserError
from danetc.runtime.measure import (
    BlockOutput,
    Layout,
    MeasureError,
    MeasureOptions,
    NeuronLayer,
    ProductLayer,
    StageLayout,
    WeightLayer,
)
from danetc.runtime.measure import measure as run
from danetc.runtime.measure.run import mean_cross_entropy
from danetc.tasks.measuring.measurement import Measurement

if TYPE_CHECKING:
    from torch import Tensor

    from danetc.runtime.measure.gradients import Loss
    from danetc.runtime.model.built import Model

Flow: TypeAlias = "nx.MultiDiGraph[int]"


def measure(
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    only: Collection[str] = (),
    options: MeasureOptions | None = None,
    loss: Loss = mean_cross_entropy,
    on_progress: Callable[[int], None] = lambda images: None,
) -> Measurement:
    """Measure a model on batches of images [N, ...] or [T, N, ...] and labels [N]: see ``danetc.measure``.

    Raises UserError where it cannot be measured.
    """
    graph = refuse_others(model)
    twin, layout = eager_twin(model, graph), layout_of(graph)
    try:
        found = run(
            twin, layout, batches, only=only, options=options, loss=loss, on_progress=on_progress
        )
    except MeasureError as error:
        raise UserError(f"{graph.name} cannot be measured: {error}") from error
    return Measurement.of(found, layout)


def refuse_others(model: object) -> Graph:
    """The topology of a model that danetc built. Raises UserError for any other."""
    graph = getattr(model, "topology", None)
    if not isinstance(graph, Graph):
        raise UserError("only a model that danetc built can be measured: this one has no topology")
    return graph


def eager_twin(model: Model, graph: Graph) -> Model:
    """The model itself where it is of the eager backend, else one that shares its tensors."""
    from danetc.compiler.emit.fx import emit
    from danetc.runtime.layers.inference import InferenceModel
    from danetc.runtime.layers.neuron import Neuron
    from danetc.runtime.layers.segments import Recomputed

    if isinstance(model, InferenceModel):
        raise UserError(
            "a folded model has no norms of its own; measure the one it was folded from"
        )
    modules = list(model.modules())
    eager = all(type(each) is Neuron for each in modules if isinstance(each, Neuron))
    if eager and not any(isinstance(each, Recomputed) for each in modules):
        return model
    twin = emit(graph, 0, "eager", "none")
    twin.load_state_dict(model.state_dict(keep_vars=True), assign=True)
    return twin


def layout_of(graph: Graph) -> Layout:
    """What can be measured of a graph, by the names of its modules.

    A stage that runs in a loop over time gives no blocks: no module gives what they pass on.
    """
    graph = replace(graph, stages=_callable_stages(graph))
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
                    _stage_of(graph, node),
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


def _callable_stages(graph: Graph) -> tuple[Stage, ...]:
    """The stages whose blocks are modules that are called."""
    within = loop_of(graph)

    def is_called(block: Block) -> bool:
        loop = within.get(block.output)
        return loop is None or loop.scope[: len(block.scope)] == block.scope

    return tuple(stage for stage in graph.stages if all(map(is_called, stage.blocks)))


def _stage_of(graph: Graph, node: Node) -> int | None:
    for index, stage in enumerate(graph.stages):
        if node.scope[: len(stage.scope)] == stage.scope:
            return index
    return None


def _members(graph: Graph) -> Mapping[tuple[str, ...], list[int]]:
    """The nodes that stand in each scope or below it."""
    found: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for node in graph.nodes.values():
        for depth in range(1, len(node.scope) + 1):
            found[node.scope[:depth]].append(node.id)
    return found


def _behind_joins(
    graph: Graph, flow: Flow, members: Mapping[tuple[str, ...], list[int]]
) -> set[int]:
    """The interblock neurons: those on the way from a block's join to its output."""
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
    """Where a block's output leaves a module: its own where it has one, else its scope."""
    node = graph[block.output]
    inside = set(members)
    if node.id not in inside:
        return BlockOutput(dotted(*node.scope, node.name), None)
    given = set(graph.outputs.values())
    leaving = [id for id in members if id in given or not inside.issuperset(flow.successors(id))]
    index = leaving.index(node.id) if len(leaving) > 1 else None
    return BlockOutput(dotted(*block.scope), index)
