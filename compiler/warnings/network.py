"""Lowered networks as subjects of the rules of layers and neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from danetc.compiler.ir.graph import Node
from danetc.compiler.lowering.networks import Lowered
from danetc.compiler.warnings.rule import Trees
from danetc.dsl.loading import is_library
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Call, Declaration


@record(slots=False)
class CheckedNetwork:
    """A network, its declaration and its text."""

    lowered: Lowered
    declaration: Declaration
    trees: Trees

    @cached_property
    def by_op(self) -> Mapping[str, list[Node]]:
        """Nodes by operation, in the order of the graph."""
        found: dict[str, list[Node]] = {}
        for node in self.lowered.graph.nodes.values():
            found.setdefault(node.op, []).append(node)
        return found

    def of(self, *ops: str) -> Iterator[Node]:
        for op in ops:
            yield from self.by_op.get(op, ())

    def wherever(self, holds: Callable[[Node], bool], *ops: str) -> Iterator[Node]:
        """Yield the nodes of some operations for which ``holds`` is True for all of the same text.

        A setting without effect in one block may have an effect in the next.
        """
        places: dict[tuple[Span, Span], list[Node]] = {}
        for node in self.of(*ops):
            written_at = self.lowered.written_at.get(node.id, node.origin)
            places.setdefault((written_at, self.place(node)), []).append(node)
        for nodes in places.values():
            if all(holds(node) for node in nodes):
                yield from nodes

    @cached_property
    def users(self) -> Mapping[int, list[int]]:
        return self.lowered.graph.users()

    @cached_property
    def programs(self) -> Mapping[str, NeuronProgram]:
        return self.lowered.graph.neurons

    def program(self, node: Node) -> NeuronProgram:
        """Return the program of a neuron."""
        return self.programs[str(node.attrs["neuron"])]

    def source(self, node: Node) -> Node:
        """Return the operand of a node."""
        return self.lowered.graph[node.inputs[0]]

    def is_output(self, node: Node) -> bool:
        """True if a node is an output of the network."""
        return node.id in self.lowered.graph.outputs.values()

    def place(self, node: Node) -> Span:
        """Return the user's text of a node, which for library code is its use."""
        if not is_library(node.origin.source):
            return node.origin
        return self.lowered.used.get(node.id, self.declaration.name_span)

    def written_at(self, node: Node) -> Span:
        """Return the place of a node among the layers: `spike`, not the declaration of the neuron."""
        span = self.lowered.written_at.get(node.id)
        return self.place(node) if span is None or is_library(span.source) else span

    def call(self, node: Node) -> Call | None:
        """Return the call of a node; None for text of the library."""
        return None if is_library(node.origin.source) else self.trees.call(node.origin)
