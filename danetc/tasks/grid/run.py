"""Training the cells of a grid, so many runs at a time, by an engine.

A run that fails ends alone: its error is noted and the others continue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from danetc.tasks.grid.attempt import Attempt, Engine, Outcome
from danetc.tasks.grid.plan import GridRun, epochs_of

if TYPE_CHECKING:
    from danetc.runtime.training.signals import StopRequest

POLL = 0.2
"""Seconds between two looks at what is under way."""


class GridObserver(Protocol):
    """Is notified of the progress of the runs."""

    def started(self, run: GridRun, number: int) -> None: ...
    def moved(self, run: GridRun, epochs: int, total: int, left: float | None) -> None: ...
    def ended(self, run: GridRun, number: int, outcome: Outcome) -> None: ...


def train_all(
    runs: Sequence[GridRun],
    *,
    engine: Engine,
    stop: StopRequest,
    shown: GridObserver,
    record: Callable[[GridRun, Outcome], None],
) -> None:
    """Train runs, as many at a time as the engine takes, in their order. ``record`` gets each outcome at once.

    Returns when all are over, or those under way have saved their state after a signal.
    """
    clock = _Clock(runs)
    waiting = iter(enumerate(runs, 1))

    def begin(keep: Callable[[Attempt], None]) -> bool:
        number, run = next(waiting, (0, None))
        if run is not None:
            keep(engine.start(run, number))
            shown.started(run, number)
        return run is not None

    def look(attempt: Attempt) -> bool:
        if attempt.has_moved():
            clock.epochs[attempt.run.path] = attempt.epochs
            total = sum(attempt.run.facts.epochs)
            shown.moved(attempt.run, attempt.epochs, total, clock.left())
        outcome = attempt.outcome(stop.wanted)
        if outcome is None:
            return False
        clock.over(attempt.run)
        record(attempt.run, outcome)
        shown.ended(attempt.run, attempt.number, outcome)
        return True

    keep_busy(engine, stop, begin, look)


def keep_busy(
    engine: Engine,
    stop: StopRequest,
    begin: Callable[[Callable[[Attempt], None]], bool],
    look: Callable[[Attempt], bool],
) -> None:
    """Have as many runs under way as the engine takes, until all are over.

    ``begin`` starts the next, which it hands to its argument before anything else, and says whether there
    was one; ``look`` at one under way says whether it is over. After a signal none is begun, and those under
    way save their state.
    """
    active: list[Attempt] = []
    try:
        while True:
            while not stop.wanted and len(active) < engine.jobs:
                if not begin(active.append):
                    break
            if not active:
                return
            if stop.wanted:
                for each in active:
                    each.ask_to_stop()
            for each in [*active]:
                if look(each):
                    active.remove(each)
            time.sleep(POLL)
    finally:  # whatever happened here, no training is left alone
        for each in active:
            each.ask_to_stop()
        for each in active:
            each.wait()


@dataclass
class _Clock:
    """The time that is left, by the operations done since it was made."""

    runs: Sequence[GridRun]
    epochs: dict[Path, int] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _first: dict[Path, int] = field(default_factory=dict)
    _over: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        for run in self.runs:
            self._first[run.path] = 0 if run.state == "changed" else epochs_of(run)

    def over(self, run: GridRun) -> None:
        self._over.add(run.path)

    def left(self) -> float | None:
        """Seconds. None before the first epoch."""
        done = left = 0.0
        for run in self.runs:
            first = self._first[run.path]
            now = max(first, self.epochs.get(run.path, first))
            each = run.facts.work / max(1, sum(run.facts.epochs))
            done += each * (now - first)
            if run.path not in self._over:
                left += each * (sum(run.facts.epochs) - now)
        return (time.monotonic() - self._began) / done * left if done else None


def as_record(outcome: Outcome) -> dict[str, Any]:
    return {"state": outcome.state, "error": outcome.error, "seconds": round(outcome.seconds, 1)}
