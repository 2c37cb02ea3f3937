"""Progress of trainings and grids, as lines and as bars on a terminal, with a clock that tests set."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from danetc.runtime.training.observer import Epoch, PhasePlan, RunSettings, StepReport
from danetc.tasks.grid.run import GridProgress, Outcome
from danetc.tasks.training.progress import TrainingProgress

from ..runtime.training.common import phase
from .test_grid import run_of

Clock = Callable[[float], None]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def bars(self) -> list[str]:
        """Return the lines of the last bars without colours. Each bar becomes ``=``."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        frames = [frame.strip() for frame in re.sub("[━╸╺]+", "=", text).split("\r")]
        return [" ".join(line.split()) for line in [*filter(None, frames)][-1].splitlines()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a function that sets the time in seconds. Time starts at 0."""
    now = [0.0]
    for name in ("time.monotonic", "rich.console.monotonic"):
        monkeypatch.setattr(name, lambda: now[0])
    monkeypatch.setenv("COLUMNS", "120")
    return lambda seconds: now.__setitem__(0, seconds)


def step(epoch: int, step: int) -> StepReport:
    number = 3 * (epoch - 1) + step
    return StepReport("full", epoch, step, 3, number, 0.5, 0.25, 0.75, 1234.5, 0.1, {})


def plan() -> PhasePlan:
    """A phase of 11 epochs of 3 steps, of which 4 steps are done."""
    eleven = phase("epochs = 11; optimizer = sgd(lr = 0.1)")
    return PhasePlan(eleven, 3, 1, 1, RunSettings(seed=7, trial=1, trials=3))


EPOCH = Epoch(
    "full", 2, 0.1, 0.5, 0.25, 0.6, 0.2, 1.5, 0.75, 0.8, 1234.5, val_loss=0.7, val_accuracy=1.0,
    val_top5=1.0, warnings=["few spikes", "many NaN"], scores={"miou": 0.5},
)  # fmt: skip


def train(progress: TrainingProgress, clock: Clock) -> None:
    clock(100)
    progress.on_phase_start(plan())
    progress.on_step_end(step(2, 2))
    clock(116)
    progress.on_step_end(step(2, 3))
    progress.on_test_batch(1, 2)
    clock(130)
    progress.on_epoch_end(EPOCH)
    progress.on_epoch_end(EPOCH)
    clock(144)
    progress.on_step_end(step(3, 1))
    clock(145)
    progress.on_step_end(step(3, 2))
    progress.on_notice("written " + "to a long name " * 10)


def test_lines_of_a_training(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of an epoch are at least 15 seconds apart. Warnings are printed once."""
    stream, quiet = io.StringIO(), io.StringIO()
    with TrainingProgress(stream, every=15.0) as progress:
        train(progress, clock)
    figures = "loss 0.5000 top-1 25.0% top-5 75.0% 1,234 images/s"
    epoch = (
        "full  2/11  lr 1.00e-01  train loss 0.5000 top-1 25.00%  "
        "val loss 0.7000 top-1 100.00% top-5 100.00%  "
        "test loss 0.6000 top-1 20.00% top-5 80.00%  mIoU 50.00%  1,234 images/s  1.5 s"
    )
    assert stream.getvalue().splitlines() == [
        "trial 2 of 3, seed 7",
        f"full 2/11  step 3/3  {figures}  0:03:36 left",  # 16 s for 2 steps, and 27 steps left
        epoch, "warning: few spikes", "warning: many NaN", epoch,
        f"full 3/11  step 2/3  {figures}  0:04:41 left",
    ]  # fmt: skip
    assert capsys.readouterr().err == f"note: written {'to a long name ' * 10}\n"
    with TrainingProgress(quiet, quiet=True) as progress:
        train(progress, clock)
    assert quiet.getvalue() == ""


def test_the_bar_of_a_training(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar fits on one line, however narrow the terminal is."""
    stream, testing, narrow = Terminal(), Terminal(), Terminal()
    with TrainingProgress(stream) as progress:
        train(progress, clock)
    figures = "loss 0.5000 top-1 25.0% top-5 75.0% 1,234 images/s"
    assert stream.bars() == [f"full 3/11 = 8/33 {figures} 0:06:03"]
    assert f"note: written {'to a long name ' * 10}\n" in stream.getvalue()
    with TrainingProgress(testing) as progress:
        progress.on_phase_start(plan())
        progress.on_test_batch(1, 2)
    assert testing.bars() == ["= 4/33 evaluating: 1/2 -:--:--"]
    monkeypatch.setenv("COLUMNS", "60")
    with TrainingProgress(narrow) as progress:
        train(progress, clock)
    (bar,) = narrow.bars()
    assert "loss 0.5000 top-1 25.0% top-5 75.0%" in bar
    assert capsys.readouterr().err == ""


def test_the_bars_of_a_grid(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bar counts runs, including the shares of unfinished ones. The others count epochs."""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    first = run_of(Path("out"))
    second = replace(first, seed=1, path=Path("second"))
    with GridProgress(5, done=1) as progress:
        progress.started(first, 1)
        progress.started(second, 2)
        for now, epochs in ((60, (2, 1)), (120, (3, 3))):
            clock(now)
            progress.moved(first, epochs[0])
            progress.moved(second, epochs[1])
    assert stream.bars() == [
        "runs = 2/5 0:02:30",  # 1 + 3/4 + 3/4, at 1 run per minute
        "net seed 0, epochs = 3/4 0:01:00",
        "net seed 1, epochs = 3/4 0:00:30",
    ]
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    clock(0)
    with GridProgress(5, done=1) as progress:
        progress.started(first, 1)
        progress.started(second, 2)
        progress.ended(first, 1, Outcome("done", None, 61.2))
        progress.passed("left out")
    assert stream.bars() == ["runs = 3/5 -:--:--", "net seed 1, epochs = 0/4 -:--:--"]
    assert "[1/5] net seed 0: done in 0:01:01\n" in stream.getvalue()


def test_lines_of_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = replace(run_of(tmp_path), seed=3)
    with GridProgress(4, done=1) as shown:
        for number, outcome in enumerate(
            (
                Outcome("done", None, 61.2), Outcome("waiting"), Outcome("waiting", "cut off"),
                Outcome("failed", "no data"),
            ),
            1,
        ):  # fmt: skip
            shown.started(run, number)
            shown.moved(run, 2)
            shown.ended(run, number, outcome)
        shown.passed("[5/4] left out")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line for line in captured.err.splitlines() if ": " in line or "left out" in line] == [
        "[1/4] net seed 3: done in 0:01:01",
        "[2/4] net seed 3: stopped, its state is saved",
        "[3/4] net seed 3: cut off, its state is saved",
        "[4/4] net seed 3: failed: no data",
        "[5/4] left out",
    ]
    assert captured.err.count("net seed 3\n") == 4
    with GridProgress(1, quiet=True) as shown:
        shown.passed("nothing")
    assert capsys.readouterr().err == ""
