"""Curves and tables of trainings, as Python functions return and notebooks show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from danetc.output.figures import percent
from danetc.output.plots import LinePanel, line_figure


def training_curves(epochs: Sequence[Mapping[str, Any]]) -> Any:
    """Loss and, where there is one, accuracy of a training over its epochs."""
    x = list(range(1, len(epochs) + 1))
    parts = ("train", "test")
    losses = {part: (x, [each[f"{part}_loss"] for each in epochs]) for part in parts}
    found = [LinePanel("epoch", "loss", losses)]
    if all(each["test_accuracy"] is not None for each in epochs):
        lines = {part: (x, [100 * each[f"{part}_accuracy"] for each in epochs]) for part in parts}
        found.append(LinePanel("epoch", "accuracy [%]", lines))
    return line_figure(found)


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
