"""`danetc.compare`: what ``danetc compare`` does, called from Python."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import check_choice
from danetc.errors import UserError
from danetc.output.curves import html_table
from danetc.output.notebook import in_notebook
from danetc.output.plots import need_matplotlib
from danetc.output.returned import Returned
from danetc.runtime.data import Policy
from danetc.setting import Setting
from danetc.tasks.grid.cells import parse_axis
from danetc.tasks.grid.comparison import checked_runs
from danetc.tasks.grid.comparison import compare as train_grid
from danetc.tasks.grid.engines import EngineRequest
from danetc.tasks.grid.plot import FIGURES, across
from danetc.tasks.grid.request import grid_request, parsed_axes
from danetc.tasks.grid.results import Accuracy, Comparison, read_comparison
from danetc.tasks.grid.table import flat

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Compared(Returned):
    """A grid of trainings that is done."""

    directory: Path
    """With a folder for each cell; ``danetc compare -o DIR --only-report`` shows it again."""
    comparison: Comparison
    """A row for each cell: its values on the axes, its accuracies (or RMSE) by seed, its curves."""

    def frame(self) -> pandas.DataFrame:
        """A row for each cell, with accuracies from 0 to 1, or the RMSE of numbers. Raises UserError
        without pandas."""
        return self.comparison.frame()

    def figure(self, name: str = "accuracy", x: str | None = None) -> Any:
        """A figure of matplotlib, as ``danetc compare`` draws it.

        Args:
            name: ``accuracy`` of the test images (of numbers the RMSE), or ``training`` for loss and
                accuracy over epochs.
            x: the axis, or the fact, that lies along x; by default the depth.

        Raises UserError without matplotlib.
        """
        check_choice("name", name, tuple(FIGURES))
        need_matplotlib()
        across(self.comparison, x)
        return FIGURES[name](self.comparison, x)

    def _line(self) -> str:
        rows, measure = self.comparison.rows, self.comparison.measure
        best = [f"{each.name} ({measure.text(each.mean)})" for each in rows if each.best]
        told = f"; the best {measure.head}: {', '.join(best)}" if best else ""
        return f"{self.directory}: {len(rows)} cells on {self.comparison.data}{told}"

    def _repr_html_(self) -> str:
        table = flat(self.comparison)
        return html_table(table.heads, [[cell.text for cell in row] for row in table.rows])


def compare(
    specs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    data: str = "digits",
    *,
    grid: Mapping[str, str | Sequence[Setting]] | None = None,
    networks: Sequence[str] = (),
    set: Mapping[str, Setting] | None = None,
    recipe: str | None = None,
    output: str | os.PathLike[str] = "runs/compare",
    seed: int | None = None,
    seeds: int | None = None,
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
    fresh: bool = False,
    override: bool = False,
    allow_changed: Collection[str] = (),
    progress: bool | None = None,
) -> Compared:
    """Train a grid of networks and compare their results, as ``danetc compare`` does.

    Each run is in a process of its own. Runs that are in ``output`` already are resumed, and left as
    they are where they are finished.

    Args:
        specs: spec files, names of shipped specs or patterns of either; one or several.
        data: the data set, as in ``"digits"`` or ``"folder:DIR"``.
        grid: what is varied, as in ``{"rule": ["chain", "densely_additive"], "steps": [1, 4]}``.
        networks: of files with several networks those of these names alone.
        set: parameters and settings to change in all cells, as in ``danetc.train``.
        recipe: one that the files see.
        output: the directory of the grid.
        seed: of the first trial; by default the recipe's.
        seeds: how many trials each cell has, with consecutive seeds.
        jobs: how many trainings run at a time; by default 1, on a cluster as many as it has room for.
        engine: ``local``, processes of this machine, or ``ray``, a cluster (``pip install 'danetc[ray]'``).
        address: of the cluster of Ray; by default one of this machine alone is started.
        cpus: of a run on a cluster, by default 1.
        gpus: of a run on a cluster, by default 1 where it has any.
        backend: ``fused``, ``eager`` or ``spikingjelly``.
        classes: how many classes of the data set to draw at random; by default all.
        subset_seed: by which these classes are drawn.
        on_unreadable: what a file that cannot be read does, ``stop`` or ``skip``.
        accuracy: of the ``last`` epoch, or of the ``best``.
        fresh: begin runs anew whose settings have changed; the old ones are moved aside.
        override: resume runs although their settings have changed.
        allow_changed: files of runs that were changed on purpose.
        progress: show progress, as the command does; by default in a notebook alone.

    Raises UserError for what is wrong in the specs, the axes or the data, where runs fail (the others
    go on), and where a signal has stopped it: the same call resumes.
    """
    asked = grid_request(
        specs, networks, EngineRequest(engine, jobs, address, cpus, gpus), accuracy,
        data=data, recipe=recipe, output=Path(output), settings=dict(set or {}), seed=seed,
        seeds=seeds, backend=backend, classes=classes, subset_seed=subset_seed,
        on_unreadable=on_unreadable, fresh=fresh, override=override,
        allow_changed=tuple(allow_changed),
    )  # fmt: skip
    axes = parsed_axes(grid or {}, parse_axis)
    folder, quiet = asked.folder, not (in_notebook() if progress is None else progress)
    runs = checked_runs(asked, axes, quiet=quiet)
    if train_grid(runs, axes, asked, quiet=quiet) is not None:
        raise UserError(f"stopped; the same call resumes the runs in {folder}")
    found = read_comparison(folder, accuracy, allow_changed)
    refuse_failed(found, len(runs), folder)
    return Compared(folder, found)


def refuse_failed(found: Comparison, runs: int, folder: Path) -> None:
    """Raise UserError where some of so many runs have failed, with what each has to say."""
    failed = [
        f"{row.name} seed {seed}: {text}" for row in found.rows for seed, text in row.errors.items()
    ]
    if failed:
        listed = "\n".join(failed)
        raise UserError(f"{len(failed)} of {runs} runs failed; logs are in {folder}\n{listed}")
