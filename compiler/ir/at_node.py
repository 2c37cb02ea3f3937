"""What the table of operations says of a node in its graph."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from danetc.compiler.ir.graph import Graph, Node, Shape
from danetc.compiler.ir.ops import OPS, Context, Product, TorchFunction, TorchModule
from danetc.compiler.ir.ops.kinds import Values


def operands(graph: Graph, node: Node) -> Values:
    """The values that a node reads."""
    return tuple(graph.nodes[id].value for id in node.inputs)


def weights(graph: Graph, node: Node) -> Mapping[str, Shape]:
    """The shapes of what is trained in a node, a neuron's learnt scalars too, by names."""
    row = OPS[node.op]
    return row.weights(node.attrs, operands(graph, node), Context.of(graph))


def weights_of(graph: Graph, node: Node) -> int:
    """How many numbers are trained in a node, those of another apart."""
    return 0 if node.id in graph.shares else sum(map(prod, weights(graph, node).values()))


def same_kinds(graph: Graph, node: Node) -> bool:
    """Whether a layer takes values of the same kinds at all places where its weights are."""
    if not graph.shares:
        return True
    owner = graph.shares.get(node.id, node.id)
    places = [owner, *(use for use, of in graph.shares.items() if of == owner)]
    kinds = {tuple(value.kind for value in operands(graph, graph[id])) for id in places}
    return len(kinds) == 1


def has_own_state(graph: Graph, node: Node) -> bool:
    """Return True if two such nodes may differ although all else is equal: because of weights,
    random numbers, or what training passes leave behind."""
    row = OPS[node.op]
    learnt = node.op == "neuron" and graph.program(node).learnables
    return row.random or row.time == "constant" or bool(learnt or weights(graph, node))


def same_for_all(graph: Graph) -> frozenset[int]:
    """The values that all samples share: what is learnt, and what is made of that alone."""
    found: set[int] = set()
    for node in graph.nodes.values():
        shared = found.issuperset(node.inputs) if node.inputs else not OPS[node.op].for_samples
        if shared:
            found.add(node.id)
    return frozenset(found)


def per_step(graph: Graph, node: Node) -> bool:
    """Whether a node has parameters for each time step."""
    row = OPS[node.op]
    return row.per_step(node.attrs) or (row.time == "neuron" and graph.program(node).per_step)


def why_fixed(graph: Graph, node: Node) -> str:
    """What a node has of each time step, so that it runs for one T alone; else empty."""
    return "parameters" if per_step(graph, node) else OPS[node.op].fixes_steps


def macs_of(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one sample at one step."""
    return sum(product.macs for product in products_of(graph, node))


def products_of(graph: Graph, node: Node) -> tuple[Product, ...]:
    """What a node multiplies by what, of one sample at one step."""
    return OPS[node.op].multiplied(node.attrs, operands(graph, node), node.value.shape)


def call_of(graph: Graph, node: Node) -> TorchModule | TorchFunction | None:
    """What a node becomes in a model; None of one that no model has."""
    row = OPS[node.op]
    return row.emit(node.attrs, operands(graph, node), node.value, Context.of(graph))
