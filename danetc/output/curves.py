"""Figures of results that Python functions return. They need matplotlib: ``danetc[plot]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from typing import Any

from danetc.errors import UserError
from danetc.output.figures import percent
from danetc.runtime.measure.plots import STYLES, WITHOUT, can_plot

Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def panels(found: Sequence[tuple[str, str, Lines]]) -> Any:
    """Panels side by side, each (x label, y label, lines by name as (x, y)). Raises UserError without
    matplotlib.
    """
    if not can_plot():
        raise UserError(WITHOUT)
    figure = import_module("matplotlib.figure").Figure(
        figsize=(3.8 * len(found), 3.2), layout="constrained"
    )
    for axes, (across, up, lines) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found, strict=True
    ):
        for place, (name, (x, y)) in enumerate(lines.items()):
            colour, dash, marker = STYLES[place % len(STYLES)]
            axes.plot(x, y, color=colour, linestyle=dash, marker=marker, ms=4, label=name)
        axes.set(xlabel=across, ylabel=up)
        axes.legend(fontsize="small")
    return figure


def training_curves(epochs: Sequence[Mapping[str, Any]]) -> Any:
    """Loss and, where there is one, accuracy of a training over its epochs."""
    x = list(range(1, len(epochs) + 1))
    parts = ("train", "test")
    found = [
        ("epoch", "loss", {part: (x, [each[f"{part}_loss"] for each in epochs]) for part in parts})
    ]
    if all(each["test_accuracy"] is not None for each in epochs):
        lines = {part: (x, [100 * each[f"{part}_accuracy"] for each in epochs]) for part in parts}
        found.append(("epoch", "accuracy [%]", lines))
    return panels(found)


def html_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table for a notebook."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_text(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def epochs_html(epochs: Sequence[Mapping[str, Any]]) -> str:
    """A row for each epoch."""
    heads = ("phase", "epoch", "train loss", "train top-1", "test loss", "test top-1")
    rows = [
        (
            each["phase"], each["epoch"], each["train_loss"], percent(each["train_accuracy"]),
            each["test_loss"], percent(each["test_accuracy"]),
        )
        for each in epochs
    ]  # fmt: skip
    return html_table(heads, rows)
