"""Time and memory of a network: a training step and a forward pass, on the backends eager and fused."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: a waiting thread uses no CPU
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from torch import Tensor

from danetc.arguments import Memory
from danetc.compiler.emit.fx import emit
from danetc.errors import UserError
from danetc.output.console import terminal_bar
from danetc.runtime.bench.memory import peak_bytes
from danetc.runtime.bench.timing import Sample, medians, time_interleaved, timed
from danetc.runtime.kernels.announcing import announced_on
from danetc.runtime.kernels.torch_internals import MissingInternal
from danetc.tasks.inputs import taken
from danetc.tasks.memory import choose

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph

BACKENDS = ("eager", "fused")


@dataclass(frozen=True)
class BackendTiming:
    """Times of a backend: medians over the rounds, in seconds of the CPU, or of the GPU.

    ``first`` is the wall time of the first training step, which compiles the kernels that are not
    cached. ``peak`` is the largest number of bytes that a step allocates at a time, None if unknown.
    """

    backend: str
    memory: str
    step: Sample
    forward: Sample
    first: float
    peak: int | None


@dataclass(frozen=True)
class Benchmark:
    """Measurements of a network on ``batch`` samples, images [C, H, W] or sequences of them."""

    network: str
    steps: int
    batch: int
    size: tuple[int, ...]
    device: str
    threads: int
    backends: tuple[BackendTiming, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "torch": torch.__version__}


class _Step:
    """A training step of SGD with momentum on random input, and the forward pass of another model."""

    def __init__(self, graph: Graph, backend: str, memory: str, x: Tensor) -> None:
        self.x = x
        self.model, self.fixed = (
            emit(graph, 0, backend=backend, memory=memory).to(x.device) for _ in range(2)
        )
        self.fixed.eval()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.model(self.x).square().mean().backward()
        self.optimizer.step()

    def forward(self) -> None:
        with torch.inference_mode():
            self.fixed(self.x)


def bench(
    graph: Graph, batch: int, memory: Memory, rounds: int, threads: int | None, *, silent: bool
) -> Benchmark:
    """Time both backends in interleaved rounds. Raises UserError if the network has several outputs."""
    if len(graph.outputs) != 1:
        raise UserError(f"{graph.name} has {len(graph.outputs)} outputs; bench takes one")
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    value = taken(graph)
    x = torch.randn(*(graph.steps,) * value.varies, batch, *value.shape, device=device)
    x = (x > 1).float() if value.kind.is_integer else x
    policies = {name: choose(graph, memory, batch=batch, backend=name).policy for name in BACKENDS}
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)
    with (
        terminal_bar(*columns, stream=sys.stderr) as bar,
        announced_on(bar, silent=silent),
    ):
        task = bar.add_task("", total=len(BACKENDS) * (3 + 2 * rounds))

        def report(what: str) -> None:
            bar.update(task, advance=1, description=what)

        steps, first = {}, {}
        for name in BACKENDS:
            report(f"{name}, first step")
            steps[name] = _Step(graph, name, policies[name], x)
            first[name] = timed(steps[name].train, device).wall
        timings = time_interleaved(
            {
                f"{name}, {what}": call
                for name, step in steps.items()
                for what, call in (("step", step.train), ("forward", step.forward))
            },
            device,
            rounds,
            on_progress=report,
        )
        found = tuple(
            BackendTiming(
                name,
                policies[name],
                medians(timings[f"{name}, step"]),
                medians(timings[f"{name}, forward"]),
                first[name],
                _peak(step),
            )
            for name, step in steps.items()
        )
    return Benchmark(
        graph.name, graph.steps, batch, value.shape, device.type, torch.get_num_threads(), found
    )


def _peak(step: _Step) -> int | None:
    step.optimizer.zero_grad()
    try:
        return peak_bytes(step.train)
    except MissingInternal:
        return None
