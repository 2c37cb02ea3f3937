"""The graph of a network: what lowering makes, passes rewrite and emitters read.

A node holds an ordered tuple of inputs (an edge set alone would lose ``add(x, x)`` and the order
of operands), the value inferred for it, the scope and name that its module will have, and the
span of the text it came from. Nodes stand in topological order: inputs come before their users.

A loop over time is cut at its delay, so that this holds: a ``carry`` node has no inputs, and gives
at each step what the node that ``Graph.carries`` names for it gave some steps before.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Union, assert_never

from danetc.compiler.ir.rule_forms import (
    Delayed,
    Form,
    InputOf,
    Join,
    OutputOf,
    Scaled,
    ScaledByLearnt,
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
    """What is known of an edge: shape of one sample at one step, kind, variation over time."""

    shape: Shape
    kind: Kind
    varies: bool

    def __str__(self) -> str:
        size = "x".join(str(extent) for extent in self.shape)
        return f"{size} {self.kind} {'varying' if self.varies else 'static'}"


@record
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


@record
class Block:
    """A block of a stage by its node ids. ``after`` are the ops its connection puts after the join.

    ``feed`` is what the rule says of its input. ``shortcut`` is what its shortcut starts from, and
    what the rule says of it, where it says so.
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
        """The values that it reads, and what the rule says of each."""
        own = (self.input, self.feed)
        return (own,) if self.shortcut is None else (own, self.shortcut)


@record
class Stage:
    """A stage: its blocks, what the rule says feeds each and what it says the stage gives.

    ``connection``, ``rule`` and ``block`` are the names of the declarations that it was made of.
    ``delayed`` has the nodes of values of earlier steps that the rule reads, and what it says of each.
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
    delayed: tuple[tuple[int, Delayed], ...] = ()

    def nodes(self) -> set[int]:
        """All nodes that the stage names."""
        ends = {id for block in self.blocks for id in (block.output, block.join)}
        ends |= {id for block in self.blocks for id, _ in block.feeds}
        return ends | {id for id, _ in self.delayed} | {self.entry, self.result}

    def terms(self, form: Form) -> Mapping[Source, float] | None:
        """A form as a sum of the stage's input and of outputs, each with its factor.

        Inputs of blocks are led back to these. None where it is not such a sum. Roundings are left
        out of it: what a proposition is about does not depend on the order of a sum.
        """
        total: dict[Source, float] = {}
        inputs: dict[int, float] = {}  # those of blocks, the last of which is led back first: once
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
                case Scaled(factor, value):
                    waiting.append((value, factor * weight))
                case Join("sum", parts):
                    waiting += [(item, weight) for item in parts]
                case Join() | ScaledByLearnt() | Delayed():
                    return None
                case _:
                    assert_never(part)
        return total


@record
class Graph:
    """A network. ``outputs`` names the nodes it returns; ``neurons`` holds programs by key.

    ``carries`` has for each ``carry`` node the one whose earlier values it gives. ``shares`` has for
    each node that computes with the weights of another, earlier in the spec, that one.
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

    @property
    def inputs(self) -> tuple[Node, ...]:
        """What a model is called with, in this order."""
        return tuple(node for node in self.nodes.values() if node.op == "input")

    @property
    def input(self) -> Node:
        """The input of a network with one; the first of several."""
        return next(node for node in self.nodes.values() if node.op == "input")

    @property
    def packed(self) -> Value | None:
        """All inputs side by side along their channels, as data sets give them.

        None where that is no value: maps of several sizes, or an image beside frames. Of its kind
        are numbers that each of them takes.
        """
        values = [node.value for node in self.inputs]
        if len({(value.shape[1:], value.varies) for value in values}) > 1:
            return None
        kinds = [value.kind for value in values if value.kind.is_integer]
        kind = min(kinds, key=lambda kind: kind.most, default=ANALOG)
        shape = (sum(value.shape[0] for value in values), *values[0].shape[1:])
        return Value(shape, kind, values[0].varies)

    def __getitem__(self, id: int) -> Node:
        return self.nodes[id]

    def program(self, node: Node) -> NeuronProgram:
        """The program of a neuron's node."""
        return self.neurons[str(node.attrs["neuron"])]

    def inputs_of(self, node: Node) -> tuple[Node, ...]:
        return tuple(self.nodes[i] for i in node.inputs)

    def reads(self, node: Node) -> tuple[int, ...]:
        """What a node's value is made of, at any step: its inputs, or what it carries."""
        source = self.carries.get(node.id)
        return node.inputs if source is None else (source,)

    def behind(self, starts: Iterable[int]) -> set[int]:
        """These nodes and all that their values are made of, through loops too."""
        found = set(starts)
        waiting = [*found]
        while waiting:
            for id in self.reads(self.nodes[waiting.pop()]):
                if id not in found:
                    found.add(id)
                    waiting.append(id)
        return found

    def users(self) -> dict[int, list[int]]:
        """For each node the nodes that read it, once for each operand; a ``carry`` reads what it
        carries, which comes behind it."""
        result: dict[int, list[int]] = {id: [] for id in self.nodes}
        for node in self.nodes.values():
            for operand in self.reads(node):
                result[operand].append(node.id)
        return result

    def to_networkx(self) -> networkx.MultiDiGraph[int]:
        """The same graph for networkx: node data ``node``, edges keyed by operand index.

        What is carried from one step to the next is no edge: ``carries`` has it.
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
    """What of ``shares`` is left among some nodes: where the one that had the weights is gone, the
    next that computed with them has them."""
    owners: dict[int, int] = {}
    left: dict[int, int] = {}
    for use, owner in sorted(shares.items()):
        if use in nodes:
            own = owners.setdefault(owner, owner if owner in nodes else use)
            if own != use:
                left[use] = own
    return left


def unique(base: str, taken: Callable[[str], bool]) -> str:
    """``base``, or the first of ``base2``, ``base3``, ... that is not taken."""
    if not taken(base):
        return base
    number = 2
    while taken(f"{base}{number}"):
        number += 1
    return f"{base}{number}"
