"""Folding of learnt factors of channels into the weights of the layers after them, for inference.

``conv(f * x)`` with a number f for each channel of x is a convolution of x with weights multiplied by
f (Real Spike: Guo et al., ECCV 2022). All readers of ``f * x`` must be layers with their own weights;
``flatten`` may lie between.
"""

from __future__ import annotations

from collections.abc import Mapping

from danetc.compiler.ir.at_node import same_for_all
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record


@record
class LearntFactors:
    """Where learnt factors go, all by ids of nodes.

    Args:
        into: for each layer, the factors that its weights are multiplied by.
        products: removed products, with the values that replace them.
        gone: removed nodes of factors.
        kept: reasons why other factors stay.
    """

    into: Mapping[int, tuple[int, ...]]
    products: Mapping[int, int]
    gone: frozenset[int]
    kept: Mapping[int, str]


def plan_factors(graph: Graph) -> LearntFactors:
    """Return where each learnt factor of a graph goes."""
    learnt, users = same_for_all(graph), graph.users()
    into: dict[int, tuple[int, ...]] = {}
    products: dict[int, int] = {}
    kept: dict[int, str] = {}
    for node in graph.nodes.values():
        factors = [id for id in node.inputs if id in learnt]
        others = [id for id in node.inputs if id not in learnt]
        if node.op != "mul" or len(factors) != 1 or len(others) != 1:
            continue
        layers: list[int] = []
        reason = _why_not(graph, node, graph[factors[0]], users, layers)
        if reason:
            kept[factors[0]] = reason
            continue
        products[node.id] = others[0]
        for layer in layers:
            into[layer] = (*into.get(layer, ()), factors[0])
    gone: set[int] = set()
    for id in reversed([id for id in graph.nodes if id in learnt]):
        readers = {reader for reader in users[id] if reader not in gone}
        if (readers and readers <= products.keys()) or (users[id] and not readers):
            gone.add(id)
    return LearntFactors(into, products, frozenset(gone), kept)


def _why_not(
    graph: Graph, product: Node, factor: Node, users: Mapping[int, list[int]], layers: list[int]
) -> str:
    """Return why a factor stays, or an empty text; ``layers`` gets the layers that take it."""
    if factor.value.varies:
        return "each time step has numbers of its own, and weights are the same at all"
    if any(size != 1 for size in factor.value.shape[1:]):
        return "each pixel has a number of its own, and weights are the same at all"
    if source_of(graph, factor).op != "parameter":
        return "it is made of several learnt numbers"
    if product.id in graph.outputs.values():
        return "the network gives the product"
    apart = {id for pair in graph.shares.items() for id in pair}
    waiting = list(users[product.id])
    while waiting:
        reader = graph[waiting.pop()]
        if reader.op == "flatten" and reader.id not in graph.outputs.values():
            waiting += users[reader.id]
        elif reader.op == "add":
            return f"`{reader.path}` adds other values to the product, which have not this factor"
        elif not OPS[reader.op].weighted:
            return f"`{reader.path}` ({reader.op}) reads the product, and has no weights"
        elif reader.id in apart:
            return f"`{reader.path}` is a layer that stands at several places"
        else:
            layers.append(reader.id)
    return "" if layers else "nothing reads the product"


def source_of(graph: Graph, factor: Node) -> Node:
    """Return the learnt number of a factor like ``2 * learn(1.0) - 1``."""
    while factor.op == "affine":
        factor = graph[factor.inputs[0]]
    return factor
