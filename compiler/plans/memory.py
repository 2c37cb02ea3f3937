"""The memory that a training step holds from its forward to its backward pass. No torch.

Bytes of tensors, exact: weights, the optimizer's state, and what is saved for the backward pass
(``saved_bytes``). The peak of a step is more, by what its operations work with for a moment: that
is measured by a step on the device at hand (``danetc.tasks.memory``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import TypeAlias

from danetc.compiler.ir.at_node import buffer_bytes_of, weights_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops.saved import WIDE
from danetc.compiler.passes.fusion_groups import plan_fusion
from danetc.compiler.passes.recompute import NO_SEGMENTS, plan_segments
from danetc.compiler.plans.saved_bytes import BYTES, Saving
from danetc.dsl.recipe.items.optimizers import COPIES
from danetc.dsl.record import record

POLICIES = ("none", "recompute")
"""Memory policies, the cheapest in time first."""

COUNTED = ("eager", "fused")
"""The backends for which it is known what is saved."""

Memory: TypeAlias = str | int
"""The name of a policy, or a budget in bytes."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", re.IGNORECASE)


@record
class StepMemory:
    """Bytes of tensors that are there when the forward pass of a training step ends.

    ``weights`` (``parameters`` and buffers) and ``optimizer`` (its state, with a running mean of the
    weights) are there all the time, ``saved`` is what the forward pass keeps for the backward pass.
    A batch goes through in ``accumulate`` parts, in the later of which the ``gradients`` of those
    before are there. The batch itself is not counted.
    """

    policy: str
    backend: str
    dtype: str
    batch: int
    accumulate: int
    weights: int
    parameters: int
    optimizer: int
    saved: int

    @property
    def gradients(self) -> int:
        return self.parameters if self.accumulate > 1 else 0

    @property
    def total(self) -> int:
        """What a step needs at least: the backward pass adds its buffers to this."""
        return self.weights + self.optimizer + self.gradients + self.saved

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "gradients": self.gradients, "total": self.total}


def step_memory(
    graph: Graph,
    batch: int,
    backend: str = "eager",
    policy: str = "none",
    dtype: str = "float32",
    optimizer: str = "sgd",
    accumulate: int = 1,
    averaged: bool = False,
) -> StepMemory:
    """What a training step of ``batch`` samples holds, with the loss's cross entropy.

    ``dtype`` is what activations are computed in: ``float32``, or ``bfloat16`` or ``float16`` of
    mixed precision, whose weights are float32. The batch goes through in ``accumulate`` parts,
    whose gradients add up. ``averaged`` says that a running mean of the weights is kept too.
    """
    _known("backend", backend, COUNTED)
    _known("memory policy", policy, POLICIES)
    _known("dtype", dtype, BYTES)
    _known("optimizer", optimizer, COPIES)
    running = plan_fusion(graph) if backend == "fused" else None
    planned = running.graph if running is not None else graph
    segments = plan_segments(planned) if policy == "recompute" else NO_SEGMENTS
    part = -(-batch // accumulate)
    parameters = WIDE * sum(weights_of(graph, node) for node in graph.nodes.values())
    weights = parameters + buffer_bytes(graph)
    return StepMemory(
        policy,
        backend,
        dtype,
        batch,
        accumulate,
        weights,
        parameters,
        COPIES[optimizer] * parameters + (weights if averaged else 0),
        Saving(graph, running, segments, part, dtype).bytes(),
    )


def buffer_bytes(graph: Graph) -> int:
    """Running means and variances."""
    return sum(buffer_bytes_of(graph, node) for node in graph.nodes.values())


def parse_memory(text: str) -> Memory:
    """``none``, ``recompute``, or the bytes of ``8GB``. Raises ValueError."""
    if text in POLICIES:
        return text
    try:
        return parse_size(text)
    except ValueError as error:
        raise ValueError(f"{error}, or name a policy: {', '.join(POLICIES)}") from error


def parse_size(text: str) -> int:
    """Bytes of ``8GB``, ``512 MiB``, ``1.5G``. Raises ValueError where it is no size."""
    match = _SIZE.fullmatch(text)
    unit = match[2].upper() if match else ""
    factor = _UNITS.get(unit, _BINARY.get(unit))
    if match is None or factor is None:
        raise ValueError(f"{text!r} is no size: write it like 8GB, 512MiB or 1.5G")
    size = int(float(match[1]) * factor)
    if not size:
        raise ValueError("a size of 0 holds nothing")
    return size


def show_size(size: int) -> str:
    """``8.00 GB``, ``33.2 MB``: three digits."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            digits = 2 if size < 10 * factor else 1 if size < 100 * factor else 0
            return f"{size / factor:.{digits}f} {unit}"
    return f"{size} B"


def _known(what: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        raise ValueError(f"no {what} {name!r}: there are {', '.join(names)}")
