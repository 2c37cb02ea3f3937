"""Memory policies as the commands take them: by name, or by a budget that chooses one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from danetc.compiler.plans.memory import (
    POLICIES,
    MemoryPlan,
    TooLittleMemory,
    choose_policy,
    parse_size,
    predict,
    show_size,
)
from danetc.dsl.recipe.schema import COPIES, MOMENTUM
from danetc.errors import UserError

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph
    from danetc.dsl.recipe.settings import Phase

Memory: TypeAlias = str | int
"""The name of a policy, or a budget in bytes."""

PREDICTED = ("eager", "fused")
"""The backends whose memory is predicted."""
DTYPES = {"float32": "float32", "mixed": "float16", "bf16": "bfloat16"}
"""What a recipe's precision computes activations in."""


def parse_memory(text: str) -> Memory:
    """``none``, ``recompute``, or the bytes of ``8GB``. Raises ValueError."""
    if text in POLICIES:
        return text
    try:
        return parse_size(text)
    except ValueError as error:
        raise ValueError(f"{error}, or name a policy: {', '.join(POLICIES)}") from error


@dataclass(frozen=True, slots=True)
class Chosen:
    """A policy, and the prediction that it was chosen by: None where it was asked for by name."""

    policy: str
    plan: MemoryPlan | None = None
    budget: int | None = None

    def __str__(self) -> str:
        if self.plan is None or self.budget is None:
            return self.policy
        parts = f" in {self.plan.accumulate} parts" if self.plan.accumulate > 1 else ""
        return (
            f"{self.plan} is predicted for a batch of {self.plan.batch}{parts}, "
            f"{self.plan.backend}, {self.plan.dtype}; the budget is {show_size(self.budget)}"
        )

    def as_dict(self) -> dict[str, object]:
        predicted = None if self.plan is None else self.plan.as_dict()
        return {"policy": self.policy, "budget": self.budget, "predicted": predicted}


def choose(
    graph: Graph,
    memory: Memory,
    *,
    batch: int,
    backend: str,
    dtype: str = "float32",
    optimizer: str = "sgd_momentum",
    accumulate: int = 1,
    averaged: bool = False,
) -> Chosen:
    """The policy of this name, or the cheapest one whose predicted peak fits into a budget.

    The prediction is of the tensors of a training step on a CPU. Raises UserError where nothing
    fits, and for a budget where the backend's memory is not predicted.
    """
    if isinstance(memory, str):
        return Chosen(memory)
    if backend not in PREDICTED:
        raise UserError(
            f"what the backend {backend} needs is not predicted, so a budget of "
            f"{show_size(memory)} chooses nothing there; take the backend {' or '.join(PREDICTED)}, "
            f"or name a policy: {', '.join(POLICIES)}"
        )
    try:
        plan = choose_policy(graph, batch, memory, backend, dtype, optimizer, accumulate, averaged)
    except TooLittleMemory as error:
        raise UserError(str(error)) from error
    return Chosen(plan.policy, plan, memory)


def choose_for_phase(graph: Graph, memory: Memory, phase: Phase, backend: str) -> Chosen:
    """The policy for a phase of a recipe. Raises UserError, which names the phase."""
    try:
        return choose(
            graph,
            memory,
            batch=phase.batch,
            backend=backend,
            dtype=DTYPES[phase.precision],
            optimizer=optimizer_of(phase),
            accumulate=phase.accumulate,
            averaged=phase.ema is not None,
        )
    except UserError as error:
        raise UserError(f"phase `{phase.name}`: {error}") from error


def optimizer_of(phase: Phase) -> str:
    """A phase's optimizer as predictions name it."""
    name = phase.optimizer.name
    moved = name + MOMENTUM
    return moved if moved in COPIES and phase.optimizer["momentum"] else name


def predictions(graph: Graph, batch: int, dtype: str, optimizer: str) -> list[MemoryPlan]:
    """What a training step is predicted to need, for each backend and policy."""
    return [
        predict(graph, batch, backend, policy, dtype, optimizer)
        for backend in PREDICTED
        for policy in POLICIES
    ]
