"""The graph of a network: made by lowering, rewritten by passes, read by emitters.

A node has an ordered tuple of inputs (a set of edges would lose ``add(x, x)`` and the order of
operands), its inferred value, the scope and name of its module, and the span of its source text.
Nodes are in topological order.

Loops over time are cut at their delays to keep that order: a ``carry`` node has no inputs, and
returns at each step what the node that ``Graph.carries`` names for it returned some steps before.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import field, replace
from itertools import chain, count
from typing import TYPE_CHECKING, Union, assert_never

from danetc.compiler.ir.rule_forms import (
    Delayed,
    Form,
    InputOf,
    Join,
    OutputOf,
    Scaled,
    Source,
    StageInput,
)
from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record
from danetc.dsl.syntax.source import NOWHERE, Span

if TYPE_CHECKING:
    import networkx

Attribute = Union[bool, int, float, str, None]
Shape = tuple[int, ...]


@record
class Value:
    """Shape of one sample at one time step, kind, and variation over time."""

    shape: Shape
    kind: Kind
    varies: bool

    def __str__(self) -> str:
        size = "x".join(str(extent) for extent in self.shape)
        return f"{size} {self.kind} {'varying' if self.varies else 'static'}"


@record
class Node:
    """An operation. ``scope`` and ``name`` are the qualified name of its module."""

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


@record
class Block:
    """A block of a stage by ids of nodes.

    Args:
        after: operations that its connection puts after the join.
        feed: the rule's form of its input.
        shortcut: start of its shortcut and the rule's form of that, if the rule names one.
    """

    scope: tuple[str, ...]
    input: int
    output: int
    join: int
    after: tuple[str, ...]
    feed: Form
    shortcut: tuple[int, Form] | None = None

    @property
    def feeds(self) -> tuple[tuple[int, Form], ...]:
        """Values that it reads, with the rule's form of each."""
        own = (self.input, self.feed)
        return (own,) if self.shortcut is None else (own, self.shortcut)


@record
class Stage:
    """A stage and its blocks. ``result_form`` is the rule's form of the stage's result.

    ``connection``, ``rule`` and ``block`` are names of declarations.
    """

    scope: tuple[str, ...]
    connection: str
    rule: str
    entry: int
    blocks: tuple[Block, ...]
    result: int
    result_form: Form
    origin: Span = field(default=NOWHERE, compare=False, repr=False)
    block: str = ""

    def nodes(self) -> set[int]:
        """Return all nodes that the stage names."""
        ends = {id for block in self.blocks for id in (block.output, block.join)}
        ends |= {id for block in self.blocks for id, _ in block.feeds}
        return ends | {self.entry, self.result}

    def terms(self, form: Form) -> Mapping[Source, float] | None:
        """Return the factors of a form that is a sum of the stage's input and of outputs, else None.

        Inputs of blocks are replaced by their forms. The order of the sum is ignored.
        """
        total: dict[Source, float] = {}
        inputs: dict[int, float] = {}  # replaced from the last block on, each once
        waiting: list[tuple[Form, float]] = [(form, 1.0)]
        while waiting or inputs:
            if not waiting:
                last = max(inputs)
                waiting.append((self.blocks[last].feed, inputs.pop(last)))
            part, weight = waiting.pop()
            match part:
                case StageInput() | OutputOf():
                    total[part] = total.get(part, 0.0) + weight
                case InputOf(block):
                    inputs[block] = inputs.get(block, 0.0) + weight
                case Scaled(float(factor), value):
                    waiting.append((value, factor * weight))
                case Join("sum", parts):
                    waiting += [(item, weight) for item in parts]
                case Join() | Scaled() | Delayed():
                    return None
                case _:
                    assert_never(part)
        return total


