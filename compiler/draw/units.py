"""Units of a network: stages, chains of layers outside of them, and the links between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from danetc.compiler.analysis.summary import is_neuron
from danetc.compiler.draw.rows import Link
from danetc.compiler.draw.words import clean, look, size, wire_tooltip
from danetc.compiler.ir.graph import Block, Graph, Node, Stage
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record

# A longer chain is split into several units, if possible before a layer with weights.
_FULL, _LONGEST = 8, 12
_LOOSE = ("p",)  # attributes that are ignored, as the rate of drop-path depends on the depth


@record(slots=False)
class Parts:
    """Nodes of a graph by unit.

    ``chains`` has the chains of layers outside of the stages by unit, ``blocks`` the nodes of each
    block by stage and index, and ``unit_of`` the unit of each node (``s0`` is stage 0).
    """

    graph: Graph
    chains: Mapping[str, list[Node]]
    blocks: Mapping[tuple[int, int], list[Node]]
    unit_of: Mapping[int, str]

    @cached_property
    def order(self) -> list[str]:
        """Units in the order of the spec."""
        return list(dict.fromkeys(self.unit_of[id] for id in self.graph.nodes))

    @cached_property
    def links(self) -> list[Link]:
        """Links between units, one for each value, including those to outputs."""
        found: dict[tuple[str, str, int], Link] = {}
        for node in self.graph.nodes.values():
            for operand in self.graph.reads(node):
                self._link(found, operand, self.unit_of[node.id])
        for number, stage in enumerate(self.graph.stages):
            self._link(found, stage.entry, f"s{number}")
        for index, id in enumerate(self.graph.outputs.values()):
            self._link(found, id, f"out{index}")
        return list(found.values())

    def _link(self, found: dict[tuple[str, str, int], Link], id: int, head: str) -> None:
        tail = self.unit_of[id]
        if tail != head:
            source = self.graph[id]
            message = wire_tooltip(source.path, source.value)
            label = size(source.value.shape)
            found.setdefault(
                (tail, head, id), Link(tail, head, id, look(source.value), message, label)
            )

    @cached_property
    def fires(self) -> set[int]:
        """The ids of all neurons. Activation functions are not included."""
        return {node.id for node in self.graph.nodes.values() if is_neuron(self.graph, node)}

    @cached_property
    def between(self) -> set[int]:
        """The ids of interblock neurons, which come after the addition at the end of a block."""
        found: set[int] = set()
        for block in (block for stage in self.graph.stages for block in stage.blocks):
            at = self.graph[block.output]
            if not OPS[self.graph[block.join].op].sign:
                continue  # nothing is joined
            while at.id != block.join and at.inputs:
                found |= {at.id} & self.fires
                at = self.graph[at.inputs[0]]
        return found

    def ids(self, number: int, indices: Iterable[int]) -> tuple[int, ...]:
        """Return the ids of all nodes of some blocks of a stage."""
        return tuple(node.id for index in indices for node in self.blocks[number, index])

    def title(self, unit: str) -> str:
        return clean(".".join(self.chains[unit][0].scope))


def parts(graph: Graph) -> Parts:
    """Assign each node of a graph to its block, its stage's rule, or a chain outside of stages."""
    owner: dict[tuple[str, ...], tuple[int, int]] = {}
    blocks: dict[tuple[int, int], list[Node]] = {}
    for number, stage in enumerate(graph.stages):
        owner[stage.scope] = (number, -1)
        for index, block in enumerate(stage.blocks):
            owner[block.scope] = (number, index)
            blocks[number, index] = []
    users = graph.users()
    unit_of: dict[int, str] = {}
    chains: dict[str, list[Node]] = {}
    for node in graph.nodes.values():
        ends = range(len(node.scope), 0, -1)
        place = next((owner[node.scope[:e]] for e in ends if node.scope[:e] in owner), None)
        if place is not None:
            unit_of[node.id] = f"s{place[0]}"
            if place[1] >= 0:  # else a node of the rule
                blocks[place].append(node)
            continue
        unit_of[node.id] = unit = _chain(graph, node, users, unit_of, chains) or f"g{node.id}"
        chains.setdefault(unit, []).append(node)
    return Parts(graph, chains, blocks, unit_of)


def _chain(
    graph: Graph,
    node: Node,
    users: Mapping[int, list[int]],
    unit_of: Mapping[int, str],
    chains: Mapping[str, list[Node]],
) -> str | None:
    """Return the unit that a layer continues: that of its only input, if it is the only reader."""
    if len(node.inputs) != 1:
        return None
    before = graph[node.inputs[0]]
    alone = len(users[before.id]) == 1 and before.id not in graph.outputs.values()
    unit = unit_of[before.id]
    long = len(chains.get(unit, ())) >= (_FULL if OPS[node.op].weighted else _LONGEST)
    same = before.op != "input" and before.scope == node.scope and alone and not long
    return unit if same and unit in chains else None


def signature(block: Block, nodes: list[Node]) -> tuple[object, ...]:
    """Return the operations, sizes and connections of a block. They are the same for equal blocks."""

    def said(node: Node) -> object:
        attrs = tuple(sorted((k, str(v)) for k, v in node.attrs.items() if k not in _LOOSE))
        return node.op, attrs, node.scope[len(block.scope) :]

    return wiring_of(block, nodes, said)


def wiring_of(
    block: Block, nodes: Sequence[Node], said: Callable[[Node], object]
) -> tuple[object, ...]:
    """Return the wiring of a block, with the label ``said`` of each node."""
    number = {id: -1 - place for place, (id, _) in enumerate(block.feeds)}
    found: list[object] = []
    for i, node in enumerate(nodes):
        number[node.id] = i
        found.append((said(node), tuple(number.get(operand, -2) for operand in node.inputs)))
    return (tuple(found), number.get(block.output), number.get(block.join))


def runs(stage: Stage, number: int, of: Parts) -> list[list[int]]:
    """Return the indices of the blocks of a stage, grouped into runs of equal blocks."""
    found: list[list[int]] = []
    last: tuple[object, ...] | None = None
    for index, block in enumerate(stage.blocks):
        kind = signature(block, of.blocks[number, index])
        if kind != last:
            found.append([])
        found[-1].append(index)
        last = kind
    return found
