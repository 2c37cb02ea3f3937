"""A training step played through on the graph: what is allocated, kept and given back, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from danetc.compiler.ir.at_node import weights_of
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes.fusion_groups import FusionGroup, FusionPlan
from danetc.compiler.passes.recompute import Segments
from danetc.compiler.plans.saved import (
    WORD_BYTES,
    Keeps,
    Sizes,
    elements,
    keeps_parts,
    packs,
    row_of,
)

RANDOM_STATE = 5056
"""Bytes of the state of torch's random numbers on a CPU, which a segment that draws keeps."""

BYTES: Mapping[str, int] = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


@dataclass(eq=False, slots=True)
class Block:
    """Memory with an owner count: it is given back when nobody holds it."""

    size: int
    kind: str
    holders: int = 1


@dataclass(frozen=True, slots=True)
class Peak:
    """What is there when the most is, in bytes."""

    gradients: int = 0
    saved: int = 0
    transient: int = 0

    @property
    def total(self) -> int:
        return self.gradients + self.saved + self.transient


class Heap:
    """Bytes in use by what they are for, and the most that there ever were."""

    def __init__(self) -> None:
        self.now = {"value": 0, "saved": 0, "gradient": 0}
        self.peak = Peak()

    def new(self, size: int, kind: str = "value") -> Block:
        block = Block(size, kind)
        self.now[kind] += size
        self._look()
        return block

    def work(self, size: int) -> None:
        """Memory that is used for a moment."""
        self.drop(self.new(size))

    def hold(self, block: Block) -> Block:
        block.holders += 1
        return block

    def save(self, block: Block) -> Block:
        """Hold a block for the backward pass: it counts as saved from now on."""
        self.now[block.kind] -= block.size
        block.kind = "saved"
        self.now[block.kind] += block.size
        return self.hold(block)

    def drop(self, block: Block) -> None:
        block.holders -= 1
        if not block.holders:
            self.now[block.kind] -= block.size

    def _look(self) -> None:
        if sum(self.now.values()) > self.peak.total:
            self.peak = Peak(self.now["gradient"], self.now["saved"], self.now["value"])


@dataclass(slots=True)
class Record:
    """What an operation left for its backward pass: what it kept, and the values it wants again."""

    kept: list[Block] = field(default_factory=list)
    again: list[int] = field(default_factory=list)
    extra: int = 0  # bytes wanted again that are no value


