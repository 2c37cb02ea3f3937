"""The results of a grid as figures, with matplotlib (``danetc[plot]``).

The lines have different colors, line styles and markers. In the figure of accuracy, the marker of a
curve is its value on the x axis of the lower panels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from danetc.runtime.system.figures import STYLES, in_figure, new_figure
from danetc.tasks.grid.results import ACCURACY, CellRow, GridResults, Measure

_HATCHES = ("", "///", "---", "xxx", "|||", "+++")  # dots would make the file large
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_PANEL = 4.6, 3.1  # inches
_SMALL = 2.9, 2.1  # panels of the training, at most _ABREAST side by side
_ABREAST = 4
_TRAINING = {"train_loss": "training loss", "train_accuracy": "training top-1\naccuracy (%)"}


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


class _Drawn(NamedTuple):
    """Arrangement of a figure.

    Attributes:
        rows: Cells with a complete run.
        x: Name of the x axis.
        labels: Label of each cell by its name.
        lines: Labels without duplicates, in order.
        values: Values on the x axis.
        panels: Number of classes of each panel, or None for a single panel.
    """

    rows: list[CellRow]
    x: str | None
    labels: Mapping[str, str]
    lines: list[str]
    values: list[Any]
    panels: list[Any]

    def inside(self, panel: Any) -> list[CellRow]:
        return [row for row in self.rows if panel is None or row.values["classes"] == panel]

    def place(self, row: CellRow) -> int:
        return self.values.index(row.values[self.x or ""])

    @property
    def x_texts(self) -> list[str]:
        return [in_figure(f"{self.x} {value}") for value in self.values]


def _arrange(results: GridResults, x: str | None) -> _Drawn | None:
    """Return None if no run is complete."""
    rows = [row for row in results.rows if row.scores]
    if not rows:
        return None
    x = across(results, x)
    classes = list(dict.fromkeys(row.values["classes"] for row in rows))
    given = list(dict.fromkeys(([] if x is None else [x]) + ["classes"]))
    names = replace(results, rows=tuple(rows)).distinguishing(given)
    labels = {row.name: in_figure(_label(row, names, x)) for row in rows}
    values = [] if x is None else list(dict.fromkeys(row.values[x] for row in rows))
    if all(type(value) in (int, float) for value in values):
        values.sort()
    lines = list(dict.fromkeys(labels.values()))
    return _Drawn(rows, x, labels, lines, values, [None] if x == "classes" else classes)


def _label(row: CellRow, names: Sequence[str], x: str | None) -> str:
    if not names:
        same = x in ("connection", "rule", "wiring", "network")
        return str(row.values["network" if x is None else "recipe" if same else "wiring"])
    shown = ("network", "wiring", "connection", "rule", "recipe", "stages", "neuron")
    return ", ".join(
        str(row.values[name]) if name in shown else f"{name} = {row.values[name]}"
        for name in sorted(names, key=lambda name: name != "wiring")
    )


def accuracy_figure(results: GridResults, x: str | None = None) -> Any:
    """Draw the measure over the epochs and, below, over ``x``, as in Figs. 5 to 7; a panel for each
    number of classes. Return None if no run is complete.
    """
    drawn = _arrange(results, x)
    if drawn is None:
        return None
    measure, name = results.measure, in_figure(data_name(results.data))
    figure = new_figure(max(6.4, _PANEL[0] * len(drawn.panels)), 2 * _PANEL[1] + 0.4)
    grid = figure.subplots(2, len(drawn.panels), squeeze=False, sharey="row")
    for panel, upper, lower in zip(drawn.panels, *grid, strict=True):
        rows = drawn.inside(panel)
        for row in rows:
            marker = None if drawn.x is None else drawn.place(row)
            line = drawn.lines.index(drawn.labels[row.name])
            _curve(upper, row.curve(measure.curve), line, measure.scale, marker)
        upper.set_xlabel("epoch")
        upper.set_title(name if panel is None else f"{name}, {panel} classes", fontsize="medium")
        _chance(upper, rows, measure)
        if drawn.x is None:
            _bars(lower, rows, measure, drawn)
        else:
            _lines(lower, rows, measure, drawn)
    grid[0][0].set_ylabel(measure.label)
    last = "after the last epoch" if results.accuracy == "last" else "of the best epoch"
    grid[1][0].set_ylabel(f"{measure.label}\n{last}")
    _legend(figure, drawn.lines, None if drawn.values else [marker for *_, marker in STYLES])
    if len(drawn.values) > 1:
        handles = [
            _handle(text, color="0.3", linestyle="", marker=_marker(place), ms=5)
            for place, text in enumerate(drawn.x_texts)
        ]
        grid[0][0].legend(handles=handles, fontsize="x-small", loc="best", framealpha=0.8)
    return figure


def training_figure(results: GridResults, x: str | None = None) -> Any:
    """Draw training loss, and accuracy if there is one, over the epochs, as in Fig. 11: a pair of
    panels for each network, a line for each value of ``x``. Return None if no run is complete.
    """
    drawn = _arrange(results, x)
    if drawn is None:
        return None
    pairs = [_pairs(drawn, panel) for panel in drawn.panels]
    widest = max(map(len, pairs))
    columns = ceil(widest / ceil(widest / _ABREAST))
    bands = [
        list(each.items())[first : first + columns]
        for each in pairs
        for first in range(0, len(each), columns)
    ]
    shown = [name for name in _TRAINING if name in drawn.rows[0].curves]
    height = len(shown) * _SMALL[1] * len(bands) + 0.5
    figure = new_figure(max(6.4, _SMALL[0] * columns), height)
    grid = figure.subplots(len(shown) * len(bands), columns, squeeze=False)
    for number, name in enumerate(shown):
        panels = grid[number :: len(shown)]
        for axes in list(panels.flat)[1:]:
            axes.sharey(panels[0][0])
        for band, line in zip(bands, panels, strict=True):
            line[0].set_ylabel(_TRAINING[name])
            for axes, (title, curves) in zip(line, band, strict=False):
                for row, place in curves:
                    scale = 100 if name == "train_accuracy" else 1
                    _curve(axes, row.curve(name), place, scale, place)
                axes.set_xlabel("epoch" if name == shown[-1] else "")
                axes.set_title("" if number else title, fontsize="small")
                axes.tick_params(labelleft=axes is line[0], labelsize="small")
            for axes in line[len(band) :]:
                axes.remove()
    entries = drawn.x_texts or drawn.lines
    markers = [_marker(place) for place in range(len(entries))]
    _legend(figure, entries, markers, in_figure(data_name(results.data)))
    return figure


FIGURES: Mapping[str, Callable[[GridResults, str | None], Any]] = {
    "accuracy": accuracy_figure,
    "training": training_figure,
}
"""The figures, by the names of their files in the folder of the grid."""


def _pairs(drawn: _Drawn, panel: Any) -> dict[str, list[tuple[CellRow, int]]]:
    """Return by title the rows of each pair of panels, and the places of their lines.

    With ``x`` there is a pair for each label and a line for each value, without it one pair.
    """
    classes = f"{panel} classes" if len(drawn.panels) > 1 else ""
    found: dict[str, list[tuple[CellRow, int]]] = {}
    for row in drawn.inside(panel):
        label = drawn.labels[row.name]
        if drawn.x is None:
            found.setdefault(classes, []).append((row, drawn.lines.index(label)))
        else:
            title = ", ".join(filter(None, (label, classes)))
            found.setdefault(title, []).append((row, drawn.place(row)))
    return found


def _marker(place: int) -> str:
    return _MARKERS[place % len(_MARKERS)]


def _style(line: int, marker: str) -> dict[str, Any]:
    colour, dash, _ = STYLES[line % len(STYLES)]
    hollow = "white" if line % 2 else colour
    return {"color": colour, "linestyle": dash, "marker": marker, "markerfacecolor": hollow}


def _curve(
    axes: Any,
    points: Sequence[tuple[float, float]],
    line: int,
    scale: float,
    marker: int | None,
) -> None:
    """Plot the mean over the epochs, with a band of one standard deviation."""
    style = _style(line, STYLES[line % len(STYLES)][2] if marker is None else _marker(marker))
    mean = [scale * value for value, _ in points]
    epochs = range(1, len(mean) + 1)
    axes.plot(epochs, mean, **style, linewidth=1.1, ms=4, markevery=max(1, len(mean) // 8))
    low = [scale * (value - spread) for value, spread in points]
    high = [scale * (value + spread) for value, spread in points]
    axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(integer=True))


def _lines(axes: Any, rows: Sequence[CellRow], measure: Measure, drawn: _Drawn) -> None:
    """Draw a line for each label over ``x``, whose values have equal distances as in the paper."""
    for line, label in enumerate(drawn.lines):
        found = sorted((row for row in rows if drawn.labels[row.name] == label), key=drawn.place)
        shift = 0.04 * (line - (len(drawn.lines) - 1) / 2)  # whiskers do not hide each other
        means = [measure.scale * (row.mean or 0.0) for row in found]
        style = _style(line, "")
        axes.errorbar(
            [drawn.place(row) + shift for row in found], means,
            [measure.scale * (row.deviation or 0.0) for row in found],
            color=style["color"], linestyle=style["linestyle"], linewidth=1.2, capsize=3,
        )  # fmt: skip
        for row, mean in zip(found, means, strict=True):
            place = drawn.place(row)
            axes.plot(place + shift, mean, **_style(line, _marker(place)), ms=5)
    axes.set_xticks(range(len(drawn.values)), [in_figure(str(value)) for value in drawn.values])
    axes.set_xlim(-0.3, len(drawn.values) - 0.7)
    axes.set_xlabel(drawn.x)
    _chance(axes, rows, measure)


def _bars(axes: Any, rows: Sequence[CellRow], measure: Measure, drawn: _Drawn) -> None:
    """Draw a bar for each cell, its deviation as a whisker."""
    labels = [drawn.labels[row.name] for row in rows]
    lines = [drawn.lines.index(label) for label in labels]
    means = [measure.scale * (row.mean or 0.0) for row in rows]
    bars = axes.bar(
        range(len(rows)), means, 0.7, color="white", capsize=3,
        yerr=[measure.scale * (row.deviation or 0.0) for row in rows],
        edgecolor=[STYLES[line % len(STYLES)][0] for line in lines],
        hatch=[_HATCHES[line % len(_HATCHES)] for line in lines],
    )  # fmt: skip
    form = "{:.1f}" if measure.scale > 1 else "{:.3g}"
    axes.bar_label(bars, [form.format(mean) for mean in means], padding=2, fontsize="small")
    axes.set_xticks(
        range(len(rows)), labels, rotation=20, ha="right", rotation_mode="anchor", fontsize="small"
    )
    axes.margins(y=0.12)


def _chance(axes: Any, rows: Sequence[CellRow], measure: Measure) -> None:
    """Draw the accuracy of guessing, if a network is near it."""
    least = min(100 / row.values["classes"] for row in rows)
    if measure is ACCURACY and min(row.mean or 0.0 for row in rows) * 100 < 2 * least:
        axes.axhline(least, color="0.5", linewidth=0.8, linestyle=":")


def _handle(label: str, **style: Any) -> Any:
    return import_module("matplotlib.lines").Line2D([], [], label=label, **style)


def _legend(
    figure: Any, lines: Sequence[str], markers: Sequence[str] | None, title: str = ""
) -> None:
    """Explain the lines; without markers if these mean something else."""
    handles = [
        _handle(label, **_style(place, markers[place % len(markers)] if markers else ""), ms=4)
        for place, label in enumerate(lines)
    ]
    figure.legend(
        handles=handles, loc="outside upper center", fontsize="small", title=title,
        ncols=max(1, min(len(lines), 100 // (max(map(len, lines)) + 8))),
    )  # fmt: skip


def data_name(data: str) -> str:
    """Return the name of a data set for a figure, without its place on this machine."""
    kind, _, place = data.partition(":")
    name, colon, _ = place.partition(":")
    if kind == "events" and colon:  # a data set of that name
        return name
    known_by_place = kind in ("folder", "events", "webdataset")
    return (Path(place.partition(",")[0]).name if known_by_place else "") or kind
