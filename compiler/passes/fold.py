"""Folding of norms and learnt factors into the weights of layers, for inference.

In inference, a batch norm is ``a * x + b`` for each channel, with constants a and b. After a
convolution, it is folded into weights and bias; after a sum of convolutions (BAA's addition), a is
folded into every addend and b into one. If one addend is not a convolution (BAA's identity
shortcut), the norm moves to it and a is folded into the others: ``norm(conv + x) = a * conv +
norm(x)``. Then the next neuron reads the sum directly.

``conv(f * x)`` with a learnt number f for each channel of x is a convolution of x with weights
multiplied by f (Real Spike: Guo et al., ECCV 2022). All readers of ``f * x``, apart from
``flatten``, must be layers with weights of their own.

This module plans the changes; ``danetc.compiler.emit.inference`` applies them to the weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from danetc.compiler.ir.at_node import same_for_all
from danetc.compiler.ir.graph import Graph, Node, shares_among
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record


@record
class LearntFactors:
    """Learnt factors to fold, by ids of nodes.

    Args:
        into: Factors by which the weights of each layer are multiplied.
        products: Removed products, with the values that replace them.
        gone: Removed nodes of factors.
        kept: Reason why each other factor is not folded.
    """

    into: Mapping[int, tuple[int, ...]]
    products: Mapping[int, int]
    gone: frozenset[int]
    kept: Mapping[int, str]


@record
class Scaling:
    """A norm that is folded into a layer: its factor, and its offset if ``shifts`` is True."""

    norm: int
    shifts: bool


@record
class Folding:
    """A graph for inference, and the changes of its weights. All ids are those of the old graph.

    The graph has no stages: their rules and connections describe the network before folding.

    Args:
        scalings: Norms that are folded into each layer, the innermost first.
        factors: Learnt factors to fold into weights.
        folded: Removed norms.
        moved: Norms that are applied to one addend instead of the sum.
        kept: Other norms.
    """

    graph: Graph
    scalings: Mapping[int, tuple[Scaling, ...]]
    factors: LearntFactors
    folded: tuple[int, ...]
    moved: tuple[int, ...]
    kept: tuple[int, ...]


def plan_folding(graph: Graph) -> Folding:
    """Return the plan for all norms and learnt factors of a graph."""
    return _Folder(graph).run()


class _Folder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[int, Node] = {}
        self.to: dict[int, int] = {}  # new node with the value of each old node
        self.inference = Inference(graph.neurons, self.nodes)
        self.readers = graph.readers()  # number of readers of nodes of the new graph
        self.scalings: dict[int, list[Scaling]] = defaultdict(list)
        self.shared = {*graph.shares, *graph.shares.values()}

    def run(self) -> Folding:
        graph, factors = self.graph, plan_factors(self.graph)
        norms: dict[str, list[int]] = {"folded": [], "moved": [], "kept": []}
        for node in graph.nodes.values():
            if node.id in factors.gone:
                continue
            if node.id in factors.products:
                self._pass_on(node, self.to[factors.products[node.id]])
                continue
            inputs = tuple(self.to[i] for i in node.inputs)
            row = OPS[node.op]
            if row.training:
                self._pass_on(node, inputs[0])
            else:
                affine = row.affine(node.attrs) and node.id not in self.shared
                how = self._fold(node, inputs[0]) if affine else "kept"
                if row.norm is not None:
                    norms[how].append(node.id)
                if how == "kept":
                    self.nodes[node.id] = self._with(node, inputs)
                    self.to[node.id] = node.id
        new = replace(
            graph,
            nodes=self.nodes,
            outputs={name: self.to[id] for name, id in graph.outputs.items()},
            stages=(),
            stem_output=self.to[graph.stem_output],
            carries={id: self.to[source] for id, source in graph.carries.items()},
            shares=shares_among(graph.shares, self.nodes),
        )
        scalings = {layer: tuple(items) for layer, items in self.scalings.items()}
        return Folding(new, scalings, factors, *map(tuple, norms.values()))

    def _pass_on(self, node: Node, source: int) -> None:
        """Replace a node by its input."""
        self.to[node.id] = source
        self.readers[source] += self.readers[node.id] - 1

    def _with(self, node: Node, inputs: tuple[int, ...]) -> Node:
        """Return a node with new inputs, and infer its value again."""
        if not node.inputs:
            return node
        value = self.inference.value(node.op, node.attrs, inputs)
        return replace(node, inputs=inputs, value=value)

    def _fold(self, norm: Node, source: int) -> str:
        """Fold a norm into the layers before it, or move it to an addend. Return what was done."""
        layers, others = self._terms(source, norm.value.shape[0])
        if not layers or len(others) > 1 or not self.shared.isdisjoint(layers):
            return "kept"
        for id in layers:
            self.scalings[id].append(Scaling(norm.id, False))
        self._pass_on(norm, source)
        if not others:
            node = self.nodes[layers[0]]
            self.scalings[node.id][-1] = Scaling(norm.id, True)
            self.nodes[node.id] = replace(node, attrs={**node.attrs, "bias": True})
            return "folded"
        ((place, *sums),) = others
        inner = self.nodes[sums[0]]
        inputs = [*inner.inputs]
        self.nodes[norm.id] = self._with(norm, (inputs[place],))
        self.readers[norm.id] = 1
        inputs[place] = norm.id
        self.nodes[inner.id] = replace(inner, inputs=tuple(inputs))
        for id in sums:  # now after the norm
            self.nodes[id] = self.nodes.pop(id)
        return "moved"

    def _terms(self, id: int, channels: int) -> tuple[list[int], list[list[int]]]:
        """Return the layers of a sum that has no other readers, and the paths to its other terms.

        A path consists of the index of an operand, its addition, and all outer additions.
        """
        layers: list[int] = []
        others: list[list[int]] = []
        node = self.nodes[id]
        alone = self.readers[id] == 1 and node.value.shape[0] == channels
        if alone and OPS[node.op].weighted:
            return [id], []
        if not alone or node.op != "add":
            return [], []
        for index, operand in enumerate(node.inputs):
            if self.nodes[operand].value.shape[0] != channels:
                return [], []
            found, beside = self._terms(operand, channels)
            layers += found
            others += [[*place, id] for place in beside] if found else [[index, id]]
        return layers, others


# -- learnt factors --------------------------------------------------------------------------------


def plan_factors(graph: Graph) -> LearntFactors:
    """Return the plan for all learnt factors of a graph."""
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
    """Return why a factor is not folded, or "". Appends the layers that read it to ``layers``."""
    if factor.value.varies:
        return "each time step has its own numbers, but the weights are the same at all steps"
    if any(size != 1 for size in factor.value.shape[1:]):
        return "each pixel has its own number, but the weights are the same at all pixels"
    if source_of(graph, factor).op != "parameter":
        return "it is computed from several learnt numbers"
    if product.id in graph.outputs.values():
        return "the product is an output of the network"
    waiting = list(users[product.id])
    while waiting:
        reader = graph[waiting.pop()]
        if reader.op == "flatten" and reader.id not in graph.outputs.values():
            waiting += users[reader.id]
        elif reader.op == "add":
            return f"`{reader.path}` adds values without this factor to the product"
        elif not OPS[reader.op].weighted:
            return f"`{reader.path}` ({reader.op}) reads the product but has no weights"
        elif reader.id in {*graph.shares, *graph.shares.values()}:
            return f"`{reader.path}` is a shared layer"
        else:
            layers.append(reader.id)
    return "" if layers else "nothing reads the product"


def source_of(graph: Graph, factor: Node) -> Node:
    """Return the learnt number in a factor such as ``2 * learn(1.0) - 1``."""
    while factor.op == "affine":
        factor = graph[factor.inputs[0]]
    return factor
