"""metrics.csv: every epoch once, also where a training broke off; the tables at the end."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from danetc.runtime.training.observer import Observer, PhasePlan, StepReport
from danetc.tasks.training.metrics import metrics_csv
from danetc.tasks.training.printing import mean_shares, print_training
from danetc.tasks.training.progress import TrainingProgress
from danetc.tasks.training.request import TrainingRequest
from danetc.tasks.training.trials import run

from .conftest import SMALL, Run
from .test_train import QUICK, phase

TIMES = ("seconds", "images_per_second", "share")


class Breaks(Observer):
    """The process ends at a step, without a word."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, report: StepReport) -> None:
        if report.global_step == self.at:
            raise KeyboardInterrupt


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in found]


@pytest.mark.thorough
@pytest.mark.usefixtures("all_digits")
def test_an_interrupted_training_has_every_row_once(danetc: Run, tmp_path: Path) -> None:
    spec = tmp_path / "a.danet"
    spec.write_text(SMALL + QUICK.replace("epochs = 1", "epochs = 2"))
    request = TrainingRequest(
        spec=str(spec), data="digits", settings={}, output=tmp_path / "broken"
    )
    for at in (2, 7):  # an epoch has five steps
        with pytest.raises(KeyboardInterrupt):
            run(request, observer=Breaks(at), note=lambda text: None)
    assert danetc("train", spec, "--data", "digits", "-o", "broken").status == 0
    assert danetc("train", spec, "--data", "digits", "-o", "whole").status == 0
    whole = rows(tmp_path / "whole" / "metrics.csv")
    assert [row["row"] for row in whole] == ["1", "2"]
    assert rows(tmp_path / "broken" / "metrics.csv") == whole
    record = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert [float(row["test_loss"]) for row in whole] == [e["test_loss"] for e in record["epochs"]]


def test_values_with_commas_stay_in_their_column() -> None:
    text = metrics_csv([{"phase": 'a,"b"', "epoch": 1, "shares": {"data": 0.5}}])
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["phase"], row["share_data"], row["test_loss"]) == ('a,"b"', "0.5", "")


def epoch(name: str, number: int, seconds: float, data: float, top1: float) -> dict[str, Any]:
    return {
        "phase": name, "epoch": number, "seconds": seconds, "images_per_second": 100.0,
        "shares": {"data": data, "forward": 1 - data}, "train_loss": 1.0, "test_loss": 1.0,
        "test_accuracy": top1, "test_top5": 1.0,
    }  # fmt: skip


def test_the_last_table_has_a_row_for_each_phase(capsys: pytest.CaptureFixture[str]) -> None:
    epochs = [
        epoch("first", 1, 3600.0, 0.1, 0.5),
        epoch("first", 2, 1200.0, 0.5, 0.4),
        epoch("full", 1, 60.0, 0.0, 0.75),
    ]
    print_training({"epochs": epochs})
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if line.startswith("first"))
    assert first.split()[:3] == ["first", "2", "1:20:00"]
    assert "20.0%" in first  # (0.1 * 3600 + 0.5 * 1200) / 4800
    assert "50.00%" in first  # the best, beside the last
    assert any(line.startswith("full") for line in lines)
    assert sum(mean_shares(epochs).values()) == pytest.approx(1.0)


@pytest.mark.thorough
def test_trials_are_a_table_with_mean_and_deviation(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text(SMALL + QUICK)
    result = danetc("train", "a.danet", "--data", "digits", "--seeds", "2")
    record = json.loads((tmp_path / "runs" / "small" / "trials.json").read_text())
    a, b = (trial["test_accuracy"] for trial in record["trials"])
    lines = [line.split() for line in result.out.splitlines()]
    assert ["mean", f"{(a + b) / 2:.2%}"] in lines
    assert ["deviation", f"{abs(a - b) / 2**0.5:.2%}"] in lines
    assert "trial 2 of 2, seed 1" in result.out
    assert (tmp_path / "runs" / "small" / "seed-1" / "metrics.csv").is_file()


def test_long_epochs_tell_how_far_they_are_where_there_is_no_terminal() -> None:
    plan = PhasePlan(
        phase("recipe full { epochs = 2; optimizer = sgd(lr = 0.1) }"),
        0, 1, 2, 3, 0, 0, 256, 768, 10, 1, "cpu",
    )  # fmt: skip
    stream = io.StringIO()
    with TrainingProgress(stream, every=0.0) as progress:
        progress.begin(plan)
        progress.step(StepReport("full", 1, 1, 3, 1, 0.5, 0.25, 0.75, 100.0, 0.1, {}))
    assert (
        "full 1/2  step 1/3  loss 0.5000 top-1 25.0% top-5 75.0% 100 images/s" in stream.getvalue()
    )
    assert " left" in stream.getvalue()