class Play:
    """One training step of ``graph``, under a plan of regions and a plan of segments."""

    def __init__(
        self,
        graph: Graph,
        plan: FusionPlan | None,
        segments: Segments,
        batch: int,
        width: int,
        weight_width: int,
        accumulating: bool = False,
    ) -> None:
        self.whole = graph
        self.graph = plan.graph if plan is not None else graph
        self.regions: Mapping[int, FusionGroup] = plan.regions if plan is not None else {}
        self.fused = plan is not None
        self.segments = segments
        self.batch = batch
        self.width = width
        self.weight_width = weight_width
        self.accumulating = accumulating  # gradients of an earlier part are there
        self.heap = Heap()
        self.order = list(self.graph.nodes.values())
        self.elements = {n.id: elements(n, batch, graph.steps) for n in graph.nodes.values()}
        self.values: dict[int, Block] = {}
        self.bits: dict[int, Block] = {}
        self.records: dict[int, Record] = {}
        users = self.graph.users()
        self.joined = {  # of which the parts are kept
            node.id
            for node in self.order
            if self.fused and keeps_parts(node, [self.graph[i] for i in users[node.id]])
        }
        self.last_reader = self._last_readers()
        self.trained = self._trained()
        self.held = 0
        # Under segments: what each keeps, its nodes, and the values it gives again.
        self.members: dict[int, list[Node]] = {}
        for node in self.order:
            if node.id in segments.of:
                self.members.setdefault(segments.of[node.id], []).append(node)
        self.kept_inputs: dict[int, list[Block]] = {}
        self.again: dict[int, dict[int, Block]] = {}

    # -- what the graph says ----------------------------------------------------------------------

    @property
    def weight_bytes(self) -> int:
        nodes = self.whole.nodes.values()
        return self.weight_width * sum(weights_of(self.whole, node) for node in nodes)

    def _last_readers(self) -> dict[int, int]:
        """For each value the place in the order after which nobody holds it.

        A scope that is called with a value holds it until the call returns.
        """
        ends: dict[tuple[str, ...], int] = {}
        for place, node in enumerate(self.order):
            for depth in range(1, len(node.scope) + 1):
                ends[node.scope[:depth]] = place
        places = {node.id: place for place, node in enumerate(self.order)}
        last = dict(places)
        for node in self.order:
            for source in node.inputs:
                known = self.graph[source].scope
                common = 0
                while common < min(len(known), len(node.scope)) and (
                    known[common] == node.scope[common]
                ):
                    common += 1
                inside = node.scope[: common + 1]
                end = ends[inside] if len(inside) > common else places[node.id]
                last[source] = max(last[source], end)
        for id in self.graph.outputs.values():
            last[id] = len(self.order)
        for node in reversed(self.order):  # what is joined holds its parts
            for source in node.inputs if node.id in self.joined else ():
                last[source] = max(last[source], last[node.id])
        return last

    def _trained(self) -> set[int]:
        """The values that a gradient goes through: those behind a weight."""
        trained: set[int] = set()
        for node in self.order:
            if OPS[node.op].gradient and (
                self._weights(node) or any(i in trained for i in node.inputs)
            ):
                trained.add(node.id)
        return trained

    def _weights(self, node: Node) -> int:
        """Bytes of the weights that train in a node, its region's norms included."""
        region = self.regions.get(node.id)
        norms = [self.whole[id] for id in region.norms if id is not None] if region else []
        return self.weight_width * sum(
            weights_of(self.whole, self.whole[item.id]) for item in (node, *norms)
        )

    def _row(self, node: Node) -> Keeps:
        return row_of(node.op, self.fused)

    def _packs(self, node: Node) -> bool:
        return self.fused and packs(node, self.whole[node.inputs[0]])

    def _sizes(self, node: Node) -> Sizes:
        return Sizes(
            node,
            tuple(self.elements[i] for i in node.inputs),
            self.elements[node.id],
            self.width,
            self.whole.steps,
            self.whole[node.inputs[0]].value.shape[-1] if node.inputs else 1,
            self.whole[node.inputs[0]].value.shape[0] if node.inputs else 1,
            self.whole.program(node) if node.op == "neuron" else None,
        )

    # -- the step ---------------------------------------------------------------------------------

    def run(self) -> Peak:
        """Play the step, and give what was there at its peak."""
        if self.accumulating:
            self.heap.new(self.weight_bytes, "gradient")
        self._forward()
        outputs = [self.values[id] for id in self.graph.outputs.values()]
        logs = [self.heap.new(block.size, "saved") for block in outputs]  # of the cross entropy
        for block in outputs:
            self.heap.drop(block)
        self.held = self.heap.now["saved"]
        gradients: dict[int, Block] = {}
        for id, log in zip(self.graph.outputs.values(), logs, strict=True):
            self._give(gradients, id, self.heap.new(log.size))
            self.heap.drop(log)
        for node in reversed(self.order):
            self._backward(node, gradients)
        return self.heap.peak

    def _forward(self) -> None:
        ends: dict[int, list[int]] = {}
        for id, place in self.last_reader.items():
            ends.setdefault(place, []).append(id)
        for place, node in enumerate(self.order):
            segment = self.segments.of.get(node.id)
            if segment is not None and segment not in self.kept_inputs:
                self.kept_inputs[segment] = self._keep_inputs(segment)
            self.values[node.id] = self._result(node, self.values)
            self.records[node.id] = self._keep(node, segment)
            for id in ends.get(place, ()):
                self.heap.drop(self.values.pop(id))
                self.bits.pop(id, None)

    def _result(self, node: Node, values: Mapping[int, Block]) -> Block:
        """Run an operation."""
        row = self._row(node)
        if node.op == "input":
            return self.heap.new(0)
        if row.view:
            return self.heap.hold(values[node.inputs[0]])
        result = self.heap.new(self.elements[node.id] * self.width)
        if not (self.fused and node.op == "neuron"):
            self.heap.work(row.forward(self._sizes(node)))
        return result

    def _keep(self, node: Node, segment: int | None) -> Record:
        """What an operation keeps, by its row and its backend."""
        record = Record()
        if node.id not in self.trained:
            return record
        row = self._row(node)
        wanted: list[int] = []
        extra = row.extra(self._sizes(node))
        # Mixed precision keeps the copy of its weights that a layer computed with.
        copies = 0
        if node.op in ("conv", "linear") and self.width < self.weight_width:
            copies = weights_of(self.whole, self.whole[node.id]) * self.width
        if self.fused and node.op == "neuron":
            region = self.regions[node.id]
            norms = [self.whole[id] for id in region.norms if id is not None]
            extra = sum(16 * norm.value.shape[0] for norm in norms)
            for source in region.inputs:
                if self.whole[source].value.kind.bits:
                    record.kept.append(self._packed(source))
                elif segment is None:
                    wanted += self._parts(source)
                else:
                    wanted.append(source)
            if segment is not None and node.value.kind.bits and not self._is_last(node, segment):
                record.kept.append(self._packed(node.id))
        elif self._packs(node):
            record.kept.append(self._packed(node.inputs[0]))
            extra = 0
        else:
            wanted += node.inputs if row.inputs else ()
            wanted += (node.id,) if row.output else ()
        extra += copies
        if segment is None or row.small:
            record.kept.append(self.heap.new(extra, "saved"))
        else:
            record.extra = extra
        if segment is None:
            record.kept += [self.heap.save(self.values[id]) for id in wanted]
        else:
            record.again = wanted
        return record

    def _parts(self, id: int) -> list[int]:
        """What is kept of a value that a region wants: of what is joined, the parts."""
        if id not in self.joined:
            return [id]
        return [part for source in self.whole[id].inputs for part in self._parts(source)]

    def _is_last(self, node: Node, segment: int) -> bool:
        """Whether a segment runs again no further than this neuron."""
        members = self.members[segment]
        after = members[members.index(node) + 1 :]
        return all(
            self._packs(n) or self._row(n).keeps_little or n.id not in self.trained for n in after
        )

    def _keep_inputs(self, segment: int) -> list[Block]:
        inside = {node.id for node in self.members[segment]}
        crossing = {
            i: None for node in self.members[segment] for i in node.inputs if i not in inside
        }
        state = [self.heap.new(RANDOM_STATE, "saved")] if segment in self.segments.random else []
        return state + [
            self._packed(i) if self.whole[i].value.kind.bits else self.heap.save(self.values[i])
            for i in crossing
        ]

    def _packed(self, id: int) -> Block:
        """A value in bits, packed once for all who keep it."""
        if id in self.bits and self.bits[id].holders:
            return self.heap.hold(self.bits[id])
        count = self.elements[id]
        self.heap.work(WORD_BYTES * count)
        self.bits[id] = self.heap.new(self.whole[id].value.kind.bits * -(-count // 8), "saved")
        return self.bits[id]

    # -- back -------------------------------------------------------------------------------------

    def _backward(self, node: Node, gradients: dict[int, Block]) -> None:
        record = self.records[node.id]
        gradient = gradients.pop(node.id, None)
        if gradient is None or node.id not in self.trained:
            if gradient is not None:
                self.heap.drop(gradient)
            self._release(node, record)
            return
        segment = self.segments.of.get(node.id)
        if segment is not None and segment not in self.again and (record.again or record.extra):
            self._replay(segment)
        restored = self._restore(node)
        if self.accumulating:
            self.heap.work(self._weights(node))  # added to what is there
        else:
            self.heap.new(self._weights(node), "gradient")
        self._gradients(node, gradient, gradients)
        self.heap.drop(gradient)
        for block in restored:
            self.heap.drop(block)
        self._release(node, record)
        if segment is not None and segment in self.again:
            self._pop(segment)
            if node is self.members[segment][0]:
                for block in self.again.pop(segment).values():
                    self.heap.drop(block)
        if segment is not None and node is self.members[segment][0]:
            for block in self.kept_inputs[segment]:
                self.heap.drop(block)

    def _release(self, node: Node, record: Record) -> None:
        del self.records[node.id]
        for block in record.kept:
            self.heap.drop(block)

    def _restore(self, node: Node) -> list[Block]:
        """Whole-numbered inputs, out of their bits."""
        packed: Sequence[int] = ()
        again: Sequence[int] = ()
        if self.fused and node.op == "neuron":
            inputs = self.regions[node.id].inputs
            packed = [i for i in inputs if self.whole[i].value.kind.bits]
            alone = node.id not in self.segments.of
            joined = [i for i in inputs if alone and i in self.joined]
            again = [i for i in joined if i not in packed]
        elif self._packs(node):
            packed = node.inputs
        result = [self.heap.new(self.elements[id] * self.width) for id in again]
        for id in packed:
            words = self.heap.new(self.elements[id])
            result.append(self.heap.new(self.elements[id] * self.width))
            self.heap.drop(words)
        return result

    def _gradients(self, node: Node, gradient: Block, gradients: dict[int, Block]) -> None:
        """Give each operand its gradient."""
        if self.fused and node.op == "neuron":
            self._region_gradients(self.regions[node.id], gradients)
            return
        row = self._row(node)
        work = self.heap.new(row.backward(self._sizes(node)))
        made: list[tuple[int, Block]] = []
        for source in node.inputs:
            if source not in self.trained:
                continue
            same = self.elements[source] == self.elements[node.id]
            once = self.whole[source].value.varies != node.value.varies  # summed over the steps
            view = row.gradient == "view" and not once
            if row.view or view or (row.gradient == "same" and same):
                made.append((source, self.heap.hold(gradient)))
            else:
                made.append((source, self.heap.new(self.elements[source] * self.width)))
        self.heap.drop(work)
        for source, block in made:
            self._give(gradients, source, block)

    def _region_gradients(self, region: FusionGroup, gradients: dict[int, Block]) -> None:
        shape = self.elements[region.neuron]
        varying = any(self.whole[i].value.varies for i in region.inputs)
        static = any(not self.whole[i].value.varies for i in region.inputs)
        sums = []
        if varying:
            sums.append(self.heap.new(shape * self.width))
        if static:
            sums.append(self.heap.new(shape // self.whole.steps * self.width))
        made: list[tuple[int, Block]] = []
        for source, norm in zip(region.inputs, region.norms, strict=True):
            if norm is None:
                block = sums[0] if self.whole[source].value.varies else sums[-1]
                if source in self.trained:
                    made.append((source, self.heap.hold(block)))
            else:
                size = self.elements[source] * self.width
                block = self.heap.new(size)
                self.heap.work(size)
                made.append((source, block))
        for block in sums:
            self.heap.drop(block)
        for source, block in made:
            if source in self.trained:
                self._give(gradients, source, block)
            else:
                self.heap.drop(block)

    def _give(self, gradients: dict[int, Block], id: int, block: Block) -> None:
        """Hand a gradient on; one that meets another is added to it, in place where it can be."""
        known = gradients.get(id)
        if known is None:
            gradients[id] = block
        elif known.holders == 1:
            self.heap.drop(block)
        else:
            gradients[id] = self.heap.new(self.elements[id] * self.width)
            self.heap.drop(known)
            self.heap.drop(block)

    # -- running again ----------------------------------------------------------------------------

    def _replay(self, segment: int) -> None:
        """Run a segment again: it holds the values that its operations want."""
        members = self.members[segment]
        inside = {node.id for node in members}
        wanted = {id for node in members for id in self.records_of(node).again}
        last = max(place for place, node in enumerate(members) if self._wants(node))
        values: dict[int, Block] = {}
        for id in {i: None for node in members for i in node.inputs if i not in inside}:
            if self.whole[id].value.kind.bits:
                words = self.heap.new(self.elements[id])
                values[id] = self.heap.new(self.elements[id] * self.width)
                self.heap.drop(words)
            else:
                values[id] = self.heap.new(0)  # kept as it is
        found: dict[int, Block] = {}
        for place, node in enumerate(members[: last + 1]):
            if place == last and self.fused and node.op == "neuron":
                break
            values[node.id] = self._result(node, values)
            for id in (*node.inputs, node.id):
                if id in wanted and id not in found:
                    found[id] = self.heap.hold(values[id])
            extra = self.records_of(node).extra
            if extra:
                found[-node.id - 1] = self.heap.new(extra)
            readers = {i for later in members[place + 1 : last + 1] for i in later.inputs}
            for id in [i for i in values if i not in readers]:
                self.heap.drop(values.pop(id))
        for block in values.values():
            self.heap.drop(block)
        self.again[segment] = found

    def records_of(self, node: Node) -> Record:
        """What a node wants; nothing where its backward pass is done."""
        return self.records.get(node.id, _DONE)

    def _wants(self, node: Node) -> bool:
        record = self.records_of(node)
        return bool(record.again or record.extra)

    def _pop(self, segment: int) -> None:
        """Forget what nobody in the segment wants any more."""
        left = {i for node in self.members[segment] for i in self.records_of(node).again}
        extras = {-n.id - 1 for n in self.members[segment] if self.records_of(n).extra}
        found = self.again[segment]
        for id in [i for i in found if i not in left and i not in extras]:
            self.heap.drop(found.pop(id))


_DONE = Record()
