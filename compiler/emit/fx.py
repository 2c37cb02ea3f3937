"""The backends of a torch.fx model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from danetc.compiler.emit.bodies import resolve
from danetc.compiler.emit.emitter import Emitter
from danetc.compiler.ir.at_node import same_kinds, site, weights
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import loop_of
from danetc.compiler.ir.ops import OPS, TorchFunction, TorchModule
from danetc.compiler.passes.fusion_groups import FusionGroup, plan_fusion
from danetc.compiler.passes.recompute import NO_SEGMENTS, POLICIES, plan_segments
from danetc.dsl.neuron.spikingjelly import match_neuron
from danetc.runtime.model.built import Model

__all__ = ["FusedEmitter", "Model", "emit", "resolve"]


class FusedEmitter(Emitter):
    """Backend ``fused``: each fusion group is one layer, and spikes and counts are saved as bits."""

    def layer(self, node: Node, call: TorchModule | TorchFunction) -> TorchModule | TorchFunction:
        if self._is_joined_later(node):
            assert isinstance(call, TorchFunction)
            target = "danetc.runtime.layers.concatenation.lazy_concat"
            return replace(call, target=target, layout="seq")
        if not self.segments.of and saves_parts(self.graph, node, self.users.get(node.id, ())):
            return replace(call, target="danetc.runtime.layers.concatenation.concat")
        row = OPS[node.op]
        if row.fused is not None:
            own = row.fused(site(self.whole, node))
            assert own is not None
            return own
        return packed(call, self.whole.inputs_of(node)) if same_kinds(self.whole, node) else call

    def _is_joined_later(self, node: Node) -> bool:
        """True if all readers of a concatenation are fusion groups, which read its slices."""
        if OPS[node.op].rule != "concat" or node.value.kind.bits:
            return False
        if self.segments.of or node.id in self.graph.outputs.values():
            return False
        readers = self.users.get(node.id, ())
        looped = loop_of(self.graph)
        return bool(readers) and all(
            (id in self.groups and id not in looped) or self._is_joined_later(self.graph[id])
            for id in readers
        )

    def neuron(self, group: FusionGroup, call: TorchModule | TorchFunction) -> nn.Module:
        from danetc.runtime.layers.fused import FusedNeuron

        assert isinstance(call, TorchModule)
        norms = [self.modules[id] if id is not None else None for id in group.norms]
        program, steps, rank, *size = call.args
        options = self.options(group)
        return FusedNeuron(program, steps, rank, norms, size=size, **options)  # type: ignore[arg-type]

    def options(self, group: FusionGroup) -> dict[str, Any]:
        """Return further arguments of the layer of a fusion group."""
        return {"kinds": [self.whole[id].value.kind for id in group.inputs]}


def saves_parts(graph: Graph, node: Node, readers: Iterable[int]) -> bool:
    """True for a concatenation whose parts are saved for backward instead of the result.

    Both would be saved if the result were read by a layer of weights, a norm or a function that is
    not linear.
    """
    return OPS[node.op].rule == "concat" and all(
        reader.op == "neuron" or (OPS[reader.op].linear and not weights(graph, reader))
        for reader in map(graph.__getitem__, readers)
    )


def packed(
    call: TorchModule | TorchFunction, inputs: tuple[Node, ...]
) -> TorchModule | TorchFunction:
    """Return a layer that saves its input for the backward pass in bits, if there is one."""
    if isinstance(call, TorchFunction) and call.target == "operator.mul" and len(inputs) == 2:
        a, b = (node.value for node in inputs)
        alike = (a.shape, a.varies) == (b.shape, b.varies)
        if not alike or not (a.kind.bits or b.kind.bits):
            return call
        numbers = tuple(x for kind in (a.kind, b.kind) for x in (kind.low, kind.high, kind.unit))
        return replace(call, target="danetc.runtime.layers.packed.product", args=numbers)
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


class SpikingJellyEmitter(Emitter):
    """Backend ``spikingjelly``: SpikingJelly's neurons where it has the equations and surrogate.

    Warns about all others. Raises ImportError if SpikingJelly 2 is missing.
    """

    def __init__(self, graph: Graph, *args: Any) -> None:
        from danetc.runtime.layers.spikingjelly import require

        require()
        super().__init__(graph, *args)
        nodes = [node for node in graph.nodes.values() if node.op == "neuron"]
        programs = {node.attrs["neuron"]: graph.program(node) for node in nodes}
        self.ours = {key for key, program in programs.items() if match_neuron(program) is None}
        if self.ours:
            names = ", ".join(sorted(f"`{programs[key].name}`" for key in self.ours))
            warnings.warn(
                f"SpikingJelly has no neuron with the equations and surrogate of {names}: "
                "danetc's own runs in its place",
                RuntimeWarning,
                stacklevel=3,
            )

    def layer(self, node: Node, call: TorchModule | TorchFunction) -> TorchModule | TorchFunction:
        if node.op != "neuron" or node.attrs["neuron"] in self.ours:
            return call
        assert isinstance(call, TorchModule)
        return replace(call, target="danetc.runtime.layers.spikingjelly.SpikingJellyNeuron")


EMITTERS: Mapping[str, type[Emitter]] = {
    "eager": Emitter,
    "fused": FusedEmitter,
    "spikingjelly": SpikingJellyEmitter,
}
"""The backends by name."""
BACKENDS = tuple(EMITTERS)


def emit(graph: Graph, seed: int = 0, backend: str = "eager", memory: str = "none") -> Model:
    """Build the model of a graph, with first weights drawn from ``seed``.

    Args:
        backend: ``eager`` runs operation by operation and is the reference. ``fused`` runs each
            neuron with the norms and additions before it as one compiled kernel and saves spikes
            and counts as bits. ``spikingjelly`` runs SpikingJelly's neurons where it has the
            declared one, and raises ImportError without SpikingJelly. Modules have the same names
            and the same first weights in all of them.
        memory: ``none`` saves all values that the backward pass needs. ``recompute`` saves only
            the input of each block and runs the block again, with bit-identical results.

    The global random state does not change. ``topology`` of the model is ``graph``.
    """
    if backend not in BACKENDS:
        raise ValueError(f"no backend {backend!r}: there are {', '.join(BACKENDS)}")
    if memory not in POLICIES:
        raise ValueError(f"no memory policy {memory!r}: there are {', '.join(POLICIES)}")
    plan = plan_fusion(graph) if backend == "fused" else None
    segments = NO_SEGMENTS
    if memory == "recompute":
        segments = plan_segments(plan.graph if plan is not None else graph)
    model = EMITTERS[backend](graph, seed, plan, segments).model()
    model.backend = backend
    return model
