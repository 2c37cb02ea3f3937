"""Memory policies as the commands take them: by name, or by a budget that chooses one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from danetc.compiler.plans.memory import (
    COUNTED,
    POLICIES,
    Memory,
    StepMemory,
    show_size,
    step_memory,
)
from danetc.dsl.recipe.schema import COPIES, MOMENTUM
from danetc.errors import UserError
from danetc.tasks.inputs import taken

if TYPE_CHECKING:
    import torch

    from danetc.compiler.ir.graph import Graph
    from danetc.dsl.recipe.settings import Phase
    from danetc.runtime.model.built import Model
    from danetc.runtime.training.distributed import World
    from danetc.runtime.training.peak import Step

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


# -- without a recipe ------------------------------------------------------------------------------


def choose(graph: Graph, memory: Memory, *, batch: int, backend: str) -> Chosen:
    """The policy of this name, or the cheapest one with which a step fits into a budget.

    The step is of float32 and SGD with momentum, on the GPU where there is one. Raises UserError
    where nothing fits.
    """
    if isinstance(memory, str):
        return Chosen(memory)
    from danetc.runtime.training.distributed import alone

    device = alone().device

    def least(policy: str = "none", dtype: str = "float32") -> StepMemory:
        counted = backend if backend in COUNTED else "eager"
        return step_memory(graph, batch, counted, policy, dtype, "sgd" + MOMENTUM)

    def measure(policy: str) -> Measured | None:
        return measured_step(
            graph, backend, policy, lambda model: plain_step(graph, batch, device), "float32"
        )

    return fitting(graph, memory, backend, least, measure, _free(device))


def plain_step(graph: Graph, batch: int, device: torch.device) -> Step:
    """A step of SGD with momentum: of the cross entropy where the one output is of classes, else of
    the squares of all outputs."""
    import torch
    from torch.nn import functional as F

    from danetc.runtime.training.losses import over_time
    from danetc.runtime.training.peak import Step

    values = [graph[id].value for id in graph.outputs.values()]
    classes = len(values) == 1 and len(values[0].shape) == 1

    def loss(output: Any, labels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        if classes:
            return F.cross_entropy(over_time(output), labels)
        outputs = output if isinstance(output, tuple) else (output,)
        return torch.stack([each.float().square().mean() for each in outputs]).sum()

    return Step(
        random_images(graph, batch, device),
        torch.zeros(batch, dtype=torch.int64, device=device),
        loss,
        lambda model: torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9),
        frames=taken(graph).varies,
    )


def random_images(graph: Graph, batch: int, device: torch.device) -> torch.Tensor:
    """Images [N, C, H, W] of 0 to 1, or frames [T, N, C, H, W]; whole where the network's are."""
    import torch

    value = taken(graph)
    steps = (graph.steps,) if value.varies else ()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(*steps, batch, *value.shape, generator=generator)
    return (images.round() if value.kind.is_integer else images).to(device)


def measured_step(
    graph: Graph,
    backend: str,
    policy: str,
    make_step: Callable[[Model], Step],
    precision: str,
) -> Measured | None:
    """What a step takes under a policy; None where the device's memory runs out.

    Raises UserError where this torch does not say what it allocates.
    """
    from danetc.compiler.emit.fx import emit
    from danetc.runtime.kernels.torch_internals import MissingInternal
    from danetc.runtime.training.distributed import device_name
    from danetc.runtime.training.guards import is_out_of_memory

    try:
        model = emit(graph, 0, backend, policy)
    except (ImportError, ValueError) as error:  # a library, or a backend, that is not there
        raise UserError(str(error)) from error
    try:
        step = make_step(model)
        peak = step.peak(model)
    except MissingInternal as error:
        raise UserError(f"{error}; name a policy: {', '.join(POLICIES)}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return Measured(
        peak.total,
        peak.fixed,
        device_name(step.images.device),
        len(step.labels),
        step.parts,
        backend,
        DTYPES[precision],
    )


def _free(device: torch.device, processes: int = 1) -> int | None:
    """What each process could have of a CPU's memory, which ends by killing processes. (A GPU's
    ends in an error.)"""
    from danetc.runtime.system.machine import free_memory

    return free_memory() // processes if device.type == "cpu" else None


