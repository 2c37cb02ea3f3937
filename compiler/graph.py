"""The graph of a network: what lowering makes, passes rewrite and emitters read.

A node holds an ordered tuple of inputs (an edge set alone would lose ``add(x, x)`` and the order
of operands), the value inferred for it, the scope and name that its module will have, and the
span of the text it came from. Nodes stand in topological order: inputs come before their users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Union

from danetc.dsl.source import NOWHERE, Span

if TYPE_CHECKING:
    import networkx

Attribute = Union[bool, int, float, str, None]
Shape = tuple[int, ...]

EXACT_COUNT = 2**24
"""The largest integer up to which float32 holds every integer; a larger count is analog."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an edge carries: spikes (0 or 1), counts (0 .. bound) or real numbers."""

    name: str
    bound: int = 0

    def __str__(self) -> str:
        return f"count({self.bound})" if self.name == "count" else self.name

    @property
    def is_integer(self) -> bool:
        return self.name != "analog"


SPIKE = Kind("spike", 1)
ANALOG = Kind("analog")


def count(bound: int) -> Kind:
    """Integers from 0 to ``bound``: spikes for 1, analog where float32 could not hold them."""
    if bound <= 1:
        return SPIKE
    return Kind("count", bound) if bound <= EXACT_COUNT else ANALOG


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of an edge: shape of one sample at one step, kind, variation over time."""

    shape: Shape
    kind: Kind
    varies: bool

    def __str__(self) -> str:
        size = "x".join(str(extent) for extent in self.shape)
        return f"{size} {self.kind} {'varying' if self.varies else 'static'}"


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. ``scope`` and ``name`` together are the qualified name of its module."""

    id: int
    op: str
    inputs: tuple[int, ...]
    attrs: Mapping[str, Attribute]
    value: Value
    scope: tuple[str, ...]
    name: str
    origin: Span = field(default=NOWHERE, compare=False, repr=False)

    @property
    def path(self) -> str:
        return ".".join((*self.scope, self.name))


