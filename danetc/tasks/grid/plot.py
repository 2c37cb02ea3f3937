"""The results of a grid as figures, with matplotlib (``danetc[plot]``).

The lines of networks have different colors and line styles; the marker is the value on the x axis of
the lower panels.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from danetc.runtime.system.figures import STYLES, in_figure, new_figure
from danetc.tasks.grid.results import CellRow, GridResults

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_PANEL = 4.6, 3.1  # inches
_TRAINING = {"train_loss": ("training loss", 1), "train_accuracy": ("training top-1 (%)", 100)}


def across(results: GridResults, wanted: str | None) -> str | None:
    """Return the x axis of the lower panels: the wanted one; else, if it varies, the depth, an axis
    of numbers or the number of classes. Raises UserError for an unknown name.
    """
    if wanted is not None:
        results.check_name(wanted, "draw accuracies over")
        return wanted
    axes = [name for name in results.axes if name != "classes"]
    for name in ("depth", *axes, "classes"):
        values = {row.values[name] for row in results.rows}
        if len(values) > 1 and all(type(value) in (int, float) for value in values):
            return name
    return None


class _Figure:
    """A figure of the complete runs, with a column of panels for each number of classes."""

    def __init__(self, results: GridResults, x: str | None, panels: int) -> None:
        self.results = replace(results, rows=tuple(row for row in results.rows if row.scores))
        self.x = x = across(results, x)
        rows = self.results.rows
        classes = dict.fromkeys([None] if x == "classes" else [r.values["classes"] for r in rows])
        self.columns = [
            [row for row in rows if each in (None, row.values["classes"])] for each in classes
        ]
        values = [] if x is None else list(dict.fromkeys(row.values[x] for row in rows))
        names = self.results.distinguishing([*([] if x is None else [x]), "classes"])
        names = names or ["wiring" if x != "wiring" and rows[0].values["wiring"] else "network"]
        self.labels = {
            row.name: in_figure(", ".join(str(row.values[name]) for name in names)) for row in rows
        }
        self.lines = list(dict.fromkeys(self.labels.values()))
        if all(type(value) in (int, float) for value in values):
            values.sort()
        self.values = values or self.lines
        size = max(6.4, _PANEL[0] * len(classes)), panels * _PANEL[1] + 0.4
        self.figure = new_figure(*size)
        self.grid = self.figure.subplots(panels, len(classes), squeeze=False, sharey="row")
        name = in_figure(data_name(results.data))
        for axes, each in zip(self.grid[0], classes, strict=True):
            axes.set_title(name if each is None else f"{name}, {each} classes", fontsize="medium")

    def style(self, row: CellRow) -> dict[str, Any]:
        line = self.lines.index(self.labels[row.name])
        colour, dash, _ = STYLES[line % len(STYLES)]
        marker = _MARKERS[self.place(row) % len(_MARKERS)]
        return {"color": colour, "linestyle": dash, "marker": marker, "ms": 4}

    def place(self, row: CellRow) -> int:
        return self.values.index(self.labels[row.name] if self.x is None else row.values[self.x])

    def curves(self, panel: int, name: str, label: str, scale: int) -> None:
        """Draw means over the epochs in a row of panels, with bands of one standard deviation."""
        for axes, rows in zip(self.grid[panel], self.columns, strict=True):
            for row in rows:
                points, style = row.curve(name), self.style(row)
                epochs = range(1, len(points) + 1)
                mean, low, high = (
                    [scale * (value + sign * spread) for value, spread in points]
                    for sign in (0, -1, 1)
                )
                axes.plot(epochs, mean, **style, linewidth=1.1, markevery=max(1, len(mean) // 8))
                axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)
            axes.set_xlabel("epoch")
            locator = import_module("matplotlib.ticker").MaxNLocator(integer=True)
            axes.xaxis.set_major_locator(locator)
        self.grid[panel][0].set_ylabel(label)

    def scores(self, panel: int, label: str, scale: int) -> None:
        """Draw the scores over ``x``, whose values have equal distances as in the paper, or side by side."""
        for axes, rows in zip(self.grid[panel], self.columns, strict=True):
            means, spreads = (
                {row.name: scale * (getattr(row, each) or 0.0) for row in rows}
                for each in ("mean", "deviation")
            )
            for line, name in enumerate(self.lines):
                own = sorted((r for r in rows if self.labels[r.name] == name), key=self.place)
                if not own:
                    continue
                shift = 0.04 * (line - (len(self.lines) - 1) / 2)  # whiskers do not hide each other
                places = [self.place(row) + shift for row in own]
                axes.errorbar(
                    places, [means[row.name] for row in own], [spreads[row.name] for row in own],
                    capsize=3, linewidth=1.2, **{**self.style(own[0]), "marker": ""},
                )  # fmt: skip
                for row, place in zip(own, places, strict=True):
                    axes.plot(place, means[row.name], **self.style(row))
            texts = [in_figure(str(value)) for value in self.values]
            turned = {} if self.x else {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(range(len(self.values)), texts, **turned)
            axes.set_xlabel(self.x or "")
        self.grid[panel][0].set_ylabel(label)

    def finished(self) -> Any:
        """Return the figure with a legend of the lines and one of the markers."""
        handle = import_module("matplotlib.lines").Line2D
        firsts = {label: self.style(row) for row in reversed(self.results.rows)
                  for label in [self.labels[row.name]]}  # fmt: skip
        handles = [handle([], [], label=x, **{**firsts[x], "marker": ""}) for x in self.lines]
        across = max(1, 100 // (max(map(len, self.lines)) + 8))
        self.figure.legend(
            handles=handles, loc="outside upper center", fontsize="small", ncols=across
        )
        markers = [
            handle([], [], color="0.3", linestyle="", ms=5, marker=_MARKERS[place % len(_MARKERS)],
                   label=in_figure(f"{self.x} {value}"))
            for place, value in enumerate(self.values)
        ]  # fmt: skip
        if self.x is not None and len(markers) > 1:
            self.grid[0][0].legend(handles=markers, fontsize="x-small", framealpha=0.8)
        return self.figure


FIGURES = ("accuracy", "training")
"""Names of the figures, and of their files in the folder of the grid."""


def draw(results: GridResults, name: str, x: str | None = None) -> Any:
    """Draw a figure of a grid; return None if no run is complete.

    ``accuracy``: the measure over the epochs and, below, over ``x``, as in Figs. 5 to 7. ``training``: training
    loss, and accuracy if there is one, over the epochs, as in Fig. 11.
    """
    if not any(row.scores for row in results.rows):
        return None
    measure, curve = results.measure, results.over_epochs
    if name == "training":
        drawn = _Figure(results, x, len(measure.trained))
        for panel, trained in enumerate(measure.trained):
            drawn.curves(panel, trained, *_TRAINING[trained])
        return drawn.finished()
    drawn = _Figure(results, x, 2)
    last = "after the last epoch" if results.accuracy == "last" else "of the best epoch"
    drawn.curves(0, curve.curve, curve.label, curve.scale)
    drawn.scores(1, f"{measure.label}\n{last}", measure.scale)
    return drawn.finished()


def data_name(data: str) -> str:
    """Return the name of a data set for a figure, without its place on this machine."""
    kind, _, place = data.partition(":")
    kind = kind.partition(",")[0]
    known_by_place = kind in ("folder", "events", "webdataset")
    return (Path(place.partition(",")[0]).name if known_by_place else "") or kind
