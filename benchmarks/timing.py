"""Steps timed against each other.

They are timed in interleaved rounds, so that a machine that is slower for a while is so for all of
them, and compared round by round. On a CPU the clock is the CPU time of all threads of the process,
which other processes disturb least; it counts in milliseconds, so a sample is as many steps as it
takes to be long. On a GPU the clock is the device's own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

SAMPLE = 0.4
"""Seconds that a sample lasts at least: a hundred units of a slow CPU clock."""
WARM_UP = 2
"""Steps before the first sample: kernels are compiled, the optimizer's state is there."""


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


def time_interleaved(
    steps: Mapping[str, Callable[[], object]],
    device: torch.device,
    rounds: int,
    sample: float | None = None,
    on_progress: Callable[[str], None] = lambda name: None,
) -> dict[str, list[Sample]]:
    """Time several steps in interleaved rounds; every second round runs in reverse order.

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


def medians(samples: Sequence[Sample]) -> Sample:
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
