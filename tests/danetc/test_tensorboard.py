"""Curves as TensorBoard's own reader sees them, also after a killed process was resumed."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import danetc
from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport
from danetc.tasks.training.tensorboard import POINTS, TensorBoard

from ..runtime.training.common import STILL, phase
from .conftest import FEW, Run

pytest.importorskip("tensorboard")

FULL = phase("epochs = 2; optimizer = sgd(lr = 0.1)")
STEPS = 4


def begun(
    folder: Path, note: Callable[[str], object], epoch: int = 0, step: int = 0, steps: int = STEPS
) -> TensorBoard:
    board = TensorBoard(folder, note)
    board.on_phase_start(PhasePlan(FULL, steps, epoch, step))
    return board


def step(board: TensorBoard, done: int, loss: float, steps: int = STEPS) -> None:
    epoch, number = divmod(done - 1, steps)
    place = (epoch + 1, number + 1, steps, done)
    board.on_step_end(StepReport("train", *place, loss, 0.5, 0.75, 99.0, 0.1, {}))


def end_epoch(board: TensorBoard, number: int, accuracy: float) -> None:
    more: Any = {"shares": {"data": 0.25, "forward": 0.75}, "terms": {"mse": 0.25}}
    board.on_epoch_end(Epoch("train", number, 0.1, 2.0, 0.5, 1.5, accuracy, 3.0, **more))


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "train"), size_guidance={"scalars": 0})
    return found.Reload()


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    found = events(folder).Scalars(name)
    return [(event.step, pytest.approx(event.value)) for event in found]


def test_a_killed_training_leaves_no_point_twice_and_none_out(tmp_path: Path) -> None:
    notes: list[str] = []
    killed = begun(tmp_path, notes.append)
    for done in range(1, 7):  # the last checkpoint is at step 5
        step(killed, done, 10.0 - done)
        if done == STEPS:
            end_epoch(killed, 1, 0.25)
    resumed = begun(tmp_path, notes.append, 1, 1)  # the first board is never closed
    for done in range(6, 9):
        step(resumed, done, 20.0 - done)
    end_epoch(resumed, 2, 0.5)
    resumed.on_phase_end()
    expected = [(n, 10.0 - n) for n in range(1, 6)] + [(n, 20.0 - n) for n in range(6, 9)]
    assert expected == curve(tmp_path, "step/loss")
    assert curve(tmp_path, "epoch/test_top1") == [(4, 0.25), (8, 0.5)]
    assert curve(tmp_path, "shares/data") == [(4, 0.25), (8, 0.25)]
    assert curve(tmp_path, "epoch/train_term_mse") == [(4, 0.25), (8, 0.25)]
    assert notes == []


def test_learnt_values_have_curves_or_histograms(tmp_path: Path) -> None:
    neuron = "neuron mine { state u = 0; a = learn(0.5); c = learn(2, above = 1, per = channel); "
    neuron += "v = a * u + c * x; s = heaviside(v - 1); u = v * (1 - s) }"
    model = danetc.build(text=STILL.replace("= LIF", "= mine") + neuron, backend="eager")
    board = TensorBoard(tmp_path, print)
    board.on_phase_start(PhasePlan(FULL, STEPS, model=model))
    end_epoch(board, 1, 0.5)
    board.on_phase_end()
    assert curve(tmp_path, "learnt/stem.spike.a") == [(STEPS, 0.5)]
    (event,) = events(tmp_path).Histograms("learnt/stem.spike.c")
    assert event.histogram_value.num == 8
    assert event.histogram_value.sum == pytest.approx(16)


def test_long_epochs_are_thinned_to_their_end(tmp_path: Path) -> None:
    board = begun(tmp_path, print, steps=1001)
    for done in range(1, 1002):
        step(board, done, float(done), steps=1001)
    board.on_phase_end()
    points = [n for n, _ in curve(tmp_path, "step/loss")]
    assert len(points) <= POINTS
    assert points[-1] == 1001


def full(*given: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_cannot_be_written_ends_the_curves_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notes: list[str] = []
    board = begun(tmp_path / "file", notes.append)
    step(board, 1, 1.0)
    end_epoch(board, 1, 0.5)
    board.on_phase_end()
    (note,) = notes
    assert "no more curves" in note


def test_a_full_disk_ends_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard writes in its own thread. The traceback of this thread is not shown."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    shown: list[object] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    notes: list[str] = []
    board = begun(tmp_path, notes.append)
    step(board, 1, 1.0)
    monkeypatch.setattr(RecordWriter, "write", full)
    step(board, 2, 1.0)
    step(board, 3, 1.0)
    other = threading.Thread(target=lambda: 1 / 0)  # other threads still show theirs
    other.start()
    other.join()
    board.on_phase_end()
    (note,) = notes
    assert note.startswith(f"no more curves for TensorBoard: {tmp_path}: the disk is full")
    assert len(shown) == 1
    assert threading.excepthook == shown.append


def test_curves_that_cannot_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.tensorboard import SummaryWriter

    notes: list[str] = []
    board = begun(tmp_path, notes.append)
    monkeypatch.setattr(SummaryWriter, "close", full)
    for _ in range(2):
        board.on_phase_end()
        (note,) = notes
        assert note.startswith(f"no more curves for TensorBoard: {tmp_path}: the disk is full")


def test_where_tensorboard_is_not_installed_it_is_said_once(
    danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danetc.tasks.training.trials.available", lambda: False)
    result = danetc.passes("train", quick, "--data", FEW, "--seeds", "2", "--backend", "eager")
    assert result.err.count("pip install 'danetc[tensorboard]'") == 1
    assert not list(Path("runs").rglob("tensorboard"))
