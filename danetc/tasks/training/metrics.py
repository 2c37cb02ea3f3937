"""metrics.csv: the figures of every epoch as a table for spreadsheets, pandas and gnuplot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from danetc.runtime.training.observer import PARTS

METRICS = "metrics.csv"
FIGURES = (
    "phase", "epoch", "learning_rate", "train_loss", "train_accuracy", "train_top5",
    "test_loss", "test_accuracy", "test_top5", "seconds", "images_per_second", "skipped",
)  # fmt: skip
SCORES = ("miou", "rmse")
COLUMNS = (
    "row", *FIGURES, *(f"share_{part}" for part in PARTS), *(f"test_{name}" for name in SCORES),
)  # fmt: skip


def metrics_csv(epochs: Sequence[Mapping[str, Any]]) -> str:
    """The table of all epochs so far, one row each. ``row`` counts over all phases, from 1.

    It is made whole from what a checkpoint remembers and put in the place of the old one, not
    appended to: a run that was killed between two saves has no row twice and none missing.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, epoch in enumerate(epochs, 1):
        shares = epoch.get("shares", {})
        parts = (shares.get(part, "") for part in PARTS)
        more = (epoch.get("scores", {}).get(name, "") for name in SCORES)
        writer.writerow([number, *(epoch.get(key, "") for key in FIGURES), *parts, *more])
    return stream.getvalue()
