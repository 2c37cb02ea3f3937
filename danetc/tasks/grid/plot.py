"""The figures of a comparison. In the style of Figs. 5 to 7: test accuracy (or what else rows are
compared by) over the epochs, and the
result over depth or another axis; a panel for each number of classes. In that of Fig. 11:
training loss and accuracy over the epochs; a pair of panels for each network, a line for each depth.

They need matplotlib (``danetc[plot]``). Lines differ by dash, grey value and filling too, and in the
first the marker says where on the x axis a curve belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.errors import UserError
from danetc.runtime.measure.plots import STYLES, in_figure, new_figure
from danetc.tasks.grid.measures import ACCURACY, Measure
from danetc.tasks.grid.results import FACTS, CellRow, Comparison, distinguishing

_HATCHES = ("", "///", "---", "xxx", "|||", "+++")  # lines alone: dots make large files
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_PANEL = 4.6, 3.1  # inches
_SMALL = 2.9, 2.1  # those of training
_ABREAST = 4  # so many of them side by side, at most


def across(comparison: Comparison, wanted: str | None) -> str | None:
    """What the lower panels have as their x axis: what is wanted; else the depth, an axis of
    numbers, or the number of classes, where it varies; else nothing. Raises UserError.
    """
    rows = comparison.rows
    if wanted is not None:
        known = list(dict.fromkeys([*comparison.axes, *FACTS]))
        if wanted not in known:
            hint = instead(wanted, known)
            raise UserError(f"there is no `{wanted}` to draw accuracies over; {hint}")
        return wanted
    axes = [name for name in comparison.axes if name != "classes"]
    for name in ("depth", *axes, "classes"):
        values = {row.values[name] for row in rows}
        if len(values) > 1 and all(type(value) in (int, float) for value in values):
            return name
    return None


def accuracy_figure(comparison: Comparison, x: str | None = None) -> Any:
    """Test accuracy, or what numbers are compared by. None where no run is complete, so that there is
    nothing to draw.
    """
    drawn = _arrange(comparison, x)
    if drawn is None:
        return None
    x, labels, lines, values = drawn.x, drawn.labels, drawn.lines, drawn.values
    measure = comparison.measure
    figure = new_figure(max(6.4, _PANEL[0] * len(drawn.panels)), 2 * _PANEL[1] + 0.4)
    grid = figure.subplots(2, len(drawn.panels), squeeze=False, sharey="row")
    for panel, upper, lower in zip(drawn.panels, *grid, strict=True):
        inside = drawn.inside(panel)
        _curves(upper, inside, measure, labels, lines, x, values)
        if x is None:
            _bars(lower, inside, measure, labels, lines)
        else:
            _lines(lower, inside, measure, labels, lines, x, values)
        name = in_figure(data_name(comparison.data))
        title = name if panel is None else f"{name}, {panel} classes"
        upper.set_title(title, fontsize="medium")
        _chance(upper, inside, measure)
    grid[0][0].set_ylabel(measure.label)
    last = "after the last epoch" if comparison.accuracy == "last" else "of the best epoch"
    grid[1][0].set_ylabel(f"{measure.label}\n{last}")
    _legend(figure, lines, None if values else [each[2] for each in STYLES])
    _markers(grid[0][0], x, values)
    return figure


def training_figure(comparison: Comparison, x: str | None = None) -> Any:
    """Training loss, and accuracy where there is one. None where no run is complete."""
    drawn = _arrange(comparison, x)
    if drawn is None:
        return None
    rows = list(drawn.training())
    widest = max(map(len, rows))
    columns = ceil(widest / ceil(widest / _ABREAST))
    bands = [row[first : first + columns] for row in rows for first in range(0, len(row), columns)]
    shown = [name for name in _TRAINING if name in drawn.rows[0].curves]
    panels = len(shown)
    figure = new_figure(max(6.4, _SMALL[0] * columns), panels * _SMALL[1] * len(bands) + 0.5)
    grid = figure.subplots(panels * len(bands), columns, squeeze=False)
    for number, name in enumerate(shown):
        label = _TRAINING[name]
        for axes in list(grid[number::panels].flat)[1:]:
            axes.sharey(grid[number][0])
        for band, line in zip(bands, grid[number::panels], strict=True):
            line[0].set_ylabel(label)
            for axes, (title, curves) in zip(line, band, strict=False):
                for row, place in curves:
                    scale = 100 if name == "train_accuracy" else 1
                    _curve(axes, row.curve(name), place, scale, _marker(place))
                axes.set_xlabel("epoch" if name == shown[-1] else "")
                axes.set_title("" if number else title, fontsize="small")
                axes.tick_params(labelleft=axes is line[0], labelsize="small")
            for axes in line[len(band) :]:
                axes.remove()
    entries = (
        drawn.lines
        if drawn.x is None
        else [in_figure(f"{drawn.x} {value}") for value in drawn.values]
    )
    markers = [_marker(place) for place in range(len(entries))]
    _legend(figure, entries, markers, in_figure(data_name(comparison.data)))
    return figure


FIGURES: Mapping[str, Callable[[Comparison, str | None], Any]] = {
    "accuracy": accuracy_figure,
    "training": training_figure,
}
"""The figures of a comparison, by the names of their files in its folder."""


_TRAINING = {"train_loss": "training loss", "train_accuracy": "training top-1\naccuracy (%)"}


@dataclass(frozen=True)
class _Drawn:
    """What is drawn: the cells with a complete run, the label of each by name, and all labels.

    ``values`` are those on the axis ``x``; ``panels`` the numbers of classes, or None for one panel.
    """

    rows: list[CellRow]
    x: str | None
    labels: Mapping[str, str]
    lines: list[str]
    values: list[Any]
    panels: list[Any]

    def inside(self, panel: Any) -> list[CellRow]:
        return [row for row in self.rows if panel is None or row.values["classes"] == panel]

    def training(self) -> Iterator[list[tuple[str, list[tuple[CellRow, int]]]]]:
        """For each number of classes the pairs of panels: a title, and rows with their lines.

        A pair is of a label and has a line for each of ``values``; without ``x`` there is one pair.
        """
        for panel in self.panels:
            classes = f"{panel} classes" if len(self.panels) > 1 else ""
            pairs: dict[str, list[tuple[CellRow, int]]] = {}
            for row in self.inside(panel):
                label = self.labels[row.name]
                if self.x is None:
                    pairs.setdefault(classes, []).append((row, self.lines.index(label)))
                else:
                    title = ", ".join(filter(None, (label, classes)))
                    place = self.values.index(row.values[self.x])
                    pairs.setdefault(title, []).append((row, place))
            yield list(pairs.items())


def _arrange(comparison: Comparison, x: str | None) -> _Drawn | None:
    """None where no run is complete."""
    rows = [row for row in comparison.rows if row.scores]
    if not rows:
        return None
    x = across(comparison, x)
    classes = list(dict.fromkeys(row.values["classes"] for row in rows))
    given = [name for name in (x, None if x == "classes" else "classes") if name is not None]
    names = distinguishing(rows, comparison.axes, given)
    labels = {row.name: in_figure(_label(row, names, x)) for row in rows}
    lines = list(dict.fromkeys(labels.values()))
    values = list(dict.fromkeys(row.values[x] for row in rows)) if x is not None else []
    if all(type(value) in (int, float) for value in values):
        values.sort()
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


def _curves(
    axes: Any,
    rows: Sequence[CellRow],
    measure: Measure,
    labels: Mapping[str, str],
    lines: Sequence[str],
    x: str | None,
    values: Sequence[Any],
) -> None:
    """The mean over the seeds after each epoch, one deviation around it as a band."""
    for row in rows:
        place = lines.index(labels[row.name])
        marker = None if x is None else _marker(values.index(row.values[x]))
        _curve(axes, row.curve(measure.curve), place, measure.scale, marker)
    axes.set_xlabel("epoch")


def _curve(
    axes: Any,
    points: Sequence[tuple[float, float]],
    place: int,
    scale: float,
    marker: str | None = None,
) -> None:
    """Means over the epochs with a band of one deviation, in the style of the how many-th line."""
    colour, dash, usual = STYLES[place % len(STYLES)]
    mean = [scale * point[0] for point in points]
    epochs = range(1, len(mean) + 1)
    axes.plot(
        epochs, mean, color=colour, linestyle=dash, linewidth=1.1, marker=marker or usual, ms=4,
        markerfacecolor=_fill(place, colour), markevery=max(1, len(mean) // 8),
    )  # fmt: skip
    low = [scale * (value - spread) for value, spread in points]
    high = [scale * (value + spread) for value, spread in points]
    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(integer=True))


def _lines(
    axes: Any,
    rows: Sequence[CellRow],
    measure: Measure,
    labels: Mapping[str, str],
    lines: Sequence[str],
    x: str,
    values: Sequence[Any],
) -> None:
    """A line for each label over ``x``, whose values stand at equal distances as in the paper."""
    for place, label in enumerate(lines):
        colour, dash, _ = STYLES[place % len(STYLES)]
        found = sorted(
            (row for row in rows if labels[row.name] == label),
            key=lambda row: values.index(row.values[x]),
        )
        shift = 0.04 * (place - (len(lines) - 1) / 2)  # so that whiskers stand side by side
        places = [values.index(row.values[x]) for row in found]
        means = [measure.scale * (row.mean or 0.0) for row in found]
        axes.errorbar(
            [each + shift for each in places], means,
            [measure.scale * (row.deviation or 0.0) for row in found],
            color=colour, linestyle=dash, linewidth=1.2, capsize=3,
        )  # fmt: skip
        for each, mean in zip(places, means, strict=True):
            axes.plot(
                each + shift, mean, color=colour, marker=_marker(each), ms=5,
                markerfacecolor=_fill(place, colour),
            )  # fmt: skip
    axes.set_xticks(range(len(values)), [in_figure(str(value)) for value in values])
    axes.set_xlim(-0.3, len(values) - 0.7)
    axes.set_xlabel(x)
    _chance(axes, rows, measure)


def _bars(
    axes: Any,
    rows: Sequence[CellRow],
    measure: Measure,
    labels: Mapping[str, str],
    lines: Sequence[str],
) -> None:
    """A bar for each cell, its deviation as a whisker."""
    for number, row in enumerate(rows):
        place = lines.index(labels[row.name])
        mean = measure.scale * (row.mean or 0.0)
        spread = measure.scale * (row.deviation or 0.0)
        axes.bar(
            number, mean, 0.7, yerr=spread, capsize=3, color="white",
            edgecolor=STYLES[place % len(STYLES)][0], hatch=_HATCHES[place % len(_HATCHES)],
        )  # fmt: skip
        axes.annotate(
            f"{mean:.1f}" if measure.scale > 1 else f"{mean:.3g}", (number, mean + spread), (0, 2), textcoords="offset points",
            ha="center", fontsize="small",
        )  # fmt: skip
    axes.set_xticks(
        range(len(rows)), [labels[row.name] for row in rows],
        rotation=20, ha="right", rotation_mode="anchor", fontsize="small",
    )  # fmt: skip
    axes.margins(y=0.12)


def _marker(place: int) -> str:
    return _MARKERS[place % len(_MARKERS)]


def _fill(place: int, colour: str) -> str:
    """Every other line has hollow markers."""
    return "white" if place % 2 else colour


def _chance(axes: Any, rows: Sequence[CellRow], measure: Measure) -> None:
    """Where guessing is, if a network is near it."""
    if measure is not ACCURACY:
        return
    least = min(100 / row.values["classes"] for row in rows)
    if min(row.mean or 0.0 for row in rows) * 100 < 2 * least:
        axes.axhline(least, color="0.5", linewidth=0.8, linestyle=":")


def _legend(
    figure: Any, lines: Sequence[str], markers: Sequence[str] | None, title: str = ""
) -> None:
    """What lines say, without markers where these say another thing."""
    make = import_module("matplotlib.lines").Line2D
    handles = []
    for place, label in enumerate(lines):
        colour, dash, _ = STYLES[place % len(STYLES)]
        marker = markers[place % len(markers)] if markers else ""
        handles.append(
            make(
                [], [], color=colour, linestyle=dash, label=label, ms=4, marker=marker,
                markerfacecolor=_fill(place, colour),
            )
        )  # fmt: skip
    widest = max(map(len, lines))
    figure.legend(
        handles=handles, loc="outside upper center", fontsize="small", title=title,
        ncols=max(1, min(len(lines), 100 // (widest + 8))),
    )  # fmt: skip


def _markers(axes: Any, x: str | None, values: Sequence[Any]) -> None:
    """What markers say in the curves."""
    if len(values) < 2:
        return
    make = import_module("matplotlib.lines").Line2D
    markers = [
        make([], [], color="0.3", linestyle="", marker=_marker(place), ms=5,
             label=in_figure(f"{x} {value}"))
        for place, value in enumerate(values)
    ]  # fmt: skip
    axes.legend(handles=markers, fontsize="x-small", loc="best", framealpha=0.8)


def data_name(data: str) -> str:
    """What a figure calls a data set: not where it lies on this machine."""
    kind, _, place = data.partition(":")
    name, colon, _ = place.partition(":")
    if kind == "events" and colon:  # a data set of that name
        return name
    known_by_place = kind in ("folder", "events", "webdataset")
    return (Path(place.partition(",")[0]).name if known_by_place else "") or kind
