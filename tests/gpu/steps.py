"""Counts kernel launches and host waits of a training step on a pretended device.

``python -m tests.gpu.steps NETWORK ...`` prints a row for each network and backend as JSON.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.gpu.device import counts  # imported before torch

import danetc  # isort: skip
from danetc.runtime.training.observer import Callback, Epoch, StepReport  # isort: skip


class Counting(Callback):
    """Notes the counts at the end of each step (while the next is queued) and of each epoch."""

    def __init__(self) -> None:
        self.steps: list[list[dict[str, int]]] = [[]]
        self.epochs: list[dict[str, int]] = [counts()]

    def on_step_end(self, report: StepReport) -> None:
        self.steps[-1].append(counts())

    def on_epoch_end(self, epoch: Epoch) -> None:
        self.steps.append([])
        self.epochs.append(counts())

    def of_steps(self) -> list[dict[str, int]]:
        """Counts of each step, except the first two of a training, the first of an epoch and the last,
        which is not queued behind another."""
        return [
            _between(one, two)
            for number, steps in enumerate(self.steps)
            for one, two in pairwise(steps[1 if number == 0 else 0 : -1])
        ]

    def of_epochs(self) -> list[dict[str, int]]:
        return [_between(one, two) for one, two in pairwise(self.epochs)]


def _between(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    return {name: two[name] - value for name, value in one.items()}


def counted(spec: str | None = None, data: str = "digits", **options: Any) -> Counting:
    """Train with ``options`` of ``danetc.train``, and return the counts."""
    counting = Counting()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        danetc.train(spec, data, output=output, callbacks=[counting], progress=False, **options)
    return counting


SMALL: Mapping[str, tuple[str, dict[str, Any]]] = {
    "sew_r18": ("synthetic:classes=1000,size=224,count=8,test=2", {"width": 8}),
    "danet_c_r50": ("synthetic:classes=1000,size=224,count=8,test=2", {"width": 8}),
    "zoo/spikformer": ("synthetic:count=8,test=2", {"width": 48, "heads": 4, "depth": 2}),
}
"""Data, and widths with which a step takes seconds; the number of launches does not depend on them."""


def row(network: str, backend: str) -> dict[str, Any]:
    data, settings = SMALL.get(network, ("synthetic:size=8,channels=1,count=8,test=2", {}))
    recipe = {"epochs": 1, "warmup": 0, "batch": 2, "precision": "bf16"}
    settings = settings | {f"recipe.{name}": value for name, value in recipe.items()}
    found = counted(
        network, data, recipe="digits", backend=backend, channels_last=True, set=settings
    )
    return {"network": network, "backend": backend, **found.of_steps()[-1]}


if __name__ == "__main__":
    print(json.dumps([row(name, kind) for name in sys.argv[1:] for kind in ("fused", "eager")]))
