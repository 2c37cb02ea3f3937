"""The memory of a training step, predicted from the graph alone. No torch.

The step is played through in the order in which it runs: each operation makes its result, keeps
what its backward pass needs (``KEEPS``) and gives the rest back when its last reader is done; then
the backward pass takes everything down again. Numbers are bytes of tensors on a CPU, what torch's
allocator is asked for. What lies outside of it (the libraries' own scratch space, the loaded
program itself, the input batch) is not in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from danetc.compiler.ir.at_node import buffer_bytes_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.fusion_groups import plan_fusion
from danetc.compiler.passes.recompute import NO_SEGMENTS, plan_segments
from danetc.compiler.plans.step_memory import BYTES, Play
from danetc.dsl.recipe.schema import COPIES

POLICIES = ("none", "recompute")
"""Memory policies, the cheapest in time first."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of a training step under a policy.

    ``weights`` (with buffers) and ``optimizer`` (with a running mean of the weights) are there all
    the time. ``gradients``, ``saved`` (what the forward pass holds for the backward pass) and
    ``transient`` are what is there when the most is. ``held`` is all that is saved when the forward
    pass ends. A batch goes through in ``accumulate`` parts.
    """

    policy: str
    backend: str
    dtype: str
    batch: int
    accumulate: int
    weights: int
    optimizer: int
    gradients: int
    saved: int
    transient: int
    held: int

    @property
    def total(self) -> int:
        """The predicted peak."""
        return self.weights + self.optimizer + self.gradients + self.saved + self.transient

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "total": self.total}

    def __str__(self) -> str:
        parts = (
            ("weights", self.weights),
            ("optimizer", self.optimizer),
            ("gradients", self.gradients),
            ("saved", self.saved),
            ("transient", self.transient),
        )
        listed = ", ".join(f"{name} {show_size(size)}" for name, size in parts)
        return f"{self.policy}: {show_size(self.total)} at the peak ({listed})"


class TooLittleMemory(Exception):
    """No policy fits into a budget. ``smallest`` is the plan that comes nearest."""

    def __init__(self, message: str, smallest: MemoryPlan) -> None:
        super().__init__(message)
        self.smallest = smallest


def predict(
    graph: Graph,
    batch: int,
    backend: str = "eager",
    policy: str = "none",
    dtype: str = "float32",
    optimizer: str = "sgd",
    accumulate: int = 1,
    averaged: bool = False,
) -> MemoryPlan:
    """The memory of a training step of ``batch`` samples, with the loss's cross entropy.

    ``dtype`` is that of the activations: ``float32``, ``float64``, or ``bfloat16`` or ``float16``
    of mixed precision, whose weights are float32. The batch goes through in ``accumulate`` parts,
    whose gradients add up. ``averaged`` says that a running mean of the weights is kept too.
    """
    _known("backend", backend, ("eager", "fused"))
    _known("memory policy", policy, POLICIES)
    _known("dtype", dtype, BYTES)
    _known("optimizer", optimizer, COPIES)
    running = plan_fusion(graph) if backend == "fused" else None
    planned = running.graph if running is not None else graph
    segments = plan_segments(planned) if policy == "recompute" else NO_SEGMENTS
    part = -(-batch // accumulate)
    weight_width = max(4, BYTES[dtype])
    play = Play(graph, running, segments, part, BYTES[dtype], weight_width, accumulate > 1)
    peak = play.run()
    weights = play.weight_bytes + buffer_bytes(graph)
    return MemoryPlan(
        policy,
        backend,
        dtype,
        batch,
        accumulate,
        weights,
        COPIES[optimizer] * play.weight_bytes + (weights if averaged else 0),
        peak.gradients,
        peak.saved,
        peak.transient,
        play.held,
    )


def buffer_bytes(graph: Graph) -> int:
    """Running means and variances."""
    return sum(buffer_bytes_of(graph, node) for node in graph.nodes.values())


def choose_policy(
    graph: Graph,
    batch: int,
    budget_bytes: int,
    backend: str = "eager",
    dtype: str = "float32",
    optimizer: str = "sgd",
    accumulate: int = 1,
    averaged: bool = False,
) -> MemoryPlan:
    """The plan of the cheapest policy whose predicted peak fits into a budget.

    Raises ``TooLittleMemory`` where none does; its message says what would.
    """
    plans = []
    for policy in POLICIES:
        plan = predict(graph, batch, backend, policy, dtype, optimizer, accumulate, averaged)
        if plan.total <= budget_bytes:
            return plan
        plans.append(plan)
    smallest = min(plans, key=lambda plan: plan.total)

    def total(batch: int = batch, dtype: str = dtype, accumulate: int = accumulate) -> int:
        policy = smallest.policy
        plan = predict(graph, batch, backend, policy, dtype, optimizer, accumulate, averaged)
        return plan.total

    many = _most(lambda n: total(batch=n) <= budget_bytes, batch - 1)
    part = _most(lambda n: total(accumulate=-(-batch // n)) <= budget_bytes, batch // 2)
    half = total(dtype="bfloat16") if dtype in ("float32", "float64") else None
    advice = []
    if many:
        advice.append(f"a batch of at most {many}")
    if part and -(-batch // part) > accumulate:
        advice.append(f"accumulate = {-(-batch // part)}, the same batch in smaller parts")
    if half is not None and half <= budget_bytes:
        advice.append(f"precision = bf16, which takes {show_size(half)}")
    if not advice:
        fixed = smallest.weights + smallest.optimizer
        advice.append(
            "a smaller network or image, or fewer steps: not even a batch of 1 fits "
            f"(the weights and the optimizer alone are {show_size(fixed)})"
        )
    parts = f" in {accumulate} parts" if accumulate > 1 else ""
    raise TooLittleMemory(
        f"{graph.name} does not fit into {show_size(budget_bytes)}: the smallest prediction for a "
        f"batch of {batch}{parts}, {backend}, {dtype}, is {show_size(smallest.total)} with the "
        f"policy {smallest.policy}; take {', or '.join(advice)}",
        smallest,
    )


def _most(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to ``most`` that fits, 0 where none does; smaller ones fit too."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return least


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
