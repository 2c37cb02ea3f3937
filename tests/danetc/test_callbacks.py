"""`danetc.train(callbacks=...)`, `danetc.compare`, and the tables and figures of what comes back."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import danetc
from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport

from .conftest import SMALL

RECIPE = """
recipe few { batch = 300; optimizer = adamw(lr = 0.01)
  phase one { epochs = 2 } phase two { epochs = 1; start = one } }
"""
TEXT = SMALL + RECIPE
ALL_DIGITS = True


class Noting(danetc.Callback):
    """Writes down what it is told, and stops at one of these."""

    def __init__(self, stop: str = "") -> None:
        self.told: list[str] = []
        self.stop = stop

    def note(self, text: str) -> None:
        self.told.append(text)
        if text == self.stop:
            raise danetc.StopTraining

    def on_phase_start(self, plan: PhasePlan) -> None:
        self.note(f"begin {plan.phase.name} {plan.epoch} {plan.step}")

    def on_step_end(self, report: StepReport) -> None:
        self.note(f"step {report.phase} {report.epoch} {report.step}")

    def on_epoch_end(self, epoch: Epoch) -> None:
        self.note(f"epoch {epoch.phase} {epoch.epoch}")

    def on_checkpoint(self, path: Path) -> None:
        assert (path / "state.json").is_file() or path.is_dir()

    def on_phase_end(self) -> None:
        self.note("end")


def train(output: Path, *callbacks: danetc.Callback) -> Any:
    return danetc.train(text=TEXT, output=output, backend="eager", callbacks=callbacks)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    seen = Noting()
    run = train(tmp_path_factory.mktemp("callbacks") / "run", seen)
    assert not run.stopped
    assert seen.told[:2] == ["begin one 0 0", "step one 1 1"]
    steps = [each for each in seen.told if each.startswith("step")]
    assert len(steps) == 3 * 5  # 1,437 digits, 300 at a time
    assert [each for each in seen.told if not each.startswith("step")] == [
        "begin one 0 0", "epoch one 1", "epoch one 2", "end", "begin two 0 0", "epoch two 1", "end",
    ]  # fmt: skip
    return run


KEYS = ("phase", "epoch", "train_loss", "test_loss", "test_accuracy")


def rows(run: Any) -> list[list[Any]]:
    return [[epoch[key] for key in KEYS] for epoch in run.record["epochs"]]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("stop", "done"),
    [
        ("step one 1 3", 0),
        ("epoch one 1", 1),
        ("epoch one 2", 2),
        ("step two 1 1", 2),
        ("epoch two 1", 3),
    ],
)
def test_stopped_by_a_callback_and_resumed(
    whole: Any, tmp_path: Path, stop: str, done: int
) -> None:
    stopping = Noting(stop)
    first = train(tmp_path / "run", stopping)
    assert first.stopped == (done < 3)  # a stop at the very end is an end
    assert rows(first) == rows(whole)[:done]
    if stop == "epoch one 1":  # nothing of the next epoch is begun
        assert "step one 2 1" not in stopping.told
    rest = Noting()
    second = train(tmp_path / "run", rest)
    assert not second.stopped
    assert rows(second) == rows(whole)
    assert not {*rest.told} & {each for each in stopping.told if each.startswith("step")}
    with (tmp_path / "run" / "metrics.csv").open() as table:
        assert [row["row"] for row in csv.DictReader(table)] == ["1", "2", "3"]


def test_a_run_that_is_stopped_in_its_first_epoch_has_its_network(tmp_path: Path) -> None:
    run = train(tmp_path / "run", Noting("step one 1 1"))
    assert run.stopped
    assert run.record["epochs"] == []
    assert repr(run) == f"<Training: {tmp_path / 'run'}: 0 epochs, no test yet, stopped>"
    names = {each.name for each in run.directory.iterdir()}
    assert {"model.py", "spec.danet", "summary.json", "run.json"} <= names
    assert not {"weights.safetensors", "training.json"} & names


def test_other_errors_of_callbacks_are_the_callers(tmp_path: Path) -> None:
    class Wrong(danetc.Callback):
        def on_step_end(self, report: StepReport) -> None:
            assert (tmp_path / "run" / "model.py").is_file()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train(tmp_path / "run", Wrong())
    with pytest.raises(danetc.UserError, match=r"an instance of danetc.Callback, not function"):
        train(tmp_path / "run", lambda epoch: None)  # type: ignore[arg-type]
