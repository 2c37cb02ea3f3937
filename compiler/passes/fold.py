"""Folding of norms and learnt factors into the weights of layers, for inference.

In inference a batch norm is ``a * x + b`` for each channel, with constants a and b. After a
convolution it is folded into weights and bias; after a sum of convolutions, BAA's addition, a is
folded into every addend and b into one. If one addend is no convolution (BAA's identity shortcut), the
norm moves to it and a is folded into the others: ``norm(conv + x) = a * conv + norm(x)``, so that the
next neuron reads the sum directly.

``conv(f * x)`` with a learnt number f for each channel of x is a convolution of x with weights
multiplied by f (Real Spike: Guo et al., ECCV 2022). All readers of ``f * x`` must be layers with their
own weights; ``flatten`` may lie between.

This module plans the changes; ``danetc.compiler.emit.inference`` applies them to the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

from danetc.compiler.ir.at_node import same_for_all
from danetc.compiler.ir.graph import Graph, Node, shares_among
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record


@record
class LearntFactors:
    """Plan for learnt factors, by ids of nodes.

    Args:
        into: for each layer, the factors that its weights are multiplied by.
        products: removed products, with the values that replace them.
        gone: removed nodes of factors.
        kept: for each other factor, the reason why it is not folded.
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

    The graph has no stages, whose rules and connections hold for the trained network.

    Args:
        scalings: for each layer, the norms that it takes, the innermost first.
        factors: plan for learnt factors.
        folded: removed norms.
        moved: norms that stand before an addition instead of after it.
        kept: other norms.
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


@record
class _Terms:
    """Layers of a sum, and the place of its only other term: operand ``other`` of ``way[0]``.

    ``way`` are the additions from there to the whole sum.
    """

    layers: tuple[int, ...]
    other: int | None = None
    way: tuple[int, ...] = ()


@record(frozen=False)
class _Folder:
    graph: Graph
    nodes: dict[int, Node] = field(default_factory=dict)
    to: dict[int, int] = field(default_factory=dict)  # from old nodes to nodes with their values
    readers: dict[int, int] = field(default_factory=dict)  # of nodes of the new graph
    scalings: dict[int, list[Scaling]] = field(default_factory=dict)
    folded: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    apart: set[int] = field(default_factory=set)  # layers at several places

    def run(self) -> Folding:
        graph = self.graph
        inference = Inference.of(graph, self.nodes)
        self.readers = {id: len(users) for id, users in graph.users().items()}
        for id in graph.outputs.values():
            self.readers[id] += 1
        shared = {id for pair in graph.shares.items() for id in pair}
        self.apart = shared
        factors = plan_factors(graph)
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
            elif not (
                row.affine(node.attrs)
                and node.id not in shared
                and self._fold(node, inputs[0], inference)
            ):
                if row.norm is not None:
                    self.kept.append(node.id)
                self.nodes[node.id] = self._with(node, inputs, inference)
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
        norms = tuple(self.folded), tuple(self.moved), tuple(self.kept)
        return Folding(new, scalings, factors, *norms)

    def _pass_on(self, node: Node, source: int) -> None:
        """Replace a node by its input."""
        self.to[node.id] = source
        self.readers[source] += self.readers[node.id] - 1

    def _with(self, node: Node, inputs: tuple[int, ...], inference: Inference) -> Node:
        """Return a node with new inputs and its value inferred again."""
        if not node.inputs:
            return node
        value = inference.value(node.op, node.attrs, inputs)
        return replace(node, inputs=inputs, value=value)

    def _fold(self, norm: Node, source: int, inference: Inference) -> bool:
        """Fold a norm into the layers before it. Returns False if there are none."""
        terms = self._terms(source, norm.value.shape[0])
        if terms is None or not terms.layers or not self.apart.isdisjoint(terms.layers):
            return False
        for index, layer in enumerate(terms.layers):
            shifts = index == 0 and terms.other is None
            self.scalings.setdefault(layer, []).append(Scaling(norm.id, shifts))
            if shifts:
                node = self.nodes[layer]
                self.nodes[layer] = replace(node, attrs={**node.attrs, "bias": True})
        self._pass_on(norm, source)
        if terms.other is None:
            self.folded.append(norm.id)
        else:
            self._move(norm, terms, inference)
            self.moved.append(norm.id)
        return True

    def _terms(self, id: int, channels: int) -> _Terms | None:
        """Return the terms of a sum without other readers: layers, and at most one other value."""
        node = self.nodes[id]
        if self.readers[id] != 1 or node.value.shape[0] != channels:
            return None
        if OPS[node.op].weighted:
            return _Terms((id,))
        if node.op != "add":
            return None
        result = _Terms(())
        for index, operand in enumerate(node.inputs):
            part = self._terms(operand, channels)
            if part is None or not part.layers:
                if self.nodes[operand].value.shape[0] != channels:
                    return None
                part = _Terms((), index)
            if part.other is not None and result.other is not None:
                return None
            if part.other is not None:
                result = replace(result, other=part.other, way=(*part.way, id))
            result = replace(result, layers=(*result.layers, *part.layers))
        return result

    def _move(self, norm: Node, terms: _Terms, inference: Inference) -> None:
        """Move a norm from after a sum to one of its operands."""
        assert terms.other is not None
        inner = self.nodes[terms.way[0]]
        inputs = list(inner.inputs)
        self.nodes[norm.id] = self._with(norm, (inputs[terms.other],), inference)
        self.readers[norm.id] = 1
        inputs[terms.other] = norm.id
        self.nodes[inner.id] = replace(inner, inputs=tuple(inputs))
        for id in terms.way:  # now after the norm
            self.nodes[id] = self.nodes.pop(id)


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
    """Return the reason why a factor is not folded, or an empty string, and add its layers to
    ``layers``."""
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
