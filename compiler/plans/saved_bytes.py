"""Bytes that a forward pass keeps for its backward pass, from the graph alone. No torch.

Each operation keeps what its row says (``saved``), each value is kept once whoever keeps it, and
the cross entropy of the loss keeps the logarithms of the outputs. The count is exact to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from danetc.compiler.ir.at_node import buffer_bytes_of, packs, same_for_all, weights
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import Cycle, loop_of
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.saved import WIDE, Saved, Sizes
from danetc.compiler.passes.fusion_groups import FusionGroup, FusionPlan
from danetc.compiler.passes.recompute import Segments
from danetc.compiler.plans.loop_bytes import LoopSaving

BYTES: Mapping[str, int] = {"float32": WIDE, "bfloat16": 2, "float16": 2}
"""Bytes of a number that activations are computed in."""
RANDOM_STATE = 5056
"""Bytes of the state of torch's random numbers on a CPU, which a segment that draws keeps."""
LOSS = WIDE
"""Bytes that the cross entropy keeps besides logarithms: the sum of the weights of the labels."""

Path = tuple[str, ...]
Piece = tuple[Path, int]
"""A scope, and a segment that it runs all or a part of."""


def saves_parts(node: Node, readers: Iterable[Node]) -> bool:
    """Whether the fused backend keeps what a value is joined of in place of the value.

    It would keep both where an operation besides neurons keeps the value itself.
    """
    return OPS[node.op].rule == "concat" and all(
        reader.op == "neuron" or not OPS[reader.op].saves(fused=True).inputs for reader in readers
    )


def elements(graph: Graph, batch: int) -> dict[int, int]:
    """Elements of each value for a batch."""
    shared = same_for_all(graph)
    return {
        node.id: (1 if node.id in shared else batch)
        * prod(node.value.shape)
        * (graph.steps if node.value.varies else 1)
        for node in graph.nodes.values()
    }


