"""The figures of `danetc compare` and `danetc search` on the page of their folder."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from danetc.errors import UserError
from danetc.tasks.model_directory import GRID

TITLES = {
    "accuracy": "Test accuracy over the epochs, and after the last one",
    "training": "Training loss and accuracy over the epochs",
    "front": "Trials of the search: test accuracy against operations",
}


class GridFigure(NamedTuple):
    """A picture as a page holds it: ``data`` is a URI."""

    title: str
    data: str


def grid_figures(
    paths: Sequence[Path],
    allow_changed: Collection[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> list[GridFigure]:
    """Those of each folder of a grid, drawn from its runs; ``note`` says why there are none."""
    folders = [path for path in paths if (path / GRID).is_file()]
    if not folders:
        return []
    from danetc.runtime.system.figures import WITHOUT, can_plot, figure_bytes  # late: torch
    from danetc.tasks.grid.plot import FIGURES
    from danetc.tasks.grid.results import read_results
    from danetc.tasks.searching.results import front_figure, read_search
    from danetc.tasks.searching.study import STORAGE

    if not can_plot():
        note(f"the page has no figures of the grid: {WITHOUT}")
        return []
    found = []
    for folder in folders:
        try:
            results = read_results(folder, "last", allow_changed)
        except UserError as error:
            note(f"the page has no figures of {folder}: {error}")
            continue
        figures = {name: draw(results, None) for name, draw in FIGURES.items()}
        if (folder / STORAGE).is_file():
            try:
                figures["front"] = front_figure(read_search(folder))
            except UserError as error:
                note(f"the page has no figure of the search: {error}")
        for name, figure in figures.items():
            if figure is not None:
                data = base64.b64encode(figure_bytes(figure, "svg")).decode("ascii")
                title = TITLES[name] + (f", {folder.name}" if len(folders) > 1 else "")
                found.append(GridFigure(title, f"data:image/svg+xml;base64,{data}"))
    return found
