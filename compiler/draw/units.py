"""Units of a network: stages, chains of layers outside of them, and the links between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from danetc.compiler.analysis.summary import is_neuron
from danetc.compiler.draw.rows import Link
from danetc.compiler.draw.words import clean, look, size, wire_tooltip
from danetc.compiler.ir.graph import Block, Graph, Node, Stage
from danetc.compiler.ir.ops import OPS

# A chain with more layers is split, if possible in front of a layer with weights.
_FULL, _LONGEST = 8, 12
_LOOSE = ("p",)  # attributes that are ignored, as the rate of drop-path depends on the depth


class Parts:
    """The nodes of a graph, assigned to blocks and to chains of layers outside of the stages.

    Attributes:
        chains: The nodes of each chain, by unit.
        blocks: The nodes of each block, by the indices of its stage and of the block.
        unit_of: The unit of each node; ``s0`` is stage 0.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.chains: dict[str, list[Node]] = {}
        self.blocks: dict[tuple[int, int], list[Node]] = defaultdict(list)
        self.unit_of: dict[int, str] = {}
        owner: dict[tuple[str, ...], tuple[int, int]] = {}
        for number, stage in enumerate(graph.stages):
            owner[stage.scope] = (number, -1)  # the nodes of the rule
            for index, block in enumerate(stage.blocks):
                owner[block.scope] = (number, index)
        users = graph.users()
        for node in graph.nodes.values():
            ends = range(len(node.scope), 0, -1)
            place = next((owner[node.scope[:e]] for e in ends if node.scope[:e] in owner), None)
            if place is None:
                unit = self._continued(node, users) or f"g{node.id}"
                self.chains.setdefault(unit, []).append(node)
            else:
                unit = f"s{place[0]}"
                self.blocks[place].append(node)
            self.unit_of[node.id] = unit

    def _continued(self, node: Node, users: Mapping[int, list[int]]) -> str | None:
        """Return the unit of the only input of a layer if no other layer reads it."""
        if len(node.inputs) != 1:
            return None
        before = self.graph[node.inputs[0]]
        alone = len(users[before.id]) == 1 and before.id not in self.graph.outputs.values()
        unit = self.unit_of[before.id]
        long = len(self.chains.get(unit, ())) >= (_FULL if OPS[node.op].weighted else _LONGEST)
        same = before.op != "input" and before.scope == node.scope and alone and not long
        return unit if same and unit in self.chains else None

    @property
    def order(self) -> list[str]:
        """Units in the order of the spec."""
        return list(dict.fromkeys(self.unit_of[id] for id in self.graph.nodes))

    @property
    def links(self) -> list[Link]:
        """Links between units, one for each value, including those to outputs."""
        nodes, stages = self.graph.nodes.values(), self.graph.stages
        reads = [(id, self.unit_of[node.id]) for node in nodes for id in self.graph.reads(node)]
        reads += [(stage.entry, f"s{number}") for number, stage in enumerate(stages)]
        reads += [(id, f"out{index}") for index, id in enumerate(self.graph.outputs.values())]
        found = []
        for id, head in dict.fromkeys(reads):
            tail, source = self.unit_of[id], self.graph[id]
            if tail != head:
                message, label = wire_tooltip(source.path, source.value), size(source.value.shape)
                found.append(Link(tail, head, id, look(source.value), message, label))
        return found

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


def signature(block: Block, nodes: list[Node]) -> tuple[object, ...]:
    """Return a key that is the same for all blocks with equal operations, sizes and connections."""

    def label(node: Node) -> object:
        attrs = tuple(sorted((k, str(v)) for k, v in node.attrs.items() if k not in _LOOSE))
        return node.op, attrs, node.scope[len(block.scope) :]

    return wiring_of(block, nodes, label)


def wiring_of(
    block: Block, nodes: Sequence[Node], label: Callable[[Node], object]
) -> tuple[object, ...]:
    """Return the wiring of a block, given the label of each node."""
    number = {id: -1 - place for place, (id, _) in enumerate(block.feeds)}
    found: list[object] = []
    for i, node in enumerate(nodes):
        number[node.id] = i
        found.append((label(node), tuple(number.get(operand, -2) for operand in node.inputs)))
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
