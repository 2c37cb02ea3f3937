"""The results of a training, printed: tables of phases and of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from danetc.output.echo import echo
from danetc.output.summary import print_table
from danetc.runtime.training.timing import PARTS
from danetc.tasks.training.progress import show_time

Row = Mapping[str, Any]
HEADS = {"communication": "comm.", "optimizer": "optim."}


def print_training(record: Mapping[str, Any]) -> None:
    """Print the record in a training.json, or in a trials.json."""
    if "trials" in record:
        _print_trials(record)
    else:
        _print_phases(record["epochs"])


def result(record: Mapping[str, Any]) -> str:
    """In a line: the accuracy, of trials their mean and sample standard deviation."""
    accuracy = f"test accuracy {record['test_accuracy']:.2%}"
    if "trials" not in record:
        return accuracy
    spread = "" if record["deviation"] is None else f" ± {record['deviation']:.2%}"
    return f"{accuracy}{spread} over {len(record['trials'])} trials"


def _print_phases(epochs: Sequence[Row]) -> None:
    heads = (
        "phase", "epochs", "time", "images/s", *(HEADS.get(part, part) for part in PARTS),
        "test loss", "top-1", "top-5", "best top-1",
    )  # fmt: skip
    rows = []
    for name, found in groupby(epochs, key=lambda epoch: epoch["phase"]):
        each = list(found)
        last = each[-1]
        best = max(each, key=lambda epoch: epoch["test_accuracy"])
        shares = mean_shares(each)
        rows.append(
            (
                name,
                str(len(each)),
                show_time(sum(epoch["seconds"] for epoch in each)),
                f"{mean_speed(each):,.0f}",
                *(f"{shares[part]:.1%}" for part in PARTS),
                f"{last['test_loss']:.4f}",
                f"{last['test_accuracy']:.2%}",
                f"{last['test_top5']:.2%}",
                f"{best['test_accuracy']:.2%} in {best['epoch']}",
            )
        )
    echo()
    print_table(heads, rows, right=set(range(1, len(heads))))
    echo("data (the wait for it), ..., optim.: shares of the training time")


def mean_shares(epochs: Sequence[Row]) -> dict[str, float]:
    """Where the time went, over several epochs by their length."""
    whole = sum(epoch["seconds"] for epoch in epochs) or 1.0
    return {
        part: sum(epoch["seconds"] * epoch["shares"].get(part, 0.0) for epoch in epochs) / whole
        for part in PARTS
    }


def mean_speed(epochs: Sequence[Row]) -> float:
    """Images a second over epochs of equally many images: their harmonic mean."""
    speeds = [epoch["images_per_second"] for epoch in epochs]
    return len(speeds) / sum(1 / speed for speed in speeds) if all(speeds) else 0.0


def _print_trials(record: Mapping[str, Any]) -> None:
    rows = [
        (str(trial["seed"]), f"{trial['test_accuracy']:.2%}", trial["directory"])
        for trial in record["trials"]
    ]
    rows.append(("mean", f"{record['test_accuracy']:.2%}", ""))
    if record["deviation"] is not None:
        rows.append(("deviation", f"{record['deviation']:.2%}", ""))
    echo()
    print_table(("seed", "top-1", "directory"), rows, right={1})