class Saving:
    """What a forward pass of ``batch`` samples keeps, under a plan of fusion groups and one of segments.

    ``groups`` are those of the fused backend (None: operation by operation), ``dtype`` is what
    convolutions and linear layers compute in, under autocast where it is not float32.
    """

    def __init__(
        self, graph: Graph, plan: FusionPlan | None, segments: Segments, batch: int, dtype: str
    ) -> None:
        self.whole = graph
        self.graph = plan.graph if plan is not None else graph
        self.groups: Mapping[int, FusionGroup] = plan.groups if plan is not None else {}
        self.fused = plan is not None
        self.segments = segments
        self.width = BYTES[dtype]
        self.order = list(self.graph.nodes.values())
        self.elements = elements(self.graph, batch)
        self.looped = loop_of(self.graph)
        self.trained = self._trained()
        self.widths = self._widths()
        users = self.graph.users()
        self.joined = {  # of which the parts are kept
            node.id
            for node in self.order
            if self.fused and saves_parts(node, [self.graph[i] for i in users[node.id]])
        }
        self.pieces = self._pieces()
        self.members: dict[Piece, list[Node]] = {}
        for node in self.order:
            if node.id in self.pieces:
                self.members.setdefault(self.pieces[node.id], []).append(node)
        self.again: set[Piece] = set()  # those that will run again
        self.values: set[int] = set()
        self.packed: set[int] = set()
        self.extra = 0

    def bytes(self) -> int:
        """Count it."""
        for node in self.order:
            if node.id in self.trained and node.id not in self.looped:
                self._keep(node, self.pieces.get(node.id))
        for loop in dict.fromkeys(self.looped.values()):
            self._keep_loop(loop)
        for piece in self.again:
            self._keep_inputs(piece)
        for id in self.pieces:
            node = self.graph[id]
            if OPS[node.op].reads_moved(node.attrs):
                self.extra += buffer_bytes_of(self.whole, node)
        return (
            sum(self.elements[id] * self.widths[id] for id in self.values)
            + sum(self.whole[id].value.kind.bits * -(-self.elements[id] // 8) for id in self.packed)
            + self.extra
            + sum(self.elements[id] * WIDE + LOSS for id in self.graph.outputs.values())
        )

    # -- what the graph says ----------------------------------------------------------------------

    def _trained(self) -> set[int]:
        """The values that a gradient goes through: those behind a weight."""
        trained: set[int] = set()
        while True:  # once, but for loops
            before = len(trained)
            for node in self.order:
                reads = OPS[node.op].reads(self.graph.reads(node))
                if OPS[node.op].gradient and (
                    self._has_weights(node) or any(i in trained for i in reads)
                ):
                    trained.add(node.id)
            if not self.looped or len(trained) == before:
                return trained

    def _has_weights(self, node: Node) -> bool:
        """Whether weights train in a node, its fusion group's norms included."""
        group = self.groups.get(node.id)
        norms = [id for id in group.norms if id is not None] if group else []
        return any(weights(self.whole, self.whole[id]) for id in (node.id, *norms))

    def _widths(self) -> dict[int, int]:
        """Bytes a number of each value: under autocast, float32 up to the first convolution or
        linear layer, and where such a value is joined with one behind them.
        """
        widths: dict[int, int] = {}
        for node in self.order:
            row = self._row(node)
            if row.half:
                widths[node.id] = self.width
            elif row.wide or not node.inputs:
                widths[node.id] = WIDE  # of what is carried too: as wide as the loop's input
            else:
                widths[node.id] = max(widths[i] for i in node.inputs)
        return widths

    def _pieces(self) -> dict[int, Piece]:
        """The piece that each node of a segment runs in: what a scope has of it.

        A scope that is in a segment whole runs in the piece of the one around it.
        """
        of = self.segments.of
        inside: dict[Path, set[int | None]] = {}
        for node in self.order:
            for depth in range(len(node.scope) + 1):
                inside.setdefault(node.scope[:depth], set()).add(of.get(node.id))
        pieces: dict[int, Piece] = {}
        for node in self.order:
            if node.id in of:
                depth = 1  # the root has none
                while depth < len(node.scope) and len(inside[node.scope[: depth + 1]]) > 1:
                    depth += 1
                pieces[node.id] = node.scope[:depth], of[node.id]
        return pieces

    def _row(self, node: Node) -> Saved:
        return OPS[node.op].saves(self.fused)

    def _packs(self, node: Node) -> bool:
        """Whether the fused backend keeps an operation's spikes and counts in bits."""
        return self.fused and packs(self.whole, node)

    def _sizes(self, node: Node) -> Sizes:
        first = self.whole[node.inputs[0]].value.shape if node.inputs else (1,)
        return Sizes(
            node,
            tuple(self.elements[i] for i in node.inputs),
            self.elements[node.id],
            self.widths[node.inputs[0] if node.inputs else node.id],
            self.whole.steps,
            first[-1],
            self.width,
            not node.inputs or node.inputs[0] in self.trained,
        )

    # -- what is kept -----------------------------------------------------------------------------

    def _keep(self, node: Node, piece: Piece | None) -> None:
        """Keep what an operation does; in a segment, what it will not make again."""
        row = self._row(node)
        values: list[int] = []
        sizes = self._sizes(node)
        extra = row.extra(sizes)
        self.extra += row.small(sizes)
        if self.fused and node.id in self.groups:
            group = self.groups[node.id]
            norms = [self.whole[id] for id in group.norms if id is not None]
            self.extra += sum(4 * WIDE * norm.value.shape[0] for norm in norms)
            for source in group.inputs:
                if self.whole[source].value.kind.bits:
                    self.packed.add(source)
                else:
                    values += self._parts(source)
            if piece is not None and node.value.kind.bits and not self._is_last(node, piece):
                self.packed.add(node.id)
        elif self._packs(node):
            for source in self._wanted(node, row):
                bits = self.whole[source].value.kind.bits
                if not bits:
                    values.append(source)
                elif row.half and self.widths[source] > self.width:  # of a copy of its own
                    self.extra += bits * -(-self.elements[source] // 8)
                else:
                    self.packed.add(source)
        else:
            values += self._wanted(node, row) if row.inputs and not row.copies(node) else ()
            values += (node.id,) if row.output else ()
        if row.half and self.width < WIDE:
            if not self._packs(node) and (sizes.trained or not row.product):
                extra += self.width * self._multiplied(node)
            for source in node.inputs:
                if source in values and self.widths[source] > self.width:  # a copy of its own
                    values.remove(source)
                    extra += self.width * self.elements[source]
        if piece is not None:
            if values or extra:
                self.again.add(piece)
        else:
            self.extra += extra
            self._keep_values(values)

    def _wanted(self, node: Node, row: Saved) -> list[int]:
        """The operands that are kept, if operands are."""
        reads = OPS[node.op].reads(node.inputs)
        wanted = row.wanted([id in self.trained for id in reads])
        return [id for id, kept in zip(reads, wanted, strict=True) if kept]

    def _keep_loop(self, loop: Cycle) -> None:
        """Keep what a loop does, which runs again as a whole or not at all."""
        found = LoopSaving(
            self.graph,
            loop,
            self.elements,
            self.widths,
            self.trained - set(loop.members),
            self._row,
            self._has_weights,
            self._packs_inside,
            WIDE,
        ).run()
        self.extra += found.small + sum(found.bits.values())
        self.packed |= found.packed
        piece = self.pieces.get(loop.members[0])
        if piece is None:
            self.extra += found.extra + sum(found.frames.values())
            self._keep_values(found.values)
        elif found.values or found.frames or found.extra:
            self.again.add(piece)

    def _keep_values(self, ids: Iterable[int]) -> None:
        """Values as they are; what others keep is there anyway."""
        roots = {self._root(id) for id in ids if not self._is_there(id)}
        self.values |= {id for id in roots if not self._is_there(id)}

    def _packs_inside(self, node: Node) -> bool:
        return self._packs(node) and node.op != "neuron"

    def _multiplied(self, node: Node) -> int:
        """The weights that a layer multiplies by: autocast keeps a copy of them, and not of what is
        added. (A convolution that keeps bits makes its own, and makes it again.)
        """
        shapes = weights(self.whole, node)
        return sum(prod(shape) for name, shape in shapes.items() if name != "bias")

    def _is_there(self, id: int) -> bool:
        """Whether a value is kept by others: the batch, a weight."""
        node = self.whole[id]
        return node.op == "input" or self._row(node).is_weight(node)

    def _root(self, id: int) -> int:
        """The value whose memory a value is, which may be a view of it."""
        while self._row(self.graph[id]).view:
            id = self.graph[id].inputs[0]
        return id

    def _parts(self, id: int) -> list[int]:
        """What is kept of a value that a fusion group wants: of what is joined, the parts."""
        if id not in self.joined:
            return [id]
        return [part for source in self.whole[id].inputs for part in self._parts(source)]

    def _is_last(self, node: Node, piece: Piece) -> bool:
        """Whether a piece runs again no further than this neuron."""
        members = self.members[piece]
        after = members[members.index(node) + 1 :]
        return all(
            self._packs(n) or self._row(n).keeps_little(self._sizes(n)) or n.id not in self.trained
            for n in after
        )

    def _keep_inputs(self, piece: Piece) -> None:
        """What enters a piece, and the state of the random numbers that it draws."""
        if piece[1] in self.segments.random:
            self.extra += RANDOM_STATE
        inside = {node.id for node in self.members[piece]}
        for node in self.members[piece]:
            for id in node.inputs:
                if id in inside or self._is_there(id):
                    continue
                if self.whole[id].value.kind.bits:
                    self.packed.add(id)
                else:
                    self._keep_values([id])
