"""A training step of a recipe's phase: what it holds, its measured peak, its memory policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from danetc.compiler.ir.graph import Graph
from danetc.compiler.plans.memory import COUNTED, Memory, StepMemory, step_memory
from danetc.dsl.recipe.items.optimizers import COPIES, MOMENTUM
from danetc.dsl.recipe.settings import Phase
from danetc.errors import UserError
from danetc.runtime.data import Target
from danetc.runtime.model.built import Model, to_channels_last
from danetc.runtime.training.backward import steps_at_once
from danetc.runtime.training.distributed import World
from danetc.runtime.training.losses import Objective, main_output
from danetc.runtime.training.optim import make_optimizer
from danetc.runtime.training.peak import Step
from danetc.runtime.training.settings import determinism
from danetc.tasks.inputs import taken
from danetc.tasks.memory import free_for, measured_step, random_images
from danetc.tasks.memory_budget import DTYPES, Chosen, Measured, fitting


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
        steps = self.graph.steps
        return min(steps, steps_at_once(self.phase.gradient) or steps)

    def measure(self, policy: str) -> Measured | None:
        """Take the step. Every process calls this; the largest peak counts."""
        with determinism(self.world.device, self.deterministic):
            found = measured_step(
                self.graph, self.backend, policy, self._step, self.phase.precision
            )
        everyone = [each for each in self.world.gather(found) if each is not None]
        if len(everyone) < self.world.size:
            return None
        return max(everyone, key=lambda each: each.peak)

    def _step(self, model: Model) -> Step:
        phase, world = self.phase, self.world
        if self.channels_last:
            to_channels_last(model)
        teachers = self.teachers()
        for teacher in teachers.values():
            teacher.to(world.device).eval()
        shape = model.signature.outputs[main_output(phase.loss, model.signature, self.output)]
        target: Target = "pixels" if len(shape) > 1 else "classes"  # (or numbers: as much memory)
        return Step(
            random_images(self.graph, self.batch, world.device),
            torch.zeros(self.batch, *shape[1:], dtype=torch.int64, device=world.device),
            Objective(phase.loss, model.signature, self.output, model, teachers, target),
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
                self.world.from_first(free_for(self.world.device, self.world.size)),
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
