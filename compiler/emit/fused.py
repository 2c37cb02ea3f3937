"""The backend ``fused``: each neuron with what stands before it as one layer; values kept as bits."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from danetc.compiler.emit.emitter import Emitter
from danetc.compiler.ir.at_node import operands, same_kinds
from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.loops import loop_of
from danetc.compiler.ir.ops import OPS, Context, TorchFunction, TorchModule
from danetc.compiler.passes.fusion_groups import FusionGroup
from danetc.compiler.plans.saved_bytes import saves_parts


class FusedEmitter(Emitter):
    """Fusion groups as one layer; spikes and counts kept as bits."""

    def layer(self, node: Node, call: TorchModule | TorchFunction) -> TorchModule | TorchFunction:
        if self._is_joined_later(node):
            assert isinstance(call, TorchFunction)
            target = "danetc.runtime.layers.joined.to_be_joined"
            return replace(call, target=target, layout="beside")
        if saves_parts(node, [self.graph[id] for id in self.users.get(node.id, ())]):
            return replace(call, target="danetc.runtime.layers.joined.joined")
        row = OPS[node.op]
        if row.fused is not None:
            values = operands(self.whole, node)
            own = row.fused(node.attrs, values, node.value, Context.of(self.whole))
            assert own is not None
            return own
        return packed(call, self.whole.inputs_of(node)) if same_kinds(self.whole, node) else call

    def _is_joined_later(self, node: Node) -> bool:
        """Whether neurons alone read what is joined, which then take its parts. (Not what segments keep.)"""
        if OPS[node.op].rule != "concat" or node.value.kind.bits:
            return False
        if self.segments.of or node.id in self.graph.outputs.values():
            return False
        readers = self.users.get(node.id, ())
        looped = loop_of(self.graph)
        groups = self.plan.groups if self.plan is not None else {}
        return bool(readers) and all(
            (id in groups and id not in looped) or self._is_joined_later(self.graph[id])
            for id in readers
        )

    def neuron(self, group: FusionGroup, call: TorchModule | TorchFunction) -> nn.Module:
        """The neuron of a fusion group, with the norms that stand before it."""
        from danetc.runtime.layers.fused import FusedNeuron

        assert isinstance(call, TorchModule)
        norms = [self.modules[id] if id is not None else None for id in group.norms]
        kinds = [self.whole[id].value.kind for id in group.inputs]
        output = self.whole[group.neuron].value.kind
        program, steps, rank, *size = call.args
        return FusedNeuron(program, steps, rank, norms, kinds, output, size)  # type: ignore[arg-type]


def packed(
    call: TorchModule | TorchFunction, inputs: tuple[Node, ...]
) -> TorchModule | TorchFunction:
    """A layer that keeps its input for the backward pass, as one that keeps it in bits."""
    if isinstance(call, TorchFunction) and call.target == "operator.mul" and len(inputs) == 2:
        return _packed_product(call, *inputs)
    if not isinstance(call, TorchModule) or len(inputs) != 1:
        return call
    if call.target in ("torch.nn.MaxPool2d", "torch.nn.AvgPool2d"):
        name = call.target.rpartition(".")[2]
        return replace(call, target=f"danetc.runtime.layers.packed.Packed{name}")
    kind = inputs[0].value.kind
    if call.target != "torch.nn.Conv2d" or not kind.bits:
        return call
    kwargs = {**call.kwargs, "low": kind.low, "high": kind.high, "unit": kind.unit}
    return replace(call, target="danetc.runtime.layers.packed.PackedConv2d", kwargs=kwargs)


def _packed_product(call: TorchFunction, a: Node, b: Node) -> TorchFunction:
    alike = (a.value.shape, a.value.varies) == (b.value.shape, b.value.varies)
    kinds = a.value.kind, b.value.kind
    if not alike or not any(kind.bits for kind in kinds):
        return call
    numbers = tuple(number for kind in kinds for number in (kind.low, kind.high, kind.unit))
    return replace(call, target="danetc.runtime.layers.packed.product", args=numbers)
