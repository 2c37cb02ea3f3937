"""What a training pays beside its computing: the wait for data, and checkpoints.

python benchmarks/training_overhead.py [--quick] [--threads N]

A DANet-C on digits by the recipe of the standard library, with a checkpoint every 100 steps; on
Fashion-MNIST too where FASHION_MNIST names the folder of its files. The cost of a checkpoint is the
time for which it holds the training up, and the CPU time of the thread that writes it, which a
machine with an idle core does not feel.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common import Options, Row, options, report

from danetc.runtime.data import open_data
from danetc.runtime.training.checkpoints import Checkpoints
from danetc.runtime.training.engine import fit
from danetc.runtime.training.observer import Observer, StepReport
from danetc.runtime.training.run import PhaseRun
from danetc.runtime.training.settings import RunSettings
from danetc.tasks.networks import compile_spec, initialise
from danetc.tasks.training.plan import default_backend, find_recipe

INTERVAL = 100  # steps
WAIT, COST = 5.0, 1.0  # per cent
SPEC = str(Path(__file__).parents[1] / "specs" / "danet_c_small.danet")


@dataclass
class Measured(Observer):
    """When each step was done, and what saving cost."""

    steps: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    writing: list[float] = field(default_factory=list)
    shares: list[dict[str, float]] = field(default_factory=list)

    def step(self, report: StepReport) -> None:
        self.steps.append(time.perf_counter())

    def epoch(self, epoch: Any) -> None:
        self.shares.append(dict(epoch.shares))


class Timed(Checkpoints):
    """Checkpoints whose writing is timed."""

    measured: Measured

    def _attempt(self, snapshot: Any, names: Any) -> None:
        before = time.thread_time()
        super()._attempt(snapshot, names)
        self.measured.writing.append(time.thread_time() - before)


def measure(text: str, settings: dict[str, Any], epochs: int) -> Measured:
    compiled = compile_spec(SPEC, settings=settings)
    recipe = find_recipe(compiled.checked.module, None, text, {"epochs": epochs})
    model, _ = initialise(compiled.graph, 0, None, default_backend(print))
    measured = Measured()
    save = PhaseRun.save_later

    def timed(self: PhaseRun, *args: Any) -> None:
        before = time.perf_counter()
        save(self, *args)
        measured.stalls.append(time.perf_counter() - before)

    PhaseRun.save_later = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory(prefix="danetc-bench-") as folder:
            checkpoints = Timed(Path(folder) / "checkpoints", print, lambda path: None)
            checkpoints.measured = measured
            fit(
                model,
                open_data(text),
                replace(recipe.phases[0]),
                RunSettings(checkpoint_steps=INTERVAL, workers=recipe.workers),
                observer=measured,
                checkpoints=checkpoints,
            )
    finally:
        PhaseRun.save_later = save  # type: ignore[method-assign]
    return measured


def rows_of(name: str, found: Measured) -> list[Row]:
    later = found.shares[1:] or found.shares  # kernels are compiled in the first epoch
    wait = 100 * max(share["data"] for share in later)
    steps = [after - before for before, after in zip(found.steps, found.steps[1:], strict=False)]
    interval = INTERVAL * sorted(steps)[len(steps) // 2]
    stall = 100 * max(found.stalls) / interval
    writing = 100 * max(found.writing) / interval
    return [
        Row(f"{name}: wait for data, the worst epoch", wait, most=WAIT, unit="%"),
        Row(f"{name}: a checkpoint holds up {INTERVAL} steps by", stall, most=COST, unit="%"),
        Row(f"{name}: CPU time of its writing", writing, unit="%"),
    ]


def main() -> int:
    at: Options = options("training_overhead", __doc__, batch=64, image=8, rounds=(1, 1))
    epochs = 2 if at.quick else 5
    found = {"digits": measure("digits", {}, epochs)}
    folder = os.environ.get("FASHION_MNIST")
    if folder is not None:
        found["fashion_mnist"] = measure(f"fashion-mnist:{folder}", {"image": 28}, 2)
    rows = [row for name, each in found.items() for row in rows_of(name, each)]
    raw = {
        name: {"shares": each.shares, "stalls": each.stalls, "writing": each.writing}
        for name, each in found.items()
    }
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
