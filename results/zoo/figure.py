"""Test accuracy by epoch of the zoo's networks that were trained: ``python results/zoo/figure.py``."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

HERE = Path(__file__).parent
SHOWN = {
    "small_psn": ("PSN, T = 4", "-", "o"),
    "small_srnn": ("recurrent, T = 14 rows", "--", "s"),
}


def main() -> None:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    for name, (label, line, marker) in SHOWN.items():
        rows = list(csv.DictReader((HERE / f"{name}.csv").open()))
        epochs = [int(row["epoch"]) for row in rows]
        accuracy = [100 * float(row["test_accuracy"]) for row in rows]
        axes.plot(epochs, accuracy, line, marker=marker, label=f"{label}: {accuracy[-1]:.1f} %")
    axes.set(xlabel="epoch", ylabel="test accuracy in %")
    axes.grid(alpha=0.3)
    axes.legend()
    with mpl.rc_context({"svg.hashsalt": "zoo"}):
        figure.savefig(HERE / "trained.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
