"""Memory policies and budgets: what a training step holds, and the cheapest policy that fits.

Needs no torch: ``memory`` and ``training.phase_step`` take the steps that are measured here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from danetc.compiler.ir.graph import Graph
from danetc.compiler.plans.memory import COUNTED, POLICIES, StepMemory, show_size, step_memory
from danetc.errors import UserError

DTYPES = {"float32": "float32", "mixed": "float16", "bf16": "bfloat16"}
"""What a recipe's precision computes activations in."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of tensors at the ``peak`` of a training step, measured on a ``device``; ``fixed`` are
    those that do not go with the batch."""

    peak: int
    fixed: int
    device: str
    batch: int
    accumulate: int
    backend: str
    dtype: str

    def __str__(self) -> str:
        parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
        return (
            f"{show_size(self.peak)} at the peak of a step (batch of {self.batch}{parts}, "
            f"{self.backend}, {self.dtype}), measured on {self.device}"
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """A policy, and the measurement that it was chosen by: None where it was asked for by name."""

    policy: str
    measured: Measured | None = None
    budget: int | None = None

    def __str__(self) -> str:
        if self.measured is None or self.budget is None:
            return self.policy
        return f"{self.policy}: {self.measured}; the budget is {show_size(self.budget)}"

    def as_dict(self) -> dict[str, object]:
        measured = None if self.measured is None else asdict(self.measured)
        return {"policy": self.policy, "budget": self.budget, "measured": measured}


Least = Callable[..., StepMemory]
"""``step_memory`` of a network and a step, but for what is changed by keyword."""


def fitting(
    graph: Graph,
    budget: int,
    backend: str,
    least: Least,
    measure: Callable[[str], Measured | None],
    free: int | None,
) -> Chosen:
    """The cheapest policy with which a step fits into a budget, as it is measured.

    ``measure`` takes a step under a policy; None says that the device's memory ran out. Where what
    a step holds at least is more than the budget, or than is ``free``, none is taken. Raises
    UserError where nothing fits; its message says what might.
    """
    room = budget if free is None else min(budget, free)
    tried: list[_Tried] = []
    for policy in POLICIES:
        held = least(policy=policy)
        if backend in COUNTED and held.total > room:
            fixed = held.weights + held.optimizer + held.parameters
            tried.append(
                _Tried(held.total, fixed, policy, f"holds at least {show_size(held.total)}", False)
            )
            continue
        found = measure(policy)
        if found is not None and found.peak <= budget:
            return Chosen(policy, found, budget)
        if found is not None:
            tried.append(
                _Tried(found.peak, found.fixed, policy, f"takes {show_size(found.peak)}", True)
            )
    step = least()
    start = (
        f"{graph.name} does not fit into {show_size(room)}"
        f"{', all that this machine has free' if room < budget else ''}: for a batch of {step.batch}"
        f"{f' in {step.accumulate} parts' if step.accumulate > 1 else ''}, {backend}, {step.dtype}, "
    )
    if not tried:
        raise UserError(start + "the device's memory runs out; take a smaller batch or accumulate")
    best = min(tried, key=lambda each: each.size)
    raise UserError(
        f"{start}a step {best.how} with the policy {best.policy}; take "
        + _advice(best, least, room, backend)
    )


@dataclass(frozen=True, slots=True)
class _Tried:
    """What a step takes, or holds, under a policy; of it ``fixed`` does not go with the batch."""

    size: int
    fixed: int
    policy: str
    how: str
    measured: bool


def _advice(best: _Tried, least: Least, room: int, backend: str) -> str:
    """What might fit."""
    step = least(policy=best.policy)
    part = -(-step.batch // step.accumulate)
    fitting = int(part * (room - best.fixed) / max(1, best.size - best.fixed))
    found = []
    if fitting > 0:
        at_most = "about" if best.measured else "at most"
        found.append(f"a batch of {at_most} {min(part - 1, fitting) * step.accumulate}")
        if fitting < part:
            parts, more = -(-step.batch // fitting), "" if best.measured else " or more"
            found.append(f"accumulate = {parts}{more}, the same batch in smaller parts")
    if backend in COUNTED and step.dtype == "float32" and best.fixed < room:
        half = least(policy=best.policy, dtype="bfloat16")
        if half.saved < step.saved:
            found.append(
                f"precision = bf16, which saves {show_size(half.saved)} for the backward pass and "
                f"not {show_size(step.saved)}"
            )
    if not found:
        found.append(
            "a smaller network or image, or fewer steps: not even a batch of 1 fits (the weights, "
            f"their gradients and the optimizer alone are {show_size(best.fixed)})"
        )
    return ", or ".join(found)


def step_memories(graph: Graph, batch: int, dtype: str, optimizer: str) -> list[StepMemory]:
    """What a training step holds, for each backend and policy."""
    return [
        step_memory(graph, batch, backend, policy, dtype, optimizer)
        for backend in COUNTED
        for policy in POLICIES
    ]
