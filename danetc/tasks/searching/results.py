"""The trials of a search, read from its folder, as a table or a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from danetc.arguments import Setting
from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError
from danetc.output.returned import Returned, frame
from danetc.output.table import Cell, Table
from danetc.runtime.system.figures import STYLES, in_figure, new_figure
from danetc.tasks.grid.plot import data_name
from danetc.tasks.grid.results import ACCURACY, MEASURES, Measure
from danetc.tasks.searching.study import RECORD, STORAGE, open_study


@dataclass(frozen=True)
class TrialRow:
    """A trial and its result.

    ``cell`` is the name of its folder, and ``values`` are its values on the axes. ``score`` is the accuracy
    from 0 to 1, the error of a regression or a prediction; None unless the trial is complete.
    ``operations`` counts MACs and additions for one image over all time steps; None if it cannot be built.
    ``state`` is ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``, ``epochs`` the number of
    epochs reported to the pruner, ``reason`` why it was pruned or failed. ``best`` is True for the first
    trial of a best cell.
    """

    number: int
    cell: str
    values: Mapping[str, Setting]
    state: str
    score: float | None
    operations: int | None
    parameters: int | None
    epochs: int
    reason: str | None
    best: bool = False


_OPTIONAL = ("score", "operations", "parameters", "reason")
"""Fields that may be missing in the record of a trial."""


@dataclass(frozen=True, repr=False)
class SearchResult(Returned):
    """Result of a search for the best ``measure``, or, with ``front``, for few operations as well.

    ``danetc search -o DIRECTORY --only-report`` prints it again.
    """

    directory: Path
    data: str
    axes: tuple[str, ...]
    front: bool
    trials: tuple[TrialRow, ...]
    measure: Measure = ACCURACY

    @property
    def best(self) -> list[TrialRow]:
        """Best trials in ascending order of operations."""
        found = [each for each in self.trials if each.best]
        return sorted(found, key=attrgetter("operations", "number"))

    def as_dict(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "axes": list(self.axes),
            "front": self.front,
            "measure": self.measure.name,
            "split": self.measure.split,
            "trials": [asdict(each) for each in self.trials],
        }

    def frame(self) -> Any:
        """Return a DataFrame with a row for each trial."""
        rows = map(asdict, self.trials)
        return frame({**row.pop("values"), **row, "split": self.measure.split} for row in rows)

    def figure(self) -> Any:
        """Return a figure of the accuracy versus the operations. Raises UserError without matplotlib."""
        return front_figure(self)

    def _line(self) -> str:
        best = [f"{each.cell} ({self.measure.text(each.score)})" for each in self.best]
        result = f"; the best {self.measure.head}: {', '.join(best)}" if best else ""
        return f"{self.directory}: {len(self.trials)} trials on {self.data}{result}"


def read_search(folder: Path) -> SearchResult:
    """Read the search in a folder. Raises UserError if there is no search or it is damaged."""
    study = open_study(folder)
    try:
        record = study.user_attrs[RECORD]
        split = None if record["predict"] else record["select_on"]
        front = {trial.number: trial.user_attrs[RECORD]["cell"] for trial in study.best_trials}
        first = {cell: number for number, cell in sorted(front.items(), reverse=True)}
        rows, measure = [], replace(ACCURACY, split=split)
        for trial in study.get_trials(deepcopy=False):
            known = trial.user_attrs.get(RECORD, {})
            if not known:  # the process was killed before it drew values
                continue
            measure = replace(MEASURES[known.get("measure", measure.name)], split=split)
            rows.append(
                TrialRow(
                    number=trial.number,
                    cell=known["cell"],
                    values=known["axes"],
                    state=trial.state.name.lower().replace("fail", "failed"),
                    epochs=len(trial.intermediate_values),
                    best=first.get(known["cell"]) == trial.number,
                    **{name: known.get(name) for name in _OPTIONAL},
                )
            )
        axes = ("network", *(name for name in record["space"] if name != "network"))
        return SearchResult(folder, record["data"], axes, record["front"], tuple(rows), measure)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / STORAGE} is damaged: invalid record ({type(error).__name__}: {error})"
        ) from error


def table(found: SearchResult) -> Table:
    """Return a table of the trials on the front, or of all trials with the best first."""
    measure = found.measure

    def order(row: TrialRow) -> tuple[bool, float, int, int]:
        score = -measure.objective(row.score or 0.0)
        return row.state != "complete", score, row.operations or 0, row.number

    rows = found.best if found.front else sorted(found.trials, key=order)
    several = len({row.values.get("network") for row in found.trials}) > 1
    names = [name for name in found.axes if name != "network" or several]
    body = tuple(
        (
            Cell(str(row.number)),
            *(
                Cell(override_text(row.values[name]) if name in row.values else "-")
                for name in names
            ),
            *(
                Cell("-" if count is None else f"{count:,}")
                for count in (row.operations, row.parameters)
            ),
            Cell(measure.text(row.score), row.best and not found.front, row.score),
            Cell(": ".join([row.state, *(row.reason or "").splitlines()[:1]])),
        )
        for row in rows
    )
    heads = ("trial", *names, "operations", "params", measure.head, "state")
    right = frozenset({0, *range(len(names) + 1, len(heads) - 1)})
    return Table(heads, body, right, "the best")


def front_figure(found: SearchResult) -> Any:
    """Draw the measure versus operations, with the front as a line.

    Returns None if no trial is complete.
    """
    rows = [row for row in found.trials if row.state == "complete"]
    if not rows:
        return None
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()

    def points(rows: Sequence[TrialRow]) -> tuple[list[int], list[float]]:
        scores = [found.measure.scale * (row.score or 0.0) for row in rows]
        return [row.operations or 0 for row in rows], scores

    others = points([row for row in rows if not row.best])
    axes.plot(*others, color="0.6", linestyle="", marker="o", ms=4, label="trials")
    best = found.best
    colour, dash, marker = STYLES[0]
    axes.plot(
        *points(best), color=colour, linestyle=dash if found.front else "", linewidth=1.1,
        marker=marker, ms=5, drawstyle="steps-post", label="front" if found.front else "best",
    )  # fmt: skip
    if min(row.operations or 0 for row in rows) > 0:
        axes.set_xscale("log")
    axes.set_xlabel("operations for one image (MACs and additions)")
    axes.set_ylabel(found.measure.head)
    axes.set_title(in_figure(data_name(found.data)), fontsize="medium")
    axes.legend(fontsize="small")
    return figure
