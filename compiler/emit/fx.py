"""A graph as a torch.fx model, for one of the backends."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.compiler.analysis.validate import validate
from danetc.compiler.emit.emitter import Emitter
from danetc.compiler.emit.fused import FusedEmitter
from danetc.compiler.emit.spikingjelly import SpikingJellyEmitter
from danetc.compiler.emit.targets import resolve
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.fusion_groups import plan_fusion
from danetc.compiler.passes.recompute import NO_SEGMENTS, plan_segments
from danetc.compiler.plans.memory import POLICIES
from danetc.runtime.model.built import Model

__all__ = ["Model", "emit", "resolve"]

EMITTERS: Mapping[str, type[Emitter]] = {
    "eager": Emitter,
    "fused": FusedEmitter,
    "spikingjelly": SpikingJellyEmitter,
}
"""The backends. A new one is a row: what it changes of the plain emitter."""
BACKENDS = tuple(EMITTERS)


def emit(graph: Graph, seed: int = 0, backend: str = "eager", memory: str = "none") -> Model:
    """The model of a graph, with first weights drawn from ``seed``.

    ``eager`` runs operation by operation and is the reference. ``fused`` runs each neuron with the
    norms and additions before it as one compiled kernel and keeps spikes and counts as bits; its
    modules have the same names and the same first weights. ``spikingjelly`` runs SpikingJelly's
    neurons in place of the standard library's that it has, and raises ImportError without it. The global
    random state is left alone. ``topology`` of the model is ``graph``.

    Under the ``memory`` policy ``none`` all that the backward pass needs is saved; under ``recompute``
    each block's input alone, and the block runs again, with the same results bit for bit.
    """
    if backend not in BACKENDS:
        raise ValueError(f"no backend {backend!r}: there are {', '.join(BACKENDS)}")
    if memory not in POLICIES:
        raise ValueError(f"no memory policy {memory!r}: there are {', '.join(POLICIES)}")
    validate(graph)
    plan = plan_fusion(graph) if backend == "fused" else None
    segments = NO_SEGMENTS
    if memory == "recompute":
        segments = plan_segments(plan.graph if plan is not None else graph)
    return EMITTERS[backend](graph, seed, plan, segments).model()
