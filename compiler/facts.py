"""What the graph alone says of a network: counts, kinds and paths. No torch, no data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod

from danetc.compiler.graph import Graph, Node
from danetc.compiler.ops import OPS


@dataclass(frozen=True, slots=True)
class StageFacts:
    """A stage. ``propagated`` is its row "PV" of Table I: what passes from block to block.

    ``fewest_neurons`` is the least number of spiking neurons on any path from the stem's output to
    the stage's end.
    """

    name: str
    connection: str
    rule: str
    blocks: int
    shape: tuple[int, ...]
    propagated: str
    fewest_neurons: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Facts of a network. Operations are counted for one image over all its time steps.

    ``macs`` are multiply-accumulates; ``additions`` stand in their place where the input is spikes
    (an upper bound: silent inputs cost nothing). A convolution of counts multiplies.
    """

    name: str
    steps: int
    input: tuple[int, ...]
    outputs: dict[str, tuple[int, ...]]
    parameters: int
    neurons_on_main_path: int
    neuron_layers: int
    macs: int
    additions: int
    stages: tuple[StageFacts, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def weights_of(graph: Graph, node: Node) -> int:
    """Parameters of a node's operation; a neuron's learnt scalars are counted too."""
    values = tuple(item.value for item in graph.inputs_of(node))
    number = sum(prod(shape) for shape in OPS[node.op].weights(node.attrs, values).values())
    if node.op == "batchnorm" and node.attrs["per_step"]:
        number *= graph.steps
    if node.op == "tebn":
        number += graph.steps
    if node.op == "neuron":
        from danetc.dsl.neuron_program import NeuronProgram

        number += len(NeuronProgram.parse(graph.neurons[str(node.attrs["neuron"])]).learnables)
    return number


def is_spiking(node: Node) -> bool:
    return node.op == "neuron" and node.value.kind.name == "spike"


def on_main_path(node: Node) -> bool:
    """Stem, branches, interblock modules and head; a shortcut's modules are left out."""
    return "shortcut" not in node.scope


def fewest_neurons(
    graph: Graph, source: int, spiking: Iterable[int] | None = None
) -> dict[int, int]:
    """For every node behind ``source`` the least number of spiking neurons on a path to it."""
    counted = (
        set(spiking)
        if spiking is not None
        else {n.id for n in graph.nodes.values() if is_spiking(n)}
    )
    fewest = {source: 0}
    for node in graph.nodes.values():
        ways = [fewest[i] for i in node.inputs if i in fewest]
        if ways and node.id != source:
            fewest[node.id] = min(ways) + (node.id in counted)
    return fewest


def operations(graph: Graph) -> tuple[int, int]:
    """Multiply-accumulates, and the additions that stand for them where the input is spikes."""
    macs = additions = 0
    for node in graph.nodes.values():
        values = tuple(item.value for item in graph.inputs_of(node))
        number = OPS[node.op].macs(node.attrs, values, node.value.shape)
        if not number:
            continue
        number *= graph.steps if values[0].varies else 1
        if values[0].kind.name == "spike":
            additions += number
        else:
            macs += number
    return macs, additions


def summarise(graph: Graph) -> Summary:
    """All facts of a network, from its graph."""
    fewest = fewest_neurons(graph, graph.stem_output)
    macs, additions = operations(graph)
    neurons = [node for node in graph.nodes.values() if is_spiking(node)]
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
                str(_propagated(graph, [block.output for block in stage.blocks])),
                fewest.get(stage.result, 0),
                sum(weights_of(graph, node) for node in inside),
            )
        )
    return Summary(
        graph.name,
        graph.steps,
        graph.input.value.shape,
        {name: graph[id].value.shape for name, id in graph.outputs.items()},
        sum(weights_of(graph, node) for node in graph.nodes.values()),
        sum(on_main_path(node) for node in neurons),
        len(neurons),
        macs,
        additions,
        tuple(stages),
    )


def _propagated(graph: Graph, ids: list[int]) -> object:
    kinds = [graph[id].value.kind for id in ids]
    if any(not kind.is_integer for kind in kinds):
        return "analog"
    return max(kinds, key=lambda kind: kind.bound)
