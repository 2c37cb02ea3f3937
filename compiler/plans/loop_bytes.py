"""Bytes that loops over time keep for the backward pass: step by step, each value of a step once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import Cycle
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.saved import Saved, Sizes
from danetc.dsl.record import record

Frame = tuple[object, int, int]
"""A value of one step: what made it, by its id, and at which step."""


@record(frozen=False)
class LoopBytes:
    """What a loop keeps: of values made outside their ids, of its own the bytes of each frame.

    ``small`` and ``extra`` are bytes besides, as rows say them.
    """

    values: set[int] = field(default_factory=set)
    packed: set[int] = field(default_factory=set)
    frames: dict[Frame, int] = field(default_factory=dict)
    bits: dict[Frame, int] = field(default_factory=dict)
    small: int = 0
    extra: int = 0


@record
class LoopSaving:
    """Runs through the steps of a loop. ``elements`` are those of all steps, ``widths`` bytes of a
    number; ``has_weights`` says of which nodes weights train, ``packs`` which keep their operands in
    bits; ``outside`` are the values made elsewhere that a gradient goes through.
    """

    graph: Graph
    loop: Cycle
    elements: dict[int, int]
    widths: dict[int, int]
    outside: set[int]
    row: Callable[[Node], Saved]
    has_weights: Callable[[Node], bool]
    packs: Callable[[Node], bool]
    wide: int

    def run(self) -> LoopBytes:
        found = LoopBytes()
        inside = set(self.loop.members)
        steps: list[set[int]] = []
        live = self._live(inside)
        for t in range(self.graph.steps):
            trained: set[int] = set()
            for id in self.loop.members:
                node = self.graph[id]
                source, late = self._earlier(node)
                if source is not None:
                    if t >= late and source in steps[t - late]:
                        trained.add(id)
                    continue
                reads = any(i in trained if i in inside else i in self.outside for i in node.inputs)
                held = node.op == "neuron" and t > 0 and id in steps[t - 1]
                if OPS[node.op].gradient and (self.has_weights(node) or reads or held):
                    trained.add(id)
                    if (id, t) in live:
                        self._keep(node, t, trained, inside, found)
            steps.append(trained)
        return found

    def _live(self, inside: set[int]) -> set[tuple[int, int]]:
        """The values and their steps that something reads: what is carried beyond the last is gone."""
        others = (node for id, node in self.graph.nodes.items() if id not in inside)
        read = {id for node in others for id in node.inputs} | {*self.graph.outputs.values()}
        live = {(id, t) for id in read & inside for t in range(self.graph.steps)}
        for t in reversed(range(self.graph.steps)):
            for id in reversed(self.loop.members):
                if (id, t) in live:
                    source, late = self._earlier(self.graph[id])
                    reads = self.graph[id].inputs if source is None else (source,)
                    live |= {(each, t - late) for each in reads}
        return live

    def _earlier(self, node: Node) -> tuple[int | None, int]:
        """The node whose frames a delay gives again, and how many steps later."""
        if not OPS[node.op].cuts:
            return None, 0
        (source,) = self.graph.reads(node)
        late = node.attrs["steps"]
        assert isinstance(late, int)
        return source, late

    def _frame(self, id: int, t: int, inside: set[int]) -> Frame:
        """What a value's numbers at a step were made as: views and delays have those of others."""
        while id in inside:
            node = self.graph[id]
            source, late = self._earlier(node)
            if source is not None:
                if t < late:
                    return "zeros", id, t
                id, t = source, t - late
            elif self.row(node).view:
                (id,) = node.inputs
            else:
                break
        return "value", id, t

    def _keep(
        self, node: Node, t: int, trained: set[int], inside: set[int], found: LoopBytes
    ) -> None:
        row = self.row(node)
        alone = replace(node, attrs={**node.attrs, "per_step": False}) if _per_step(node) else node
        sizes = self._sizes(alone)
        found.small += row.small(sizes)
        found.extra += row.extra(sizes)
        sources: list[int] = []
        if row.inputs and not row.copies(alone):
            reads = OPS[node.op].reads(node.inputs)
            wanted = row.wanted([i in trained if i in inside else i in self.outside for i in reads])
            sources = [i for i, kept in zip(reads, wanted, strict=True) if kept]
        if node.op == "neuron":
            states = len(self.graph.program(node).states) if t else 0
            found.extra += states * self._count(node.id) * self.wide
        packs = self.packs(node)
        for source in (*sources, *((node.id,) if row.output else ())):
            frame = self._frame(source, t, inside)
            value = self.graph[source].value
            made = frame[1]
            assert isinstance(made, int)
            if packs and value.kind.bits:
                if made not in inside and not self.graph[made].value.varies:
                    found.packed.add(made)
                else:
                    found.bits[frame] = value.kind.bits * -(-self._count(source) // 8)
            elif made not in inside:
                found.values.add(made)
            else:
                found.frames[frame] = self._count(source) * self.widths[source]

    def _count(self, id: int) -> int:
        """Elements of a value at one step."""
        varies = self.graph[id].value.varies
        return self.elements[id] // (self.graph.steps if varies else 1)

    def _sizes(self, node: Node) -> Sizes:
        first = self.graph[node.inputs[0]]
        return Sizes(
            node,
            tuple(self._count(i) for i in node.inputs),
            self._count(node.id),
            self.widths[first.id],
            1,
            first.value.shape[-1],
        )


def _per_step(node: Node) -> bool:
    return bool(node.attrs.get("per_step"))
