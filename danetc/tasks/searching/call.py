"""`danetc.search`: what ``danetc search`` does, called from Python."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danetc.errors import UserError
from danetc.options import BACKENDS
from danetc.output.curves import html_table
from danetc.output.notebook import in_notebook
from danetc.runtime.data import Policy
from danetc.runtime.measure.plots import WITHOUT, can_plot
from danetc.setting import Setting
from danetc.tasks.arguments import check_choice, check_whole
from danetc.tasks.grid.cells import show
from danetc.tasks.grid.engines import ENGINES, EngineRequest
from danetc.tasks.grid.results import Accuracy
from danetc.tasks.searching.loop import SearchRequest
from danetc.tasks.searching.loop import search as run_search
from danetc.tasks.searching.results import Searched, read_search
from danetc.tasks.searching.shown import front_figure, table
from danetc.tasks.searching.space import parse_dimension
from danetc.tasks.searching.study import PRUNERS, SAMPLERS
from danetc.tasks.training.request import TrainingRequest


@dataclass(frozen=True)
class SearchResult(Searched):
    """A search that is done. ``danetc search -o DIR --only-report`` shows it again."""

    def figure(self) -> Any:
        """Accuracy against operations, a figure of matplotlib as ``danetc search`` draws it.

        Raises UserError without matplotlib.
        """
        if not can_plot():
            raise UserError(WITHOUT)
        return front_figure(self)

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
        networks: of files with several networks those of these names alone.
        set: parameters and settings to change in all cells, as in ``danetc.train``.
        recipe: one that the files see.
        output: the directory of the search.
        seed: of the trainings; by default the recipe's.
        jobs: how many trainings run at a time; by default 1, on a cluster as many as it has room for.
        engine: ``local``, processes of this machine, or ``ray``, a cluster.
        address: of the cluster of Ray; by default one of this machine alone is started.
        cpus: of a run on a cluster, by default 1.
        gpus: of a run on a cluster, by default 1 where it has any.
        backend: ``fused``, ``eager`` or ``spikingjelly``.
        classes: how many classes of the data set to draw at random; by default all.
        subset_seed: by which these classes are drawn.
        on_unreadable: what a file that cannot be read does, ``stop`` or ``skip``.
        accuracy: of the ``last`` epoch, or of the ``best``.
        allow_changed: files of runs that were changed on purpose.
        progress: show progress, as the command does; by default in a notebook alone.

    Raises UserError for what is wrong in the specs, the axes or the data, without Optuna, where no trial
    is complete at the end, and where a signal has stopped it.
    """
    check_choice("backend", backend, BACKENDS)
    check_choice("on_unreadable", on_unreadable, ("stop", "skip"))
    check_choice("accuracy", accuracy, ("last", "best"))
    check_choice("engine", engine, tuple(ENGINES))
    check_choice("sampler", sampler, tuple(SAMPLERS))
    check_choice("pruner", pruner, tuple(PRUNERS))
    check_whole("trials", trials, 1)
    check_whole("sampler_seed", sampler_seed, 0, 2**31 - 1)
    check_whole("jobs", jobs, 1, 100_000)
    check_whole("seed", seed, 0, 2**32 - 1)
    check_whole("classes", classes, 2)
    check_whole("subset_seed", subset_seed, 0)
    several = [specs] if isinstance(specs, str | os.PathLike) else specs
    try:
        space = tuple(
            parse_dimension(
                f"{name}={values if isinstance(values, str) else ','.join(map(show, values))}"
            )
            for name, values in grid.items()
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    folder = Path(output)
    asked = SearchRequest(
        specs=tuple(os.fspath(each) for each in several),
        networks=tuple(networks),
        space=space,
        trials=trials,
        sampler=sampler,
        sampler_seed=sampler_seed,
        pruner=pruner,
        front=front,
        accuracy=accuracy,
        engine=EngineRequest(engine, jobs, address, cpus, gpus),
    )
    base = TrainingRequest(
        spec="",
        data=data,
        recipe=recipe,
        output=folder,
        settings=dict(set or {}),
        seed=seed,
        backend=backend,
        classes=classes,
        subset_seed=subset_seed,
        on_unreadable=on_unreadable,
        allow_changed=tuple(allow_changed),
    )
    quiet = not (in_notebook() if progress is None else progress)
    if run_search(asked, base, folder, quiet=quiet) is not None:
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
