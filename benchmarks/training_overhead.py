"""What a training pays beside its computing: the loop itself, the wait for data, and checkpoints.

python benchmarks/training_overhead.py [--quick] [--threads N]

A DANet-C on digits by the recipe of the standard library, with a checkpoint every 100 steps; on
Fashion-MNIST too where FASHION_MNIST names the folder of its files. The cost of a checkpoint is the
time for which it holds the training up, and the CPU time of the thread that writes it, which a
machine with an idle core does not feel. Images per second are those of CPU time, against a loop of ten
lines over the same model, data and optimizer, in turns in this process.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import Options, Row, options, report
from torch import nn

from danetc.runtime.data.dataset import Memory
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.devices import find_device
from danetc.runtime.training.checkpoints import Checkpoints, Position, Snapshot
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import Callback, RunSettings, StepReport
from danetc.tasks.networks import compile_spec, initialise
from danetc.tasks.training.plan import backend_on, find_recipe

INTERVAL = 100  # steps
WAIT, COST = 5.0, 1.0  # per cent
SHARE = 0.97  # of the images per second of a bare loop
SPEC = str(Path(__file__).parents[1] / "specs" / "danet_c_small.danet")


@dataclass
class Measured(Callback):
    """When each step was done, and what saving cost; ``writing`` is by the position of the checkpoint."""

    steps: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    writing: dict[Position, float] = field(default_factory=dict)
    shares: list[dict[str, float]] = field(default_factory=list)

    def on_step_end(self, report: StepReport) -> None:
        self.steps.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def on_epoch_end(self, epoch: Any) -> None:
        self.shares.append(dict(epoch.shares))


class Timed(Checkpoints):
    """Checkpoints whose writing is timed."""

    measured: Measured

    def _put(self, snapshot: Snapshot, name: str) -> Path:
        before = time.thread_time()
        place = super()._put(snapshot, name)
        writing = self.measured.writing
        earlier = writing.get(snapshot.position, 0.0)  # under other names
        writing[snapshot.position] = earlier + time.thread_time() - before
        return place


def measure(text: str, settings: dict[str, Any], epochs: int) -> Measured:
    compiled = compile_spec(SPEC, settings=settings)
    recipe = find_recipe(compiled.checked.module, None, text, {"epochs": epochs})
    model, _ = initialise(compiled.graph, 0, None, backend_on(find_device(), None, print))
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
            settings = RunSettings(checkpoint_steps=INTERVAL, workers=recipe.workers)
            phase, data = recipe.phases[0], open_data(text)
            fit(PhaseRun(model, data, phase, settings, measured, checkpoints=checkpoints))
    finally:
        PhaseRun.save_later = save  # type: ignore[method-assign]
    return measured


def against_a_bare_loop(rounds: int) -> dict[str, list[float]]:
    """CPU seconds a step of whole epochs on digits, by the training and by a bare loop, in turns."""
    compiled = compile_spec(SPEC, settings={})
    phase = find_recipe(compiled.checked.module, None, "digits", {"epochs": 1}).phases[0]
    data = open_data("digits")
    assert isinstance(data.train, Memory)
    images, labels = data.train.images / 255, data.train.labels
    backend = backend_on(find_device(), None, print)
    model, other = (initialise(compiled.graph, 0, None, backend)[0] for _ in range(2))
    arguments = dict(phase.optimizer.arguments)
    arguments.pop("decay", None)
    optimizer = torch.optim.AdamW(other.parameters(), lr=arguments["lr"], fused=True)

    def bare() -> list[float]:
        done = []
        other.train()
        for chosen in torch.randperm(len(labels)).split(phase.batch):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(other(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            done.append(time.process_time())
        return done

    def trained() -> list[float]:
        measured = Measured()
        fit(PhaseRun(model, data, phase, observer=measured))
        return measured.cpu

    found: dict[str, list[float]] = {"bare": [], "trained": []}
    for number in range(rounds + 1):  # the first compiles kernels
        for name, run in (("bare", bare), ("trained", trained)):
            done = run()
            if number:
                found[name].append((done[-1] - done[0]) / (len(done) - 1))
    return found


def rows_of(name: str, found: Measured) -> list[Row]:
    later = found.shares[1:] or found.shares  # kernels are compiled in the first epoch
    wait = 100 * max(share["data"] for share in later)
    steps = [after - before for before, after in zip(found.steps, found.steps[1:], strict=False)]
    interval = INTERVAL * sorted(steps)[len(steps) // 2]
    stall = 100 * max(found.stalls) / interval
    writing = 100 * max(found.writing.values()) / interval
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
    loops = against_a_bare_loop(3 if at.quick else 9)
    pairs = zip(loops["bare"], loops["trained"], strict=True)
    share = median(bare / trained for bare, trained in pairs)
    rows = [Row("digits: images per second / those of a bare loop", share, least=SHARE)]
    rows += [row for name, each in found.items() for row in rows_of(name, each)]
    raw: dict[str, Any] = {
        name: {"shares": each.shares, "stalls": each.stalls, "writing": [*each.writing.values()]}
        for name, each in found.items()
    }
    raw["cpu_seconds_a_step"] = loops
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
