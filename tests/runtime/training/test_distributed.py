"""Two gloo processes train like one process with the whole batch."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from danetc.runtime.data.dataset import DataSet, Memory, Samples
from danetc.runtime.system.errors import UnreadableError
from tests.runtime.training.common import BARE, RELU, STILL, digits
from tests.runtime.training.processes import Job, together

BODY = "epochs = 4; batch = 40; optimizer = sgd(lr = 0.1, momentum = 0.9, weight_decay = 1e-3)"


SHARED = """
use std
network small {
  input = image(1, 8, 8); steps = 2; neuron = PLIF; surrogate = sigmoid(alpha = scheduled(4.0))
  f = shared(conv(6) -> norm -> spike)
  a = in -> conv(6) -> norm -> spike
  out = (a -> f -> f) -> avgpool -> mean_over_time -> linear(10)
}
"""
CHANGE = "clip = 1.0; ema = 0.5; change = surrogate(alpha = linear(2, 6))"
PARTS = "freeze = stem; lr_scale = 0.1 * head; clip = 1.0"
CASES = {
    "bptt": (STILL, f"{BODY}; clip = 1.0; ema = 0.9; gradient = bptt", 200),
    "truncated": (STILL, f"{BODY}; clip = 1.0; ema = 0.9; gradient = truncated(2)", 200),
    "updates": (STILL, f"{BODY}; clip = 1.0; gradient = online(trace = 0.5, update = step)", 80),
    "drawn steps": (STILL, f"{BODY}; gradient = online(steps = 1)", 80),
    # layers used at several places, neurons with a learnt value, and a scheduled parameter
    "shared bptt": (SHARED, f"{BODY}; {CHANGE}; gradient = bptt", 120),
    "shared truncated": (SHARED, f"{BODY}; {CHANGE}; gradient = truncated(1)", 120),
    "parts bptt": (STILL, f"{BODY}; {PARTS}; gradient = bptt", 120),
    "parts truncated": (STILL, f"{BODY}; {PARTS}; gradient = truncated(2)", 120),
    # without norms, which see each part separately: batches of 40, the last of 10 (and 5)
    "accumulated": (BARE, f"{BODY}; accumulate = ACCUMULATE", 90),
}


THOROUGH = ("parts", "trunc", "updates", "shared t")


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.thorough] * c.startswith(THOROUGH)) for c in CASES],
)
def test_two_processes_are_one_with_the_whole_batch(case: str, tmp_path: Path) -> None:
    """Training is in float64, with norms over both processes."""
    text, body, images = CASES[case]
    results = []
    for world, parts in ((1, "1"), (2, "4")):
        job = Job(
            tmp_path / str(world), body.replace("ACCUMULATE", parts), text, partial(digits, images),
            double=True, settings={"sync_norm": True},
        )  # fmt: skip
        assert together(job, world) == [0] * world
        results.append(job.result())
    one, two = results
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-9, atol=1e-9)
    for before, after in zip(one["figures"], two["figures"], strict=True):
        assert after["train_loss"] == pytest.approx(before["train_loss"], rel=1e-9)
        assert after["test_loss"] == pytest.approx(before["test_loss"], rel=1e-9)
        assert after["test_accuracy"] == before["test_accuracy"]


def infinite() -> DataSet:
    data = digits()
    images = data.train.images.float()
    images[7] = torch.inf
    return replace(data, train=Memory(images, data.train.labels))


class Holed:
    """Reads black images, one of which cannot be read."""

    def read(self, number: int) -> tuple[torch.Tensor, None]:
        if number == 17:
            raise UnreadableError("image 17 cannot be read")
        return torch.zeros(1, 8, 8), None

    def where(self, number: int) -> str:
        return f"image {number}"


def holed() -> DataSet:
    data = digits()
    labels = data.train.labels
    return replace(data, train=Samples(Holed(), labels, torch.arange(len(labels))))


def test_all_end_where_the_loss_of_one_is_not_finite(tmp_path: Path) -> None:
    job = Job(tmp_path, BODY, RELU, infinite, settings={"sync_norm": True})
    assert together(job, 2) == [1, 1]
    for rank in (0, 1):
        assert "epoch 1, step" in job.said(rank)
        assert "begins in the input itself" in job.said(rank)


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path, BODY.replace("batch = 40", "batch = 41"), STILL)
    assert together(job, 2) == [1, 1]
    assert "a batch of 41 cannot be divided into 2 equal parts (2 processes" in job.said()


def test_an_error_of_one_process_ends_the_others(tmp_path: Path) -> None:
    job = Job(tmp_path, BODY, STILL, holed)
    assert together(job, 2) == [1, 1]
    own = [rank for rank in (0, 1) if f"rank {rank}: image 17 cannot be read" in job.said(rank)]
    assert len(own) == 1
    assert f"rank {1 - own[0]}: another process of the training has ended" in job.said(1 - own[0])
