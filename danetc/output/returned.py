"""Results of functions of danetc: one line at a prompt, tables and figures in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from danetc.arguments import file_place
from danetc.errors import UserError, check_installed
from danetc.runtime.system.figures import STYLES, WITHOUT, can_plot, in_figure, new_figure


class Returned:
    """Base class of results, whose ``repr`` is a line with the most important numbers."""

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

    def frame(self) -> Any:
        """Return the result as a DataFrame. Raises UserError without pandas."""
        raise NotImplementedError


def frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return a DataFrame; nested entries have columns like ``a.b``. Raises UserError without pandas."""
    check_installed("a table of results", ["pandas"], "notebook")
    import pandas

    return pandas.json_normalize([dict(row) for row in rows])


def plot_place(text: str) -> Path:
    """Return the file of a figure. Raises ValueError or UserError if none could be written there."""
    path = file_place(".svg", ".png", ".pdf")(text)
    if not can_plot():
        raise UserError(WITHOUT)
    return path


CLASSES, TICKS, MOST_INSIDE = 24, 34, 8
"""Largest number of classes that a confusion matrix names, of labels on the x axis of lines, and of lines
whose legend is inside the axes."""


@dataclass(frozen=True)
class LinePanel:
    """Lines by name as (x, y) or (x, y, standard deviation of y), and their axes.

    ``ticks`` are the labels of x = 1, 2, ..., and the y axis is logarithmic with ``log``.
    """

    across: str
    up: str
    lines: Mapping[str, Sequence[Sequence[float]]]
    title: str = ""
    log: bool = False
    ticks: Sequence[str] = ()


def line_figure(panels: Sequence[LinePanel], columns: int | None = None) -> Any:
    """Return a figure of matplotlib with panels side by side, or in rows of ``columns`` panels that
    share their y axis. Raises UserError without matplotlib.
    """
    count, shared = (len(panels), "none") if columns is None else (columns, "row")
    figure = new_figure(max(6.4 if columns else 0, 3.8 * count), 3.2 * len(panels) / count)
    grid = figure.subplots(len(panels) // count, count, squeeze=False, sharey=shared)
    for axes, panel in zip(grid.flat, panels, strict=True):
        for place, (name, (x, y, *spread)) in enumerate(panel.lines.items()):
            colour, dash, _ = STYLES[place % len(STYLES)]
            *_, marker = STYLES[(place + place // len(STYLES)) % len(STYLES)]
            every = max(1, len(x) // 8)
            axes.plot(
                x, y, color=colour, linestyle=dash, marker=marker, ms=4, markevery=every,
                label=in_figure(name),
            )  # fmt: skip
            if any(map(any, spread)):
                axes.errorbar(x, y, *spread, fmt="none", ecolor=colour, capsize=3, errorevery=every)
        axes.set(title=panel.title, xlabel=panel.across, ylabel=panel.up)
        if panel.log:
            axes.set_yscale("log")
        if panel.ticks:
            step, turned = -(-len(panel.ticks) // TICKS), 60 * (max(map(len, panel.ticks)) > 8)
            axes.set_xticks(
                range(1, len(panel.ticks) + 1, step), list(map(in_figure, panel.ticks))[::step],
                rotation=turned, fontsize="x-small",
                ha="right" if turned else "center", rotation_mode="anchor",
            )  # fmt: skip
        else:
            axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        beside: dict[str, Any] = {"bbox_to_anchor": (1, 1), "loc": "upper left"}
        axes.legend(
            fontsize="x-small", framealpha=0.8, **(beside if len(panel.lines) > MOST_INSIDE else {})
        )
    return figure


def confusion_figure(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Any:
    """Return a figure of matplotlib: for each class, the shares of its images by predicted class, in
    per cent. Raises UserError without it."""
    shares = [[100 * n / max(1, sum(row)) for n in row] for row in counts]
    side = max(3.5, min(10.0, 0.9 + 0.34 * len(names)))
    figure = new_figure(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=100)
    if len(names) <= CLASSES:
        for y, row in enumerate(shares):
            for x, share in enumerate(row):
                colour = "white" if share > 50 else "black"
                text = f"{share:.0f}" if share else ""
                axes.text(x, y, text, ha="center", va="center", color=colour, fontsize="x-small")
        shown = [in_figure(name) for name in names]
        turned = 90 * (max(map(len, shown)) > 2)
        axes.set_xticks(range(len(names)), shown, rotation=turned, fontsize="x-small")
        axes.set_yticks(range(len(names)), shown, fontsize="x-small")
    axes.set(xlabel="predicted class", ylabel="true class (images in %)")
    return figure
