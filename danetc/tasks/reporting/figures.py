"""Figures of the page: training curves, measures by layer, and figures of grids."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.output.returned import LinePanel, confusion_figure, line_figure
from danetc.runtime.system.figures import WITHOUT, can_plot, figure_bytes
from danetc.tasks.model_directory import GRID
from danetc.tasks.reporting.layer_values import MEASURES, layer_name, neurons_in_order
from danetc.tasks.reporting.runs import ShownRun

_TITLES = {
    "accuracy": "Accuracy over the epochs, and test accuracy after the last one",
    "training": "Training loss and accuracy over the epochs",
    "front": "Trials of the search: accuracy against operations",
}


class PageFigure(NamedTuple):
    """A figure in a page. ``data`` is a URI."""

    title: str
    data: str


def _page_figure(title: str, figure: Any) -> PageFigure:
    data = base64.b64encode(figure_bytes(figure, "svg")).decode("ascii")
    return PageFigure(title, f"data:image/svg+xml;base64,{data}")


Lines = dict[str, tuple[tuple[int, ...], tuple[float, ...]]]
"""Dictionary of curves by name, as a tuple of the x values and the y values."""


def training_curves(runs: Sequence[ShownRun]) -> dict[str, Lines]:
    """Return loss and accuracy of each run on each split over the epochs, by the titles of their figures.

    Runs on other data, and losses of other recipes, have figures of their own.
    """
    found: dict[str, Lines] = {}
    for key, head, scale in (("loss", "Loss", 1), ("accuracy", "Accuracy [%]", 100)):
        several = len({_trained_on(run, key) for run in runs if run.epochs}) > 1
        for run in runs:
            title = f"{head}, {_trained_on(run, key)}" if several else head
            for split in ("train", "val", "test"):
                points = [
                    (number, scale * float(value))
                    for number, epoch in enumerate(run.epochs, 1)
                    if isinstance(value := epoch.get(f"{split}_{key}"), (int, float))
                    and math.isfinite(value)
                ]
                if points:
                    xs, ys = zip(*points, strict=True)
                    found.setdefault(title, {})[f"{run.label}, {split}"] = xs, ys
    return found


def _trained_on(run: ShownRun, key: str) -> str:
    """Return the data of a run and, for curves of the loss, what its loss is."""
    settings = (run.record or {}).get("settings") or {}
    found = settings.get("data") or {}
    data, subset = str(found.get("text", "unknown data")), found.get("subset")
    if data.startswith("memory"):  # which says nothing of the samples
        data += f" ({str(found.get('fingerprint'))[:8]})"
    data = data if subset is None else f"classes {', '.join(map(str, subset))} of {data}"
    phases = (settings.get("recipe") or {}).get("phases") or {}
    if key == "accuracy" or not phases:
        return data
    terms = [(each["factor"], each["name"]) for phase in phases.values() for each in phase["loss"]]
    named = (name if factor == 1 else f"{factor:g} {name}" for factor, name in terms)
    return f"{' + '.join(dict.fromkeys(named))} on {data}"


def training_figures(runs: Sequence[ShownRun]) -> list[PageFigure]:
    """Draw the ``training_curves``."""
    found = []
    for title, curves in training_curves(runs).items():
        panel = LinePanel("epoch", title.partition(",")[0].lower(), curves)
        found.append(_page_figure(title, line_figure([panel], columns=1)))
    return found


def layer_figures(runs: Sequence[ShownRun]) -> list[PageFigure]:
    """Draw each measure by neuron layer, in the order of the forward pass (Figs. 8 to 10).

    The axis has the names of layers if there is one run, else their numbers.
    """
    found = []
    names = [[layer_name(node) for node in neurons_in_order(run.graph)] for run in runs]
    for measure in MEASURES:
        lines: Lines = {}
        for run, layers in zip(runs, names, strict=True):
            values = measure.of(run.measures)
            points = [(n, values[name]) for n, name in enumerate(layers, 1) if name in values]
            if points:
                xs, ys = zip(*points, strict=True)
                lines[run.label] = xs, ys
        if lines:
            title = f"{measure.title.capitalize()} by layer"
            ticks = [re.sub(r"\b(stages|blocks)\.", "", name) for name in names[0]]
            panel = LinePanel(
                "layer", measure.title, lines, log=measure.mean == "geometric",
                ticks=ticks if len(runs) == 1 else (),
            )  # fmt: skip
            found.append(_page_figure(title, line_figure([panel], columns=1)))
    return found


def class_figures(run: ShownRun) -> list[PageFigure]:
    """Draw the confusion matrix of an evaluation, if there is one."""
    found = [] if run.evaluation is None else [run.evaluation]
    drawn = (confusion_figure(x["results"][0]["confusion"], x["class_names"]) for x in found)
    return [_page_figure(f"Confusion matrix of {run.label}", each) for each in drawn]


def grid_figures(paths: Sequence[Path], note: Note = lambda text: None) -> list[PageFigure]:
    """Draw the figures of `danetc compare` and `danetc search` for each folder of a grid.

    ``note`` is told why there are none.
    """
    folders = [path for path in paths if (path / GRID).is_file()]
    if not folders:
        return []
    if not can_plot():
        note(f"the page has no figures of the grid: {WITHOUT}")
        return []
    from danetc.tasks.grid.plot import FIGURES, draw  # late: only for a grid
    from danetc.tasks.grid.results import read_results
    from danetc.tasks.searching.results import front_figure, read_search
    from danetc.tasks.searching.study import STORAGE

    found = []
    for folder in folders:
        figures = {}
        try:
            results = read_results(folder, "last")
            figures = {name: draw(results, name) for name in FIGURES}
            if (folder / STORAGE).is_file():
                figures["front"] = front_figure(read_search(folder))
        except UserError as error:
            note(f"the page lacks figures of {folder}: {error}")
        for name, figure in figures.items():
            if figure is not None:
                title = _TITLES[name] + (f", {folder.name}" if len(folders) > 1 else "")
                found.append(_page_figure(title, figure))
    return found
