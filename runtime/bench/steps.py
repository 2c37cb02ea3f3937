"""Training steps timed against each other, and what each of them holds.

Steps are timed in interleaved rounds, so that a machine that is slower for a while is so for all of
them, and compared round by round. On a CPU the clock is the CPU time of all threads of the process,
which other processes disturb least; it ticks in milliseconds, so a sample is as many steps as it
takes to be long. On a GPU the clock is the device's own.
"""

from __future__ import annotations

import ctypes
import gc
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from danetc.runtime.kernels.torch_internals import MissingInternal

Read = Callable[[Any], Tensor]
Prepare = Callable[[Tensor], Tensor]

SAMPLE = 0.4
"""Seconds on the clock that a sample lasts at least: a hundred ticks of a slow CPU clock."""
WARM_UP = 2
"""Steps before the first sample: kernels are compiled, the optimizer's state is there."""


class TrainingStep:
    """A step of SGD with momentum on one fixed batch: forward, cross-entropy, backward, update.

    ``prepare`` makes of the batch what the model takes (it is part of the step), ``read`` makes
    logits [N, classes] of what it gives, ``reset`` runs before every forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        labels: Tensor,
        *,
        prepare: Prepare | None = None,
        read: Read | None = None,
        reset: Callable[[], None] | None = None,
    ) -> None:
        self.model = model.to(x.device).train()
        self.x = x
        self.labels = labels
        self.prepare = prepare
        self.read = read
        self.reset = reset
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    @property
    def device(self) -> torch.device:
        return self.x.device

    def loss(self) -> Tensor:
        """The forward pass alone, with all it keeps for a backward pass."""
        if self.reset is not None:
            self.reset()
        y = self.model(self.x if self.prepare is None else self.prepare(self.x))
        return F.cross_entropy(y if self.read is None else self.read(y), self.labels)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


def mean_over_steps(y: Tensor) -> Tensor:
    """[N, classes] of [T, N, classes]."""
    return y.mean(0)


# -- time -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one step: ``cpu`` of all threads, ``wall`` on the clock, ``gpu`` of the device."""

    cpu: float
    wall: float
    gpu: float | None = None

    @property
    def seconds(self) -> float:
        """What steps are compared by: the device's time, or else the CPU's."""
        return self.cpu if self.gpu is None else self.gpu


Samples = Mapping[str, Sequence[Sample]]


def timed(step: Callable[[], object], device: torch.device, repeats: int = 1) -> Sample:
    """The mean of ``repeats`` steps, from an idle device to an idle device."""
    cuda = device.type == "cuda"
    if cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        step()
    if cuda:
        end.record()
        torch.cuda.synchronize(device)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    gpu = start.elapsed_time(end) / 1000 / repeats if cuda else None
    return Sample(cpu / repeats, wall / repeats, gpu)


def race(
    steps: Mapping[str, Callable[[], object]],
    device: torch.device,
    rounds: int,
    sample: float | None = None,
    on_progress: Callable[[str], None] = lambda name: None,
) -> dict[str, list[Sample]]:
    """Time steps against each other: each in every round, the order turned round each time.

    A sample lasts for ``sample`` seconds (``SAMPLE``) at least.
    ``on_progress`` gets the name of each step before its warm-up and before each of its samples.
    """
    sample = SAMPLE if sample is None else sample
    repeats: dict[str, int] = {}
    for name, step in steps.items():
        on_progress(name)
        for _ in range(WARM_UP):
            step()
        once = timed(step, device).wall
        repeats[name] = max(1, math.ceil(sample / max(once, 1e-6)))
    samples: dict[str, list[Sample]] = {name: [] for name in steps}
    order = list(steps)
    for _ in range(rounds):
        for name in order:
            on_progress(name)
            samples[name].append(timed(steps[name], device, repeats[name]))
        order.reverse()
    return samples


def middle(samples: Sequence[Sample]) -> Sample:
    """The medians, of each clock by itself."""
    gpu = [each.gpu for each in samples if each.gpu is not None]
    return Sample(
        median(each.cpu for each in samples),
        median(each.wall for each in samples),
        median(gpu) if gpu else None,
    )


def ratio(samples: Samples, name: str, base: str) -> float:
    """How many times as long as ``base`` a step takes: the median of the rounds' ratios."""
    pairs = zip(samples[name], samples[base], strict=True)
    return median(mine.seconds / other.seconds for mine, other in pairs)


# -- memory ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alone:
    """A step in a process of its own.

    ``first`` are the seconds of the first step, ``peak`` the most bytes of tensors at a time in a
    later one beyond what is there between steps (weights, the optimizer's state; not the gradients,
    which each step makes anew), where torch says so, and ``resident`` the same of the process's
    memory as the system sees it, where it says so.
    """

    first: float
    peak: int | None
    resident: int | None


def alone(step: TrainingStep) -> Alone:
    """Measure a step that this process has not run before."""
    from danetc.runtime.bench.memory import peak_bytes

    first = timed(step, step.device).wall
    for _ in range(WARM_UP - 1):
        step()
    step.optimizer.zero_grad()
    resident = resident_peak(step) if step.device.type == "cpu" else None
    step.optimizer.zero_grad()
    peak: int | None
    try:
        peak = peak_bytes(step)
    except MissingInternal:
        peak = None
    return Alone(first, peak, resident)


def resident_peak(step: Callable[[], object]) -> int | None:
    """How far the process's resident memory rises in a step, in bytes.

    None where the system cannot start its high-water mark anew (Linux with glibc can).
    """
    gc.collect()
    if not _give_back_freed_memory():
        return None
    before = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the mark is now here
    except OSError:
        return None
    step()
    after = _status("VmHWM")
    return None if before is None or after is None else max(0, after - before)


def _status(key: str) -> int | None:
    """A size from the process's status, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"^{key}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _give_back_freed_memory() -> bool:
    """Let glibc return what is free: else a step would reuse it and seem to need less."""
    if sys.platform != "linux":
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False  # another C library
    trim(0)
    return True
