"""A step is queued while the previous one is computed: what the host reads, and equal results.

Nothing is queued on a CPU, so the tests make the loop run one step ahead there.
"""

import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import danetc
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.system.errors import TrainingError
from tests.runtime.training.common import ADAM, RELU, digits, phase, run, small

READS = {"item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero"}


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.runtime.training.engine.has_streams", lambda device: True)


class Reads(TorchFunctionMode):
    """Records each read of a tensor's value from Python, by the danetc function that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.by: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
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
    """Reads of values on the CPU do not count: the order of samples, and the step count of a mean."""
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
    torch.testing.assert_close(later.weights, at_once.weights, rtol=0, atol=0)

    def told(trained: Any) -> list[Any]:
        return [replace(step, images_per_second=0, shares={}) for step in trained.reports]

    assert told(later) == told(at_once)


@pytest.mark.parametrize("optimizer", ["adamw(lr = 0.01)", "sgd(lr = 0.1, momentum = 0.9)"])
@pytest.mark.parametrize("image", [7, 130])
def test_a_loss_that_breaks_is_named_and_changes_no_weight(
    few: DataSet, ahead: None, optimizer: str, image: int
) -> None:
    """The weights stay finite, also if it is the last step of an epoch."""
    images = few.train.images.float() / 16
    images[image] = math.inf
    data = replace(few, train=Memory(images, few.train.labels))
    chosen = phase(f"epochs = 1; batch = 40; optimizer = {optimizer}")
    model = danetc.build(text=RELU, seed=1)
    with pytest.raises(TrainingError, match=r"epoch 1, step .*begins in the input itself"):
        run(model, data, chosen)
    assert all(torch.isfinite(value).all() for value in model.parameters())