Form = tuple[object, ...]
"""What a rule's equation says of one value, as nested tuples:

``("in", 0)``, ``("out", j)``, ``("sum", form, ...)``, ``("concat", form, ...)``,
``("max", form, ...)``, ``("min", form, ...)``, ``("scale", factor, form)``.
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a stage by its node ids. ``after`` are the ops its connection puts after the join."""

    scope: tuple[str, ...]
    input: int
    output: int
    join: int
    after: tuple[str, ...]
    feed: Form


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: its blocks, what the rule says feeds each and what it says the stage gives."""

    scope: tuple[str, ...]
    connection: str
    rule: str
    entry: int
    blocks: tuple[Block, ...]
    result: int
    result_form: Form
    origin: Span = field(default=NOWHERE, compare=False, repr=False)

    def nodes(self) -> set[int]:
        """All nodes that the stage names."""
        ends = {id for block in self.blocks for id in (block.input, block.output, block.join)}
        return ends | {self.entry, self.result}

    def terms(self, form: Form) -> Mapping[Form, float] | None:
        """A form as a sum of the stage's input and of outputs, each with its factor.

        Inputs of blocks are led back to these. None where it is not such a sum. Roundings are left
        out of it: what a proposition is about does not depend on the order of a sum.
        """
        total: dict[Form, float] = {}
        waiting: list[tuple[object, float]] = [(form, 1.0)]
        while waiting:
            part, weight = waiting.pop()
            match part:
                case ("in", 0) | ("out", int()):
                    leaf: Form = (*part,)
                    total[leaf] = total.get(leaf, 0.0) + weight
                case ("in", int(j)):
                    waiting.append((self.blocks[j].feed, weight))
                case ("scale", float(factor), inner):
                    waiting.append((inner, factor * weight))
                case ("sum", *parts):
                    waiting += [(item, weight) for item in parts]
                case _:
                    return None
        return total


@dataclass(frozen=True, slots=True)
class Graph:
    """A network. ``outputs`` names the nodes it returns; ``neurons`` holds programs by key."""

    name: str
    steps: int
    nodes: Mapping[int, Node]
    outputs: Mapping[str, int]
    stages: tuple[Stage, ...]
    neurons: Mapping[str, str]
    stem_output: int = 0

    @property
    def input(self) -> Node:
        return next(node for node in self.nodes.values() if node.op == "input")

    def __getitem__(self, id: int) -> Node:
        return self.nodes[id]

    def inputs_of(self, node: Node) -> tuple[Node, ...]:
        return tuple(self.nodes[i] for i in node.inputs)

    def users(self) -> dict[int, list[int]]:
        """For each node the nodes that read it, once for each operand."""
        result: dict[int, list[int]] = {id: [] for id in self.nodes}
        for node in self.nodes.values():
            for operand in node.inputs:
                result[operand].append(node.id)
        return result

    def to_networkx(self) -> networkx.MultiDiGraph[int]:
        """The same graph for networkx: node data ``node``, edges keyed by operand index."""
        import networkx

        graph: networkx.MultiDiGraph[int] = networkx.MultiDiGraph(name=self.name)
        for node in self.nodes.values():
            graph.add_node(node.id, node=node, op=node.op, path=node.path)
        for node in self.nodes.values():
            for index, operand in enumerate(node.inputs):
                graph.add_edge(operand, node.id, key=index)
        return graph


class Rewriter:
    """Rebuilds a graph node by node. A pass maps each old node to a node of the new graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[int, Node] = {}
        self.mapping: dict[int, int] = {}
        self._next = max(graph.nodes, default=-1) + 1
        self._names = {
            (path[:-1], path[-1])
            for node in graph.nodes.values()
            for path in (*_scopes(node), (*node.scope, node.name))
        }

    def keep(
        self, node: Node, inputs: Iterable[int] | None = None, value: Value | None = None
    ) -> int:
        """Take a node over under its own id, with new inputs or value where they are given."""
        operands = (
            tuple(inputs) if inputs is not None else tuple(self.mapping[i] for i in node.inputs)
        )
        if operands != node.inputs or value is not None:
            node = replace(node, inputs=operands, value=value or node.value)
        self.nodes[node.id] = node
        self.mapping[node.id] = node.id
        return node.id

    def new(
        self,
        op: str,
        inputs: tuple[int, ...],
        attrs: Mapping[str, Attribute],
        value: Value,
        like: Node,
    ) -> int:
        """Add a node of no old counterpart, in the scope and with the origin of ``like``."""
        id = self._next
        self._next += 1
        name = unique(op, lambda candidate: (like.scope, candidate) in self._names)
        self._names.add((like.scope, name))
        self.nodes[id] = Node(id, op, inputs, attrs, value, like.scope, name, like.origin)
        return id

    def finish(self, outputs: Mapping[str, int] | None = None) -> Graph:
        """The new graph, with outputs and stages led over. A stage that lost a node is dropped."""
        to = self.mapping
        stages = tuple(
            replace(
                stage,
                entry=to[stage.entry],
                result=to[stage.result],
                blocks=tuple(
                    replace(b, input=to[b.input], output=to[b.output], join=to[b.join])
                    for b in stage.blocks
                ),
            )
            for stage in self.graph.stages
            if all(i in to for i in stage.nodes())
        )
        return replace(
            self.graph,
            nodes=self.nodes,
            outputs=outputs or {name: to[id] for name, id in self.graph.outputs.items()},
            stages=stages,
            stem_output=to[self.graph.stem_output],
        )


def _scopes(node: Node) -> Iterable[tuple[str, ...]]:
    return (node.scope[:depth] for depth in range(1, len(node.scope) + 1))


def unique(base: str, taken: Callable[[str], bool]) -> str:
    """``base``, or the first of ``base2``, ``base3``, ... that is not taken."""
    if not taken(base):
        return base
    number = 2
    while taken(f"{base}{number}"):
        number += 1
    return f"{base}{number}"
