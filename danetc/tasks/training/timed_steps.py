"""Steps of a training that are taken for the time they need, and for no longer than is wanted."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from danetc.runtime.kernels.announcing import Announcer
from danetc.runtime.training.observer import Observer, PhasePlan, StepReport
from danetc.runtime.training.signals import StopRequest

TIMED = 10
WARM = 2
"""Steps that are taken first and not timed: kernels are compiled, memory is found."""
LONG = 2.0
"""Seconds of a step from which on time may run out in the middle of it."""


class OutOfTime(Exception):
    """There is no time left, in the middle of a step."""


class Deadline:
    """So many seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.monotonic()

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self._began)

    @property
    def over(self) -> bool:
        return self.left <= 0

    def check(self, *_: object) -> None:
        """Raise OutOfTime when it is over."""
        if self.over:
            raise OutOfTime


class Compiling:
    """Tells another announcer of kernels, counts them, and compiles no more when time is over."""

    def __init__(self, announcer: Announcer, bound: Deadline) -> None:
        self._announcer, self._bound = announcer, bound
        self.total: int | None = 0
        self.done = 0
        self._before = 0

    def begin(self, total: int | None) -> None:
        self._before = self.done
        known = self.total is not None and total is not None
        self.total = self.done + total if known and total is not None else None
        self._announcer.begin(total)
        self._bound.check()

    def compiled(self, done: int) -> None:
        self.done = self._before + done
        self._announcer.compiled(done)
        if self.done != self.total:
            self._bound.check()

    def end(self) -> None:
        self._announcer.end()

    @property
    def unfinished(self) -> bool:
        return self.total is not None and self.done < self.total


class Stopwatch(Observer):
    """Times steps from one report to the next, and asks for a stop when there are enough."""

    def __init__(self, stop: StopRequest, bound: Deadline) -> None:
        self._stop = stop
        self._bound = bound
        self._last: tuple[int, float] | None = None
        self._seconds: list[float] = []
        self._shares: Mapping[str, float] = {}
        self._images = 0  # in the first step of an epoch
        self.taken = 0

    def begin(self, plan: PhasePlan) -> None:
        self._images = min(plan.batch, plan.images)

    def step(self, report: StepReport) -> None:
        now = time.perf_counter()
        if self._last is not None:
            same = self._last[0] == report.epoch
            first = self._images / max(report.images_per_second, 1e-9)
            self._seconds.append(now - self._last[1] if same else first)
        self.taken += 1
        self._last = report.epoch, now
        self._shares = report.shares
        if len(self._seconds) >= WARM + TIMED or self._bound.over:
            self._stop.request(signal.SIGINT)

    def testing(self, done: int, batches: int) -> None:
        if self._bound.over:
            self._stop.request(signal.SIGINT)

    @property
    def timed(self) -> int:
        return len(self._kept())

    @property
    def shares(self) -> Mapping[str, float]:
        return self._shares

    @property
    def seconds(self) -> float | None:
        """Of a step: the median. None where none was timed."""
        kept = self._kept()
        return statistics.median(kept) if kept else None

    def _kept(self) -> list[float]:
        return self._seconds[WARM : WARM + TIMED] if len(self._seconds) > WARM else self._seconds


@contextmanager
def interrupted(model: nn.Module, bound: Deadline) -> Iterator[None]:
    """Raise OutOfTime between two layers of ``model``, forward or backward, when time is over.

    Where steps turn out to be short this is left off: it takes some microseconds a layer.
    """
    hooks: list[Any] = []
    calls: list[float] = []

    def called(*_: object) -> None:
        """The model is called: a step begins."""
        calls.append(time.monotonic())
        if len(calls) > WARM and calls[-1] - calls[-2] < LONG:
            remove()

    def after(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(bound.check)

    def remove() -> None:
        while hooks:
            hooks.pop().remove()

    hooks.append(model.register_forward_pre_hook(called))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            continue  # with a hook on it, a norm is no part of a fused layer
        hooks.append(module.register_forward_pre_hook(bound.check))
        if not any(True for _ in module.children()):
            hooks.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        remove()
