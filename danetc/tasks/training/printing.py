"""Printed results of a training: tables of phases and of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from danetc.output.echo import echo
from danetc.output.figures import NAMES, percent, score, scores
from danetc.output.table import print_table
from danetc.runtime.training.observer import PARTS
from danetc.tasks.training.progress import show_time

Row = Mapping[str, Any]
HEADS = {"communication": "comm.", "optimizer": "optim."}


def print_training(record: Mapping[str, Any]) -> None:
    """Print the results of a training, or of several trials."""
    if "trials" in record:
        _print_trials(record)
    else:
        _print_phases(record["epochs"])


def result(record: Mapping[str, Any]) -> str:
    """Return a line with the accuracy; for trials, their mean and sample standard deviation."""
    if record["test_accuracy"] is None:
        if "trials" in record:
            return f"{len(record['trials'])} trials"
        last = record["epochs"][-1]
        return f"test loss {last['test_loss']:.4f}, {scores(last['scores'])}"
    accuracy = f"test accuracy {percent(record['test_accuracy'])}"
    if record.get("epochs") and record["epochs"][-1].get("scores"):
        accuracy += f", {scores(record['epochs'][-1]['scores'])}"
    if "trials" not in record:
        return accuracy
    spread = "" if record["deviation"] is None else f" ± {record['deviation']:.2%}"
    return f"{accuracy}{spread} over {len(record['trials'])} trials"


def _print_phases(epochs: Sequence[Row]) -> None:
    more = epochs[-1].get("scores", {})
    heads = (
        "phase", "epochs", "time", "images/s", *(HEADS.get(part, part) for part in PARTS),
        "test loss", "top-1", "top-5", "best top-1", *(NAMES[name] for name in more),
    )  # fmt: skip
    rows = []
    for name, found in groupby(epochs, key=lambda epoch: epoch["phase"]):
        each = list(found)
        last = each[-1]
        best = max(each, key=quality)
        shares, more = mean_shares(each), last.get("scores", {})
        rows.append(
            (
                name,
                str(len(each)),
                show_time(sum(epoch["seconds"] for epoch in each)),
                f"{mean_speed(each):,.0f}",
                *(f"{shares[part]:.1%}" for part in PARTS),
                f"{last['test_loss']:.4f}",
                percent(last["test_accuracy"]),
                percent(last["test_top5"]),
                f"{percent(best['test_accuracy'])} in {best['epoch']}",
                *(score(name, value) for name, value in more.items()),
            )
        )
    echo()
    print_table(heads, rows, right=set(range(1, len(heads))))
    echo("data (the wait for it), ..., optim.: shares of the training time")


def quality(epoch: Row) -> float:
    """Return the test accuracy of an epoch, or the negative test loss if there is no accuracy."""
    accuracy = epoch["test_accuracy"]
    return float(-epoch["test_loss"] if accuracy is None else accuracy)


def mean_shares(epochs: Sequence[Row]) -> dict[str, float]:
    """Return the shares of time of several epochs, weighted by their length."""
    whole = sum(epoch["seconds"] for epoch in epochs) or 1.0
    return {
        part: sum(epoch["seconds"] * epoch["shares"].get(part, 0.0) for epoch in epochs) / whole
        for part in PARTS
    }


def mean_speed(epochs: Sequence[Row]) -> float:
    """Return the harmonic mean of the speeds of epochs, which have the same number of images."""
    speeds = [epoch["images_per_second"] for epoch in epochs]
    return len(speeds) / sum(1 / speed for speed in speeds) if all(speeds) else 0.0


def _print_trials(record: Mapping[str, Any]) -> None:
    rows = [
        (str(trial["seed"]), percent(trial["test_accuracy"]), trial["directory"])
        for trial in record["trials"]
    ]
    rows.append(("mean", percent(record["test_accuracy"]), ""))
    if record["deviation"] is not None:
        rows.append(("deviation", f"{record['deviation']:.2%}", ""))
    echo()
    print_table(("seed", "top-1", "directory"), rows, right={1})
