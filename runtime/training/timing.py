"""Where the time of a step goes: data, forward, backward, communication, optimizer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

PARTS = ("data", "forward", "backward", "communication", "optimizer")
"""``data`` is the wait for a batch and its way to the device, ``communication`` what other
processes make this one wait for: gradients that no computing hides, and agreements. What norms
over all processes exchange inside a pass counts in that pass."""


class Clock:
    """Adds up the time between laps under the name of each lap.

    On a GPU a lap is an event in its stream, so that nothing is waited for; ``settle`` reads the
    laps so far and belongs where the stream is waited for anyway.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._last = self._now()
        self._open: list[tuple[str, Any, Any]] = []

    def start(self) -> None:
        """Begin anew: the next lap counts from here."""
        self._last = self._now()

    def lap(self, part: str) -> None:
        """The time since the last lap belongs to ``part``."""
        now = self._now()
        if self._cuda:
            self._open.append((part, self._last, now))
        else:
            self._seconds[part] += now - self._last
        self._last = now

    def settle(self) -> None:
        """Read the laps of a GPU that are over."""
        waiting = []
        for part, start, end in self._open:
            if end.query():
                self._seconds[part] += start.elapsed_time(end) / 1000
            else:
                waiting.append((part, start, end))
        self._open = waiting

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count so much of one part's time as another's."""
        moved = min(max(seconds, 0.0), self._seconds[source])
        self._seconds[source] -= moved
        self._seconds[target] += moved

    @property
    def seconds(self) -> Mapping[str, float]:
        return dict(self._seconds)

    def shares(self) -> dict[str, float]:
        """The parts as shares of their sum, which is 1 (or all are 0)."""
        total = sum(self._seconds.values())
        return {part: value / total if total else 0.0 for part, value in self._seconds.items()}

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
