"""`danetc.search`: what ``danetc search`` does, called from Python."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danetc.arguments import check_choice, check_whole
from danetc.errors import UserError
from danetc.output.curves import html_table
from danetc.output.notebook import in_notebook
from danetc.output.plots import need_matplotlib
from danetc.output.returned import Returned
from danetc.runtime.data import Policy
from danetc.setting import Setting
from danetc.tasks.grid.engines import EngineRequest
from danetc.tasks.grid.request import grid_request, parsed_axes
from danetc.tasks.grid.results import Accuracy
from danetc.tasks.searching.loop import SearchRequest
from danetc.tasks.searching.loop import search as run_search
from danetc.tasks.searching.results import Searched, read_search
from danetc.tasks.searching.shown import front_figure, table
from danetc.tasks.searching.space import parse_dimension
from danetc.tasks.searching.study import PRUNERS, SAMPLERS


@dataclass(frozen=True, repr=False)
class SearchResult(Returned, Searched):
    """A search that is done. ``danetc search -o DIR --only-report`` shows it again."""

    def figure(self) -> Any:
        """Accuracy against operations, a figure of matplotlib as ``danetc search`` draws it.

        Raises UserError without matplotlib.
        """
        need_matplotlib()
        return front_figure(self)

    def _line(self) -> str:
        best = [f"{each.cell} ({self.measure.text(each.score)})" for each in self.best]
        shown = ", ".join(best[:3]) + (", ..." if len(best) > 3 else "")
        told = f"; the best {self.measure.head}: {shown}" if best else ""
        return f"{self.directory}: {len(self.trials)} trials on {self.data}{told}"

    def _repr_html_(self) -> str:
        shown = table(self)
        return html_table(shown.heads, [[cell.text for cell in row] for row in shown.rows])


def search(
    specs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    data: str = "digits",
    *,
    grid: Mapping[str, str | Sequence[Setting]],
    trials: int = 20,
    front: bool = False,
    sampler: str = "tpe",
    sampler_seed: int = 0,
    pruner: str = "none",
    networks: Sequence[str] = (),
    set: Mapping[str, Setting] | None = None,
    recipe: str | None = None,
    output: str | os.PathLike[str] = "runs/search",
    seed: int | None = None,
    jobs: int | None = None,
    engine: str = "local",
    address: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    backend: str | None = None,
    classes: int | None = None,
    subset_seed: int = 0,
    on_unreadable: Policy = "stop",
    accuracy: Accuracy = "last",
    allow_changed: Collection[str] = (),
    progress: bool | None = None,
) -> SearchResult:
    """Search networks and settings, as ``danetc search`` does (``pip install 'danetc[search]'``).

    A trial is a cell of ``danetc.compare`` with one seed. The same call resumes.

    Args:
        specs: spec files, names of shipped specs or patterns of either; one or several.
        data: the data set, as in ``"digits"`` or ``"folder:DIR"``.
        grid: what is searched: values, as in ``{"rule": ["chain", "densely_additive"]}``, or a range, as in
            ``{"width": "8..64:8", "recipe.optimizer.lr": "1e-4..0.1:log"}``.
        trials: how many there shall be, those counted that ``output`` holds already.
        front: have operations (MACs and additions for one image) as a second objective.
        sampler: ``tpe``, ``random``, ``grid`` or ``nsga2``.
        sampler_seed: of the sampler.
        pruner: what ends poor trials early: ``none``, ``median`` or ``hyperband``.
        output: the directory of the search.

    All other arguments are those of ``danetc.compare``, of the trainings: networks, set, recipe, seed,
    jobs, engine, address, cpus, gpus, backend, classes, subset_seed, on_unreadable, accuracy,
    allow_changed, progress.

    Raises UserError for what is wrong in the specs, the axes or the data, without Optuna, where no trial
    is complete at the end, and where a signal has stopped it.
    """
    check_choice("sampler", sampler, tuple(SAMPLERS))
    check_choice("pruner", pruner, tuple(PRUNERS))
    check_whole("trials", trials, 1)
    check_whole("sampler_seed", sampler_seed, 0, 2**31 - 1)
    cells = grid_request(
        specs, networks, EngineRequest(engine, jobs, address, cpus, gpus), accuracy,
        data=data, recipe=recipe, output=Path(output), settings=dict(set or {}), seed=seed,
        backend=backend, classes=classes, subset_seed=subset_seed, on_unreadable=on_unreadable,
        allow_changed=tuple(allow_changed),
    )  # fmt: skip
    asked = SearchRequest(
        cells=cells,
        space=tuple(parsed_axes(grid, parse_dimension)),
        trials=trials,
        sampler=sampler,
        sampler_seed=sampler_seed,
        pruner=pruner,
        front=front,
    )
    folder, quiet = cells.folder, not (in_notebook() if progress is None else progress)
    if run_search(asked, quiet=quiet) is not None:
        raise UserError(f"stopped; the same call resumes the search in {folder}")
    found = SearchResult(**vars(read_search(folder)))
    refuse_empty(found)
    return found


def refuse_empty(found: Searched) -> None:
    """Raise UserError where no trial is complete, with what the first has to say."""
    if any(row.state == "complete" for row in found.trials):
        return
    reasons = [f"{row.cell}: {row.reason}" for row in found.trials if row.reason]
    said = f"; the first: {reasons[0]}" if reasons else ""
    raise UserError(f"of {len(found.trials)} trials none is complete{said}")
