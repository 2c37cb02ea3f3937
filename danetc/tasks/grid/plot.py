"""The results of a grid as figures, with matplotlib (``danetc[plot]``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from danetc.output.returned import LinePanel, line_figure
from danetc.tasks.grid.results import CellRow, GridResults

FIGURES = ("accuracy", "training")
"""Names of the figures, and of their files in the folder of the grid."""
_TRAINING = {"train_loss": ("training loss", 1), "train_accuracy": ("training top-1 %", 100)}


def across(results: GridResults, wanted: str | None) -> str | None:
    """Return the x axis of the scores: the wanted one, or else the first of these that varies: the
    depth, a numeric axis, the number of classes. Raises UserError for an unknown name.
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


def draw(results: GridResults, name: str, x: str | None = None) -> Any:
    """Draw a figure of a grid, with a column for each number of classes; None if no run is complete.

    ``accuracy`` is the measure over the epochs and, below, over ``x``, as in Figs. 5 to 7.
    ``training`` is the training loss, and the accuracy if there is one, over the epochs, as in Fig. 11.
    """
    rows = [row for row in results.rows if row.scores]
    if not rows:
        return None
    x, data = across(results, x), data_name(results.data)
    columns: dict[str, list[CellRow]] = {}
    for row in rows:
        title = data if x == "classes" else f"{data}, {row.values['classes']} classes"
        columns.setdefault(title, []).append(row)
    measure, curve = results.measure, results.over_epochs
    curves = {curve.curve: (curve.head, curve.scale)}
    if name == "training":
        curves = {each: _TRAINING[each] for each in measure.trained}
    labels, panels = _labels(results, rows, ["classes"]), []
    for number, (key, (up, scale)) in enumerate(curves.items()):
        for title, own in columns.items():
            lines: dict[str, list[list[float]]] = {}
            for row in own:
                points = [(scale * mean, scale * spread) for mean, spread in row.curve(key)]
                epochs: list[float] = [*range(1, len(points) + 1)]
                lines[labels[row.name]] = [epochs, *map(list, zip(*points, strict=True))]
            panels.append(LinePanel("epoch", up, lines, "" if number else title))
    if name == "accuracy":
        last = "after the last epoch" if results.accuracy == "last" else "of the best epoch"
        if x is not None:
            labels = _labels(results, rows, [x, "classes"])
        places = {row.name: labels[row.name] if x is None else row.values[x] for row in rows}
        values = list(dict.fromkeys(places.values()))
        if all(type(value) in (int, float) for value in values):
            values.sort()
        for own in columns.values():
            lines = {labels[row.name]: [[], [], []] for row in own}
            for row in sorted(own, key=lambda row: values.index(places[row.name])):
                xs, means, spreads = lines[labels[row.name]]
                xs.append(values.index(places[row.name]) + 1)
                means.append(measure.scale * fmean(row.scores.values()))
                spreads.append(measure.scale * (row.deviation or 0.0))
            ticks = tuple(map(str, values))
            panels.append(LinePanel(x or "", f"{measure.head}\n{last}", lines, ticks=ticks))
    return line_figure(panels, len(columns))


def _labels(results: GridResults, rows: Sequence[CellRow], given: Sequence[str]) -> dict[str, str]:
    """Return a text for each row that tells it apart from those that agree in ``given``."""
    names = results.distinguishing(given) or ["network"]
    return {
        row.name: ", ".join(
            str(value) if isinstance(value := row.values[name], str) else f"{name} {value}"
            for name in names
        )
        for row in rows
    }


def data_name(data: str) -> str:
    """Return the name of a data set for a figure, without its place on this machine."""
    kind, _, place = data.partition(":")
    kind = kind.partition(",")[0]
    known_by_place = kind in ("folder", "events", "webdataset")
    return (Path(place.partition(",")[0]).name if known_by_place else "") or kind