# -- of a recipe -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhaseStep:
    """A phase's training step in one of the processes of a ``world``.

    ``output`` names the one that is trained where there are several; ``teachers`` gives the networks
    that terms of the loss learn from.
    """

    graph: Graph
    phase: Phase
    backend: str
    world: World
    output: str | None = None
    channels_last: bool = False
    deterministic: bool = True
    teachers: Callable[[], Mapping[str, Model]] = dict

    @property
    def batch(self) -> int:
        """Images of a batch that are this process's."""
        return max(1, self.phase.batch // self.world.size)

    def held(self, policy: str = "none", dtype: str | None = None) -> StepMemory:
        """What the step is known to hold. (Of a backend that is not counted, and where gradients do
        not go through all steps at once, as of ``eager``.)
        """
        counted = self.backend in COUNTED and self._at_once == self.graph.steps
        return step_memory(
            replace(self.graph, steps=self._at_once),
            self.batch,
            self.backend if counted else "eager",
            policy,
            dtype or DTYPES[self.phase.precision],
            optimizer_of(self.phase),
            self.phase.accumulate,
            self.phase.ema is not None,
        )

    @property
    def _at_once(self) -> int:
        """How many time steps gradients go through at once."""
        from danetc.runtime.training.backward import steps_at_once

        steps = self.graph.steps
        return min(steps, steps_at_once(self.phase.gradient) or steps)

    def measure(self, policy: str) -> Measured | None:
        """Take the step. Every process calls this; the largest peak counts."""
        from danetc.runtime.training.settings import determinism

        with determinism(self.world.device, self.deterministic):
            found = measured_step(
                self.graph, self.backend, policy, self._step, self.phase.precision
            )
        everyone = [each for each in self.world.gather(found) if each is not None]
        if len(everyone) < self.world.size:
            return None
        return max(everyone, key=lambda each: each.peak)

    def _step(self, model: Model) -> Step:
        import torch

        from danetc.runtime.model.built import to_channels_last
        from danetc.runtime.training.losses import Objective
        from danetc.runtime.training.optim import make_optimizer
        from danetc.runtime.training.peak import Step

        phase, world = self.phase, self.world
        if self.channels_last:
            to_channels_last(model)
        teachers = self.teachers()
        for teacher in teachers.values():
            teacher.to(world.device).eval()
        return Step(
            random_images(self.graph, self.batch, world.device),
            torch.zeros(self.batch, dtype=torch.int64, device=world.device),
            Objective(phase.loss, model.signature, self.output, model, teachers),
            lambda model: make_optimizer(model, phase.optimizer),
            frames=taken(self.graph).varies,
            precision=phase.precision,
            gradient=phase.gradient,
            parts=phase.accumulate,
            averaged=phase.ema is not None,
            clip=phase.clip,
            gathered=world.size > 1,
            whole=True,
        )

    def choose(self, memory: Memory) -> Chosen:
        """The policy of this name, or the cheapest one with which the step fits into a budget.

        Raises UserError, which names the phase, where nothing fits, and on a CPU where the step
        holds more than the machine has.
        """
        if isinstance(memory, str):
            return Chosen(memory)
        try:
            return fitting(
                self.graph,
                memory,
                self.backend,
                self.held,
                self.measure,
                self.world.from_first(_free(self.world.device, self.world.size)),
            )
        except UserError as error:
            several = self.world.size
            place = f", in each of {several} processes" if several > 1 else ""
            raise UserError(f"phase `{self.phase.name}`{place}: {error}") from error


def optimizer_of(phase: Phase) -> str:
    """A phase's optimizer as its copies of the weights are named."""
    name = phase.optimizer.name
    moved = name + MOMENTUM
    return moved if moved in COPIES and phase.optimizer["momentum"] else name


def held(graph: Graph, batch: int, dtype: str, optimizer: str) -> list[StepMemory]:
    """What a training step holds, for each backend and policy."""
    return [
        step_memory(graph, batch, backend, policy, dtype, optimizer)
        for backend in COUNTED
        for policy in POLICIES
    ]
