"""Facts of a node in its graph, from the table of operations, and of the graph's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from danetc.compiler.ir.graph import Graph, Node, Shape, Value
from danetc.compiler.ir.ops import OPS, Product, Site, TorchFunction, TorchModule, text
from danetc.dsl.errors import UserError


def site(graph: Graph, node: Node) -> Site:
    """Return a node for the rules of its row."""
    values = tuple(graph.nodes[id].value for id in node.inputs)
    return Site(node.attrs, values, node.value, graph.steps, graph.neurons)


def weights(graph: Graph, node: Node) -> Mapping[str, Shape]:
    """Return the shapes of a node's trained tensors by name, learnt scalars of a neuron included.

    If a layer is applied to the weight, that is ``weight_raw``, and the names of the layer's own
    tensors start with ``weight_layer``.
    """
    found = OPS[node.op].weights(site(graph, node))
    if (layer := graph.weight_layer(node)) is None:
        return found
    return {"weight_raw": found.pop("weight"), **found} | {
        f"weight_layer.{inner.path}.{name}": shape
        for inner in layer.nodes.values()
        for name, shape in weights(layer, inner).items()
    }


def weights_of(graph: Graph, node: Node) -> int:
    """Return the number of trained numbers of a node, without those it shares with another."""
    return 0 if node.id in graph.shares else sum(map(prod, weights(graph, node).values()))


def same_kinds(graph: Graph, node: Node) -> bool:
    """Return True if a layer takes values of the same kinds at all places that share its weights."""
    if not graph.shares:
        return True
    owner = graph.shares.get(node.id, node.id)
    places = [owner, *(use for use, of in graph.shares.items() if of == owner)]
    kinds = {tuple(value.kind for value in site(graph, graph[id]).values) for id in places}
    return len(kinds) == 1


def has_own_state(graph: Graph, node: Node) -> bool:
    """Return True if a node has weights, draws random numbers or keeps state between training passes,
    so that two equal nodes may differ."""
    row = OPS[node.op]
    learnt = node.op == "neuron" and graph.program(node).learnables
    return row.random or row.drawn or row.time == "constant" or bool(learnt or weights(graph, node))


def same_for_all(graph: Graph) -> frozenset[int]:
    """Return the values that all samples share: learnt numbers, and what depends on them alone."""
    found: set[int] = set()
    for node in graph.nodes.values():
        shared = found.issuperset(node.inputs) if node.inputs else not OPS[node.op].for_samples
        if shared:
            found.add(node.id)
    return frozenset(found)


def before_neurons(graph: Graph) -> list[int]:
    """Return the nodes that read no spikes: no neuron precedes them."""
    found: dict[int, None] = {}
    for node in graph.nodes.values():
        spiking = node.op == "neuron" or OPS[node.op].carries
        if not spiking and found.keys() >= {*node.inputs}:
            found[node.id] = None
    return [*found]


def per_step(graph: Graph, node: Node) -> bool:
    """Return True if a node has parameters for each time step."""
    row = OPS[node.op]
    return row.per_step(node.attrs) or (row.time == "neuron" and graph.program(node).per_step)


def why_fixed(graph: Graph, node: Node) -> str:
    """Return what a node has for each time step, so that it runs for one T alone; else empty."""
    return "parameters" if per_step(graph, node) else OPS[node.op].fixes_steps


def macs_of(graph: Graph, node: Node) -> int:
    """Return the multiply-accumulates of one sample at one step."""
    return sum(product.macs for product in products_of(graph, node))


def products_of(graph: Graph, node: Node) -> tuple[Product, ...]:
    """Return the products of a node, for one sample at one step."""
    row, at = OPS[node.op], site(graph, node)
    if row.products is not None:
        return row.products(at)
    macs = row.macs(at)
    return (Product(macs, (at.values[0].kind,)),) if macs else ()


def call_of(graph: Graph, node: Node) -> TorchModule | TorchFunction | None:
    """Return the module or function of a node in a model; None if it has none."""
    return OPS[node.op].emit(site(graph, node))


def taken(graph: Graph) -> Value:
    """Return the value that holds all inputs, side by side along their channels. Raises UserError."""
    if graph.packed is None:
        raise UserError(f"{graph.name} {why_apart(graph)}")
    return graph.packed


def why_apart(graph: Graph) -> str:
    """Return why a network does not have exactly one input."""
    sizes = ", ".join(
        f"{node.name} {text(node.value.shape)}{' at each step' if node.value.varies else ''}"
        for node in graph.inputs
    )
    return (
        f"takes inputs that one image cannot hold ({sizes}); give them one size and kind, or call the "
        f"model in Python: model({', '.join(node.name for node in graph.inputs)})"
    )
