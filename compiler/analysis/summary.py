"""What the graph alone says of a network: counts, kinds and paths. No torch, no data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import reduce
from typing import NamedTuple

from danetc.compiler.ir.at_node import operands, products_of, weights_of
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.program import NeuronProgram, called_with
from danetc.dsl.record import record


@record
class StageFacts:
    """A stage. ``block_reads`` is the kind of what its blocks read, ``block_gives`` of what they give
    (the row "PV" of Table I), each of all blocks together; ``gives`` is that of the stage's output.

    ``fewest_neurons`` is the least number of neurons on any path from the stem's output to the
    stage's end.
    """

    name: str
    connection: str
    rule: str
    blocks: int
    shape: tuple[int, ...]
    block_reads: str
    block_gives: str
    gives: str
    fewest_neurons: int
    parameters: int


@record
class NeuronFacts:
    """A kind of neuron or activation of a network, with the parameters of its declarations."""

    name: str
    parameters: dict[str, float | bool]
    surrogate: str
    surrogate_parameters: dict[str, float | bool]
    text: str


@record
class Summary:
    """Facts of a network. Operations are counted for one image over all its time steps.

    ``macs`` are multiply-accumulates; ``additions`` stand in their place where the input is spikes,
    or spikes of either sign (an upper bound: silent inputs cost nothing). A convolution of other
    whole numbers multiplies: ``count_macs`` of the ``macs`` do, and could be replaced by at most
    ``count_additions`` additions, one for each unit of their input. ``products`` are those of values by
    each other, as they are written: ``q (k^T v)`` says that keys and values are multiplied first.
    """

    name: str
    steps: int
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    parameters: int
    neurons_on_main_path: int
    neuron_layers: int
    macs: int
    additions: int
    count_macs: int
    count_additions: int
    products: dict[str, int]
    stages: tuple[StageFacts, ...]
    neuron_kinds: tuple[NeuronFacts, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def is_neuron(graph: Graph, node: Node) -> bool:
    """Whether a node is a layer of neurons: of a declaration with a state or a step function.

    One with neither is an activation function, and a network of those alone has no neurons.
    """
    return node.op == "neuron" and graph.program(node).is_neuron


def fires(graph: Graph, node: Node) -> bool:
    """Whether a node is a layer of neurons with a step function, through which a gradient passes
    by the slope of what stands in for it."""
    return node.op == "neuron" and graph.program(node).has_step


def on_main_path(node: Node) -> bool:
    """Stem, branches, interblock modules and head; a shortcut's modules are left out."""
    return "shortcut" not in node.scope


def fewest_neurons(
    graph: Graph, source: int, neurons: Iterable[int] | None = None
) -> dict[int, int]:
    """For every node behind ``source`` the least number of neurons on a path to it."""
    counted = (
        set(neurons)
        if neurons is not None
        else {n.id for n in graph.nodes.values() if is_neuron(graph, n)}
    )
    fewest = {source: 0}
    for node in graph.nodes.values():
        ways = [fewest[i] for i in node.inputs if i in fewest]
        if ways and node.id != source:
            fewest[node.id] = min(ways) + (node.id in counted)
    return fewest


class Operations(NamedTuple):
    """Of one image over all its time steps; see ``Summary``."""

    macs: int
    additions: int
    count_macs: int
    count_additions: int


def operations(graph: Graph) -> Operations:
    """The operations of layers of weights and of products, by the kinds of what is multiplied."""
    macs = additions = count_macs = count_additions = 0
    for node in graph.nodes.values():
        for product in products_of(graph, node):
            varies = any(value.varies for value in OPS[node.op].reads(operands(graph, node)))
            number = product.macs * (graph.steps if varies else 1)
            if any(kind.needs_additions_alone for kind in product.kinds):
                additions += number
                continue
            macs += number
            whole = [kind.most for kind in product.kinds if kind.is_integer]
            if whole:
                count_macs += number
                count_additions += number * min(whole)
    return Operations(macs, additions, count_macs, count_additions)


def summarise(graph: Graph) -> Summary:
    """All facts of a network, from its graph."""
    fewest = fewest_neurons(graph, graph.stem_output)
    neurons = [node for node in graph.nodes.values() if is_neuron(graph, node)]
    layers = [node for node in graph.nodes.values() if node.op == "neuron"]
    stages = []
    for stage in graph.stages:
        depth = len(stage.scope)
        inside = [node for node in graph.nodes.values() if node.scope[:depth] == stage.scope]
        result = graph[stage.result]
        stages.append(
            StageFacts(
                ".".join(stage.scope),
                stage.connection,
                stage.rule,
                len(stage.blocks),
                result.value.shape,
                _kinds(graph, (block.input for block in stage.blocks)),
                _kinds(graph, (block.output for block in stage.blocks)),
                str(result.value.kind),
                fewest.get(stage.result, 0),
                sum(weights_of(graph, node) for node in inside),
            )
        )
    return Summary(
        graph.name,
        graph.steps,
        {node.name: node.value.shape for node in graph.inputs},
        {name: graph[id].value.shape for name, id in graph.outputs.items()},
        sum(weights_of(graph, node) for node in graph.nodes.values()),
        sum(on_main_path(node) for node in neurons),
        len(neurons),
        *operations(graph),
        dict(Counter(_product(node) for node in graph.nodes.values() if OPS[node.op].products)),
        tuple(stages),
        tuple(map(_facts, dict.fromkeys(map(graph.program, layers)))),
    )


def _product(node: Node) -> str:
    what, _ = OPS[node.op].label(node.attrs)
    return what.rstrip(",").replace("ᵀ", "^T")


def _facts(program: NeuronProgram) -> NeuronFacts:
    surrogate = program.surrogate
    text = called_with(program)
    if surrogate is not None:
        text += f", surrogate {called_with(surrogate)}"
    return NeuronFacts(
        program.name,
        dict(program.parameters),
        surrogate.name if surrogate is not None else "",
        dict(surrogate.parameters) if surrogate is not None else {},
        text,
    )


def _kinds(graph: Graph, ids: Iterable[int]) -> str:
    """The kind of several values together."""
    return str(reduce(Kind.__or__, (graph[id].value.kind for id in ids)))
