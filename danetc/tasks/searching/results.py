"""The trials of a search, read back from its folder, and the front of accuracy against operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from danetc.errors import UserError
from danetc.setting import Setting
from danetc.tasks.grid.measures import ACCURACY, MEASURES, Measure
from danetc.tasks.searching.study import RECORD, STORAGE, read_study

if TYPE_CHECKING:
    import pandas

State = Literal["complete", "pruned", "failed", "running", "waiting"]
_STATES: Mapping[str, State] = {
    "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running",
    "WAITING": "waiting",
}  # fmt: skip


@dataclass(frozen=True)
class TrialRow:
    """A trial. ``cell`` is the name of its folder, ``values`` are those on the axes.

    ``score`` is the accuracy from 0 to 1, or what numbers are compared by, of a trial that is complete. ``operations`` are MACs and additions for one
    image over all time steps; None where the network could not be built. ``epochs`` were told to a
    pruner. ``reason`` says why a trial was pruned or has failed. ``best``: see ``Searched``.
    """

    number: int
    cell: str
    values: Mapping[str, Setting]
    state: State
    score: float | None
    operations: int | None
    parameters: int | None
    epochs: int
    reason: str | None
    best: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "cell": self.cell,
            "values": dict(self.values),
            "state": self.state,
            "score": self.score,
            "operations": self.operations,
            "parameters": self.parameters,
            "epochs": self.epochs,
            "reason": self.reason,
            "best": self.best,
        }


@dataclass(frozen=True)
class Searched:
    """A search. Of the ``trials`` those are ``best`` that no other beats: in its ``measure``, and with
    ``front`` in that and operations together. A cell that several trials have drawn is best once."""

    directory: Path
    data: str
    axes: tuple[str, ...]
    front: bool
    trials: tuple[TrialRow, ...]
    measure: Measure = ACCURACY

    @property
    def best(self) -> list[TrialRow]:
        """The best trials, fewest operations first."""
        found = [each for each in self.trials if each.best]
        return sorted(found, key=lambda each: (each.operations or 0, each.number))

    def frame(self) -> pandas.DataFrame:
        """A row for each trial. Raises UserError without pandas."""
        from danetc.output.data_frames import frame

        rows = (each.as_dict() for each in self.trials)
        return frame({**row.pop("values"), **row} for row in rows)

    def as_dict(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "axes": list(self.axes),
            "front": self.front,
            "measure": self.measure.name,
            "trials": [each.as_dict() for each in self.trials],
        }


def read_search(folder: Path) -> Searched:
    """What lies in the folder of a search. Raises UserError where there is none."""
    study = read_study(folder)
    try:
        record = study.user_attrs[RECORD]
        rows, measure = [], ACCURACY
        for trial in study.get_trials(deepcopy=False):
            known = trial.user_attrs.get(RECORD, {})
            if not known:  # killed before its values were drawn
                continue
            measure = MEASURES[known.get("measure", measure.name)]
            rows.append(
                TrialRow(
                    number=trial.number,
                    cell=known["cell"],
                    values=known["axes"],
                    state=_STATES[trial.state.name],
                    score=known.get("score"),
                    operations=known.get("operations"),
                    parameters=known.get("parameters"),
                    epochs=len(trial.intermediate_values),
                    reason=known.get("reason"),
                )
            )
        axes = ("network", *(name for name in record["space"] if name != "network"))
        best = {each.number for each in undominated(rows, measure, front=record["front"])}
        return Searched(
            folder, record["data"], axes, record["front"],
            tuple(replace(each, best=each.number in best) for each in rows), measure,
        )  # fmt: skip
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / STORAGE} is damaged: it is not as it was written ({type(error).__name__}: {error})"
        ) from error


def undominated(
    rows: Sequence[TrialRow], measure: Measure = ACCURACY, *, front: bool
) -> list[TrialRow]:
    """The complete trials that no other beats, each cell once.

    One is beaten by another that is at least as good and has at most its operations, and is better in one
    of them; without ``front`` by one with a better figure.
    """
    cells: dict[str, TrialRow] = {}
    for row in rows:
        if row.state == "complete":
            cells.setdefault(row.cell, row)

    def cost(row: TrialRow) -> tuple[float, int]:
        """To be small: first what is sorted by."""
        return -measure.objective(row.score or 0.0), (row.operations or 0) if front else 0

    kept: list[TrialRow] = []
    for row in sorted(cells.values(), key=cost):
        # Of those before it none is worse, so that it must have fewer operations.
        if not kept or cost(row)[1] < cost(kept[-1])[1] or cost(row) == cost(kept[-1]):
            kept.append(row)
    return kept
