"""A step is queued while the one before it is computed: what the host reads, when, and what is the same.

On a CPU nothing is queued, so the tests let the loop be one step ahead there.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import danetc
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training import engine as running
from danetc.runtime.training.optim import Average
from tests.runtime.training.common import ADAM, RELU, digits, phase, run, small

READS = {"item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero"}


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = running.PhaseRun.begin

    def one_ahead(self: running.PhaseRun, *rest: Any) -> Any:
        self.ahead = 1
        return begin(self, *rest)

    monkeypatch.setattr(running.PhaseRun, "begin", one_ahead)


class Reads(TorchFunctionMode):
    """Notes each value of a tensor that Python asks for, by the function of danetc that does."""

    def __init__(self) -> None:
        super().__init__()
        self.by: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in READS:
            frame = sys._getframe(1)
            while "danetc" not in frame.f_globals["__name__"].split(".")[0]:
                frame = frame.f_back  # type: ignore[assignment]
            self.by.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("body", "reads"),
    [
        (ADAM, 1),
        ("epochs = 1; batch = 50; optimizer = sgd(lr = 0.1); clip = 1.0", 2),
        (ADAM + "; ema = 0.9; precision = bf16; accumulate = 2", 1),
        (ADAM + "; precision = fp16; augment = mixup(alpha = 0.2)", 1),
    ],
)
def test_a_step_reads_its_totals_and_nothing_else(ahead: None, body: str, reads: int) -> None:
    """Beside what is on the CPU anyway: the order of samples, and the steps that a mean is of."""
    counts = []
    for batches in (2, 4):
        with Reads() as mode:
            run(small(), digits(50 * batches, 20), replace(phase(body), epochs=1))
        host = ("danetc.runtime.data.", "danetc.runtime.system.", "danetc.runtime.training.optim.")
        counts.append([by for by in mode.by if not by.startswith(host)])
    more = len(counts[1]) - len(counts[0])
    assert more == 2 * reads, sorted(set(counts[1]))
    assert counts[1].count("danetc.runtime.training.totals.wait") >= 4 * reads


@pytest.mark.thorough
def test_training_is_the_same_bit_for_bit(few: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    body = ADAM + "; clip = 1.0; ema = 0.9"
    at_once = run(small(), few, phase(body))
    ahead.__wrapped__(monkeypatch)  # type: ignore[attr-defined]
    later = run(small(), few, phase(body))
    assert later.figures == at_once.figures
    for name, value in at_once.weights.items():
        assert torch.equal(later.weights[name], value), name

    def told(trained: Any) -> list[Any]:
        return [replace(step, images_per_second=0, shares={}) for step in trained.watcher.steps]

    assert told(later) == told(at_once)


@pytest.mark.parametrize("optimizer", ["adamw(lr = 0.01)", "sgd(lr = 0.1, momentum = 0.9)"])
@pytest.mark.parametrize("image", [7, 130])
def test_a_loss_that_breaks_is_named_and_changes_no_weight(
    few: DataSet, ahead: None, optimizer: str, image: int
) -> None:
    """Also where it is the last step of an epoch: the weights are those of the step before."""
    images = few.train.images.float() / 16
    images[image] = math.inf
    data = replace(few, train=Memory(images, few.train.labels))
    chosen = phase(f"epochs = 1; batch = 40; optimizer = {optimizer}")
    model = danetc.build(text=RELU, seed=1)
    with pytest.raises(TrainingError) as caught:
        run(model, data, chosen)
    assert "epoch 1, step " in str(caught.value)
    assert "begins in the input itself" in str(caught.value)
    assert all(torch.isfinite(value).all() for value in model.parameters())


def test_a_running_mean_is_torchs() -> None:
    torch.manual_seed(0)
    model = torch.nn.BatchNorm2d(3)
    ours = Average(model, 0.9)
    theirs = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    for step in range(3):
        model(torch.randn(4, 3, 2, 2))
        with torch.no_grad():
            model.weight.add_(torch.randn(3))
        ours.update(model, first=step == 0)
        theirs.update_parameters(model)
    for one, other in zip(ours.module.parameters(), theirs.module.parameters(), strict=True):
        assert torch.equal(one, other)
