"""What functions of danetc return: a line at a prompt, tables and figures in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from danetc.dsl.diagnostics.visible import visible
from danetc.errors import UserError
from danetc.output.figures import percent
from danetc.output.plots import LinePanel, line_figure

if TYPE_CHECKING:
    import pandas


class Returned:
    """A result with tables and figures, whose ``repr`` is a line with the most important figures."""

    __slots__ = ()

    def _line(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._line()}>"


def frame(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return a table of pandas; the entries of a mapping in a row have columns like ``distribution.mean``.

    Raises UserError without pandas.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError("tables of results need pandas: pip install 'danetc[notebook]'") from error
    return pandas.json_normalize([dict(row) for row in rows])


def html_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table for a notebook."""

    def text(value: object) -> str:
        return escape(f"{value:.4f}" if isinstance(value, float) else visible(str(value)))

    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def epochs_html(epochs: Sequence[Mapping[str, Any]]) -> str:
    """Return a table for a notebook with a row for each epoch."""
    heads = ("phase", "epoch", "train loss", "train top-1", "test loss", "test top-1")
    rows = [
        (
            each["phase"], each["epoch"], each["train_loss"], percent(each["train_accuracy"]),
            each["test_loss"], percent(each["test_accuracy"]),
        )
        for each in epochs
    ]  # fmt: skip
    return html_table(heads, rows)


def training_curves(epochs: Sequence[Mapping[str, Any]]) -> Any:
    """Return a figure of the loss and, if there is one, the accuracy of a training over its epochs."""
    x = list(range(1, len(epochs) + 1))
    parts = ("train", "test")
    losses = {part: (x, [each[f"{part}_loss"] for each in epochs]) for part in parts}
    found = [LinePanel("epoch", "loss", losses)]
    if all(each["test_accuracy"] is not None for each in epochs):
        lines = {part: (x, [100 * each[f"{part}_accuracy"] for each in epochs]) for part in parts}
        found.append(LinePanel("epoch", "accuracy [%]", lines))
    return line_figure(found)
