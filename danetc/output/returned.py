"""What functions of danetc return: a line at a prompt, tables and figures in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from danetc.errors import UserError
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

    def _repr_html_(self) -> str | None:
        """Return the table for a notebook, None without pandas."""
        try:
            return cast(str, self.frame().to_html(index=False))
        except UserError:
            return None

    def frame(self) -> pandas.DataFrame:
        """Return the result as a table."""
        raise NotImplementedError


def frame(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return a table of pandas; the entries of a mapping in a row have columns like ``distribution.mean``.

    Raises UserError without pandas.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError("tables of results need pandas: pip install 'danetc[notebook]'") from error
    return pandas.json_normalize([dict(row) for row in rows])


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