@record
class Graph:
    """A network.

    Args:
        outputs: nodes that it returns, by name.
        neurons: programs by key.
        carries: for each ``carry`` node, the one whose earlier values it returns.
        shares: for each node that shares the weights of an earlier one, that one.
        weight_layers: layers that are applied to weights, by the ``weight`` of their nodes. Each is a
            network whose input and output are the weight as a map (``weighted.weight_map``).
    """

    name: str
    steps: int
    nodes: Mapping[int, Node]
    outputs: Mapping[str, int]
    stages: tuple[Stage, ...]
    neurons: Mapping[str, NeuronProgram]
    stem_output: int = 0
    carries: Mapping[int, int] = field(default_factory=dict)
    shares: Mapping[int, int] = field(default_factory=dict)
    weight_layers: Mapping[str, Graph] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Node, ...]:
        """Inputs of a model, in order."""
        return tuple(node for node in self.nodes.values() if node.op == "input")

    @property
    def input(self) -> Node:
        """The first input."""
        return next(node for node in self.nodes.values() if node.op == "input")

    @property
    def packed(self) -> Value | None:
        """All inputs concatenated along their channels, as data sets provide them.

        None if the sizes of maps differ, if only some inputs vary over time, or if one of several is
        tokens. The kind is the smallest of those of the inputs.
        """
        values = [node.value for node in self.inputs]
        if len(values) == 1:
            return values[0]
        alike = len({(value.shape[1:], value.varies) for value in values}) == 1
        if not alike or any(value.kind.is_token for value in values):
            return None
        kinds = [value.kind for value in values if value.kind.is_integer]
        kind = min(kinds, key=lambda kind: kind.most, default=ANALOG)
        shape = (sum(value.shape[0] for value in values), *values[0].shape[1:])
        return Value(shape, kind, values[0].varies)

    def __getitem__(self, id: int) -> Node:
        return self.nodes[id]

    def program(self, node: Node) -> NeuronProgram:
        """Return the program of a neuron's node."""
        return self.neurons[str(node.attrs["neuron"])]

    def weight_layer(self, node: Node) -> Graph | None:
        """Return the layer that is applied to the weight of a node, or None."""
        key = node.attrs.get("weight")
        return self.weight_layers[key] if isinstance(key, str) else None

    def stage_of(self, node: Node) -> Stage | None:
        """Return the stage that contains a node."""
        found = (stage for stage in self.stages if node.scope[: len(stage.scope)] == stage.scope)
        return next(found, None)

    def with_plain_weights(self) -> Graph:
        """Return the graph of the same layers with the weights that weight layers compute."""
        if not self.weight_layers:
            return self
        nodes = {
            id: replace(node, attrs={**node.attrs, "weight": None})
            if "weight" in node.attrs
            else node
            for id, node in self.nodes.items()
        }
        return replace(self, nodes=nodes, weight_layers={})

    def inputs_of(self, node: Node) -> tuple[Node, ...]:
        return tuple(self.nodes[i] for i in node.inputs)

    def reads(self, node: Node) -> tuple[int, ...]:
        """Return the nodes that a node's value depends on: its inputs, or what it carries."""
        source = self.carries.get(node.id)
        return node.inputs if source is None else (source,)

    def behind(
        self, starts: Iterable[int], through: Callable[[Node], bool] = lambda node: True
    ) -> set[int]:
        """Return these nodes and all that they depend on ``through`` others, through loops too."""
        found = set(starts)
        waiting = [*found]
        while waiting:
            node = self.nodes[waiting.pop()]
            new = {*self.reads(node)} - found if through(node) else set()
            found |= new
            waiting += new
        return found

    def users(self) -> dict[int, list[int]]:
        """Return the readers of each node, once for each operand. A ``carry`` reads what it carries,
        a later node."""
        result: dict[int, list[int]] = {id: [] for id in self.nodes}
        for node in self.nodes.values():
            for operand in self.reads(node):
                result[operand].append(node.id)
        return result

    def readers(self) -> dict[int, int]:
        """Return the number of readers of each node, outputs of the network included."""
        result = {id: len(users) for id, users in self.users().items()}
        for id in self.outputs.values():
            result[id] += 1
        return result

    def paths(self) -> set[tuple[str, ...]]:
        """Return the paths of all nodes and scopes."""
        nodes = [(*node.scope, node.name) for node in self.nodes.values()]
        return {path[:depth] for path in nodes for depth in range(1, len(path) + 1)}

    def to_networkx(self) -> networkx.MultiDiGraph[int]:
        """Return the graph for networkx, with node data ``node`` and edges keyed by operand index.

        It has no edges from one step to the next (``carries``).
        """
        import networkx

        graph: networkx.MultiDiGraph[int] = networkx.MultiDiGraph(name=self.name)
        for node in self.nodes.values():
            graph.add_node(node.id, node=node, op=node.op, path=node.path)
        for node in self.nodes.values():
            for index, operand in enumerate(node.inputs):
                graph.add_edge(operand, node.id, key=index)
        return graph


def shares_among(shares: Mapping[int, int], nodes: Container[int]) -> dict[int, int]:
    """Return ``shares`` restricted to some nodes. If the owner of weights is gone, the next node that
    shared them owns them."""
    owners: dict[int, int] = {}
    left: dict[int, int] = {}
    for use, owner in sorted(shares.items()):
        if use in nodes:
            own = owners.setdefault(owner, owner if owner in nodes else use)
            if own != use:
                left[use] = own
    return left


def unique(base: str, taken: Callable[[str], bool], between: str = "") -> str:
    """Return ``base``, or the first of ``base2``, ``base3``, ... that is not taken."""
    names = chain((base,), (f"{base}{between}{number}" for number in count(2)))
    return next(name for name in names if not taken(name))
