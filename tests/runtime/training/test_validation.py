"""Trainings with validation images: epochs are evaluated on them, and the test images once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.training.checkpoints import Checkpoints, read_checkpoint
from danetc.runtime.training.observer import Epoch
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.runtime.training.training_batches import TrainingBatches
from tests.runtime.training.common import ADAM, Trained, phase, run, small


@pytest.fixture(scope="module")
def held(few: DataSet) -> DataSet:
    """The digits of ``few``, the last 40 of those for training held out."""
    train = few.train
    first, last = (Memory(train.images[n], train.labels[n]) for n in (slice(160), slice(160, None)))  # type: ignore[union-attr]
    return replace(few, train=first, val=last)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The splits and epochs of all evaluations."""
    found: list[tuple[str, int]] = []
    plain = TrainingBatches.testing

    def testing(self: TrainingBatches, split: Any, epoch: int) -> Iterator[Any]:
        found.append((split, epoch))
        return plain(self, split, epoch)

    monkeypatch.setattr(TrainingBatches, "testing", testing)
    return found


@pytest.fixture(scope="module")
def whole(held: DataSet) -> Trained:
    """An uninterrupted training."""
    return run(small(), held, phase(ADAM))


ONCE = [("val", 0), ("val", 1), ("val", 2), ("test", 2)]


def test_epochs_are_evaluated_on_validation_images(
    held: DataSet, evaluated: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Figures are those of a plain evaluation, and the best epoch is that on validation images."""
    checkpoints = Checkpoints(tmp_path, lambda text: None, lambda path: None)
    done = run(small(), held, phase(ADAM), checkpoints=checkpoints)
    assert evaluated == ONCE
    *_, last = done.watcher.epochs
    assert [epoch.test_loss for epoch in done.watcher.epochs[:-1]] == [None] * 2
    model = done.model.eval().cpu()
    for source, loss, accuracy in (
        (held.val, last.val_loss, last.val_accuracy),
        (held.test, last.test_loss, last.test_accuracy),
    ):
        with torch.no_grad():
            output = model(source.images)
        right = (output.argmax(1) == source.labels).float().mean().item()
        assert accuracy == pytest.approx(right)
        assert loss == pytest.approx(
            nn.functional.cross_entropy(output, source.labels).item(), rel=1e-5
        )
    values = [epoch.val_accuracy for epoch in done.watcher.epochs]
    assert read_checkpoint(tmp_path / "best").position.epoch == 1 + values.index(max(values))
    assert last.quality == last.val_accuracy
    assert Epoch.read(last.as_dict()) == last


def test_without_validation_nothing_changes(held: DataSet, whole: Trained) -> None:
    """The weights do not depend on the validation images."""
    plain = run(small(), replace(held, val=None), phase(ADAM))
    assert not any(name.startswith("val") for name in plain.history[-1])
    for name, value in plain.weights.items():
        assert torch.equal(value, whole.weights[name])
    test = [name for name in plain.history[-1] if name.startswith("test")]
    assert [plain.history[-1][name] for name in test] == [whole.history[-1][name] for name in test]


@pytest.mark.parametrize("phases", [1, 2])
def test_the_test_is_at_the_end_of_the_last_phase(
    held: DataSet, evaluated: list[tuple[str, int]], phases: int
) -> None:
    run(small(), held, phase(ADAM), phase=0, phases=phases)
    assert evaluated == ONCE[: 5 - phases]


@pytest.mark.thorough
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("check", [5, 15, 17])  # of 5, 5 and 7: steps, then batches
def test_a_resumed_training_is_tested_once(
    held: DataSet,
    whole: Trained,
    evaluated: list[tuple[str, int]],
    tmp_path: Path,
    check: int,
    killed: bool,
) -> None:
    """It is stopped in an evaluation or a step. A complete one is not tested again."""

    class Stopping(StopRequest):
        left = check

        @property
        def wanted(self) -> bool:
            self.left -= 1
            if not self.left and killed:
                raise KeyboardInterrupt
            self.signal = signal.SIGTERM
            return not self.left

    def resumed(stop: StopRequest | None = None) -> Trained:
        checkpoints = Checkpoints(tmp_path, lambda text: None, lambda path: None)
        return run(small(), held, phase(ADAM), checkpoints=checkpoints, stop=stop or StopRequest(),
                   resume=checkpoints.latest(), checkpoint_steps=1)  # fmt: skip

    with pytest.raises(KeyboardInterrupt if killed else Stopped):
        resumed(Stopping())
    evaluated.clear()
    rest = resumed()
    assert [each for each in evaluated if each[0] == "test"] == [("test", 2)]
    assert rest.figures == whole.figures
    assert all(torch.equal(value, rest.weights[name]) for name, value in whole.weights.items())
    evaluated.clear()
    assert resumed().history == rest.history
    assert evaluated == []
