"""metrics.csv, and the tables and figures at the end."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from danetc.commands.trainings import print_conversion
from danetc.errors import UserError
from danetc.requests import ConversionRequest
from danetc.runtime.training.observer import PhasePlan, StepReport
from danetc.tasks.converting import Converted
from danetc.tasks.evaluate import Evaluated, Figures
from danetc.tasks.training.directory import metrics_csv
from danetc.tasks.training.progress import TrainingProgress, print_trials
from danetc.tasks.training.progress import result as training_result
from danetc.tasks.training.train import Training

from .test_train import phase


def test_values_with_commas_stay_in_their_column() -> None:
    text = metrics_csv([{"phase": 'a,"b"', "epoch": 1, "shares": {"data": 0.5}}])
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["phase"], row["share_data"], row["test_loss"]) == ('a,"b"', "0.5", "")


def test_long_epochs_tell_how_far_they_are_where_there_is_no_terminal() -> None:
    plan = PhasePlan(phase("recipe full { epochs = 2; optimizer = sgd(lr = 0.1) }"), 3)
    stream = io.StringIO()
    with TrainingProgress(stream, every=0.0) as progress:
        progress.on_phase_start(plan)
        progress.on_step_end(StepReport("full", 1, 1, 3, 1, 0.5, 0.25, 0.75, 100.0, 0.1, {}))
    assert (
        "full 1/2  step 1/3  loss 0.5000 top-1 25.0% top-5 75.0% 100 images/s" in stream.getvalue()
    )
    assert " left" in stream.getvalue()


ROW: dict[str, Any] = {
    "phase": "one", "train_loss": 2.0, "train_accuracy": 0.25, "test_loss": 1.5,
    "test_accuracy": 0.5, "scores": {},
}  # fmt: skip
VALIDATED: dict[str, Any] = {"val_loss": 1.0, "val_accuracy": 0.75, "val_scores": {}}
PIXELS, NUMBERS = {"miou": 0.412}, {"rmse": 0.125}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"test_accuracy": 0.5, "epochs": [ROW]}, "test accuracy 50.00%"),
        (
            {"test_accuracy": 0.5, "epochs": [{**ROW, "scores": PIXELS}]},
            "test accuracy 50.00%, mIoU 41.20%",
        ),
        (
            {"test_accuracy": None, "epochs": [{**ROW, "test_accuracy": None, "scores": NUMBERS}]},
            "test loss 1.5000, RMSE 0.125",
        ),
        (
            {"test_accuracy": 0.5, "epochs": [{**ROW, **VALIDATED}]},
            "test accuracy 50.00%; val accuracy 75.00%",
        ),
        (
            {"test_accuracy": None, "epochs": [{**ROW, **VALIDATED, "test_loss": None}]},
            "val accuracy 75.00%",
        ),
        ({"test_accuracy": None, "trials": [{}, {}]}, "2 trials"),
        (
            {"test_accuracy": 0.5, "deviation": 0.0125, "trials": [{}, {}]},
            "test accuracy 50.00% ± 1.25% over 2 trials",
        ),
        (
            {"test_accuracy": 0.5, "deviation": None, "trials": [{}]},
            "test accuracy 50.00% over 1 trials",
        ),
    ],
)
def test_a_training_in_a_line(record: dict[str, Any], told: str) -> None:
    assert training_result(record) == told
    done = f"{len(record['epochs'])} epochs, " if "epochs" in record else ""
    assert repr(Training(Path("r"), record, ())) == f"<Training: r: {done}{told}>"


def test_results_have_tables_and_figures() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    epochs = [{**ROW, "epoch": n, "test_accuracy": n / 4, "test_loss": 1 / n} for n in (1, 2, 3)]
    whole = Training(Path("r"), {"test_accuracy": 0.75, "epochs": epochs}, (), stopped=True)
    assert repr(whole).endswith("75.00%, stopped>")
    assert list(whole.frame()["test_loss"]) == [1, 1 / 2, 1 / 3]
    loss, accuracy = whole.figure().axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.0] * 3, [1, 1 / 2, 1 / 3]]
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[25.0] * 3, [25, 50, 75]]
    assert "<td>0.500000</td>" in str(whole._repr_html_())
    numbers = [{**each, "test_accuracy": None, "train_accuracy": None} for each in epochs]
    of_numbers = Training(Path("r"), {"test_accuracy": None, "epochs": numbers}, ())
    assert len(of_numbers.figure().axes) == 1
    early = Training(Path("r"), {"test_accuracy": None, "epochs": []}, ())
    assert repr(early) == "<Training: r: 0 epochs, no test yet>"
    trials = [{"seed": seed, "test_accuracy": seed / 10, "directory": "d"} for seed in (5, 6)]
    several = Training(Path("r"), {"test_accuracy": 0.55, "deviation": 0.1, "trials": trials}, ())
    assert list(several.frame()["seed"]) == [5, 6]
    with pytest.raises(UserError, match="holds trials, whose curves are in"):
        several.figure()


def test_a_table_of_trials(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [{"seed": seed, "test_accuracy": seed / 10, "directory": "d"} for seed in (5, 6)]
    record: dict[str, Any] = {"test_accuracy": 0.55, "deviation": 0.0707, "trials": trials}
    print_trials(record)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if "%" in "".join(line)] == [
        ["5", "50.00%", "d"], ["6", "60.00%", "d"], ["mean", "55.00%"], ["deviation", "7.07%"],
    ]  # fmt: skip
    print_trials({**record, "deviation": None, "trials": trials[:1]})
    assert "deviation" not in capsys.readouterr().out


def test_a_conversion_prints_the_ann_and_each_t(capsys: pytest.CaptureFixture[str]) -> None:
    at = [Figures(steps, 10, 0.5 / steps, 0.25 * steps, 1.0, 0, 1.0) for steps in (1, 2)]
    print_conversion(
        Converted(
            Path("out"), "ann", ConversionRequest(Path("ann")), "net", "digits",
            Figures(1, 1234, 0.125, 0.75, 1.0, 0, 1.0), tuple(at), {},
        )
    )  # fmt: skip
    first, *rows, last = capsys.readouterr().out.splitlines()
    assert first == "net: 1,234 images of digits (test)"
    assert [row.split() for row in rows if "%" in row] == [
        ["ReLU", "75.00%", "0.1250"], ["1", "25.00%", "0.5000"], ["2", "50.00%", "0.2500"],
    ]  # fmt: skip
    assert last == "written to out"


def test_evaluations_have_tables_and_figures() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    at = [Figures(steps, 10, 0.5 / steps, 0.25 * steps, 1.0, 0, 1.0) for steps in (1, 2)]
    how: dict[str, Any] = {
        "directory": Path("r"), "data": "digits", "split": "test", "network": "net",
        "trained_steps": 2, "checkpoint": None, "conditions": {}, "described": "", "unlike_training": None,
    }  # fmt: skip
    found = Evaluated(**how, results=tuple(at), over_time=(at[0],))
    assert repr(found) == "<Evaluated: net on digits (test): T = 1: 25.00%, T = 2: 50.00%>"
    assert list(found.frame()["top1"]) == [0.25, 0.5]
    (axes,) = found.figure().axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        "a run at T": [25, 50],
        "mean of the first T steps": [25],
    }
    assert axes.get_ylabel() == "top-1 accuracy [%]"
    assert found.as_dict()["unlike_training"] == []
    numbers = Figures(2, 10, 0.5, None, None, 0, 1.0, NUMBERS)
    of_numbers = Evaluated(**how, results=(), over_time=(numbers,))
    assert repr(of_numbers).endswith(": T = 2: RMSE 0.125>")
    (axes,) = of_numbers.figure().axes
    assert (axes.get_ylabel(), list(axes.lines[0].get_ydata())) == ("loss", [0.5])
    assert list(of_numbers.frame()["steps"]) == [2]
