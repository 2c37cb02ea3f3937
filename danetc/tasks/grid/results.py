"""The results of a grid of trainings: a row for each cell, read from its folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

from danetc.errors import UserError
from danetc.tasks.grid.measures import ACCURACY, Measure, measure_of
from danetc.tasks.model_directory import GRID, TRAINING
from danetc.tasks.records import epochs_in, inside, record_if_any

if TYPE_CHECKING:
    import pandas

FORMAT = 1
FACTS = ("network", "connection", "rule", "wiring", "depth", "classes", "recipe", "T")
"""What is known of every cell. ``wiring`` is its connection by its rule."""
Accuracy = Literal["last", "best"]


@dataclass(frozen=True)
class CellRow:
    """A cell. ``values`` are those on the axes and the ``FACTS``, as they are shown.

    ``scores`` are by seed, of the runs that are complete, in the measure of the comparison: accuracies
    from 0 to 1, or what numbers are compared by. ``curves`` are theirs over all epochs, and those
    of their training. ``best`` says that no other cell with as many classes has a better mean.
    """

    name: str
    values: Mapping[str, Any]
    parameters: int
    cost: int
    seeds: tuple[int, ...]
    scores: Mapping[int, float]
    curves: Mapping[str, Mapping[int, tuple[float, ...]]] = field(repr=False)
    errors: Mapping[int, str]
    best: bool = False

    @property
    def mean(self) -> float | None:
        return fmean(self.scores.values()) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Of the sample (n - 1); None of one run."""
        found = list(self.scores.values())
        return stdev(found) if len(found) > 1 else None

    def curve(self, name: str) -> list[tuple[float, float]]:
        """Mean and deviation (0 of one run) of one of ``curves`` after each epoch."""
        epochs = zip(*self.curves[name].values(), strict=True)
        return [(fmean(each), stdev(each) if len(each) > 1 else 0.0) for each in epochs]

    @property
    def state(self) -> str:
        """``done``, or how far it is."""
        if len(self.scores) == len(self.seeds):
            return "done"
        done = f"{len(self.scores)} of {len(self.seeds)} runs"
        return f"{done}, {len(self.errors)} failed" if self.errors else done

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **self.values,
            "parameters": self.parameters,
            "epochs_x_T": self.cost,
            "seeds": list(self.seeds),
            "scores": {str(seed): value for seed, value in self.scores.items()},
            "mean": self.mean,
            "deviation": self.deviation,
            "best": self.best,
            "state": self.state,
            "errors": {str(seed): text for seed, text in self.errors.items()},
            "curves": {name: [list(point) for point in self.curve(name)] for name in self.curves},
        }


@dataclass(frozen=True)
class Comparison:
    """All rows. ``axes`` are the names of what was varied, ``measure`` is what rows are compared by, and
    ``accuracy`` says of which epoch it is.
    """

    data: str
    axes: tuple[str, ...]
    accuracy: Accuracy
    rows: tuple[CellRow, ...]
    measure: Measure = ACCURACY

    def varying(self) -> list[str]:
        """The names that tell the rows apart: the axes, then other facts that are not the same."""
        names = list(self.axes)
        for name in FACTS:
            if name == "wiring":  # connection and rule say it
                continue
            found = [row.values[name] for row in self.rows]
            known = any([row.values[axis] for row in self.rows] == found for axis in names)
            if name not in names and len(set(found)) > 1 and not known:
                names.append(name)
        return names

    def frame(self) -> pandas.DataFrame:
        """A row for each cell, with mean and deviation of accuracies from 0 to 1, or of what numbers are
        compared by. Raises UserError without pandas."""
        from danetc.output.data_frames import frame

        names = ("name", *self.varying(), "parameters", "mean", "deviation", "best", "state")
        return frame({name: each.as_dict()[name] for name in names} for each in self.rows)

    def as_dict(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "axes": list(self.axes),
            "accuracy": self.accuracy,
            "measure": self.measure.name,
            "cells": [row.as_dict() for row in self.rows],
        }


def read_comparison(
    folder: Path, accuracy: Accuracy = "last", allow_changed: Collection[str] = ()
) -> Comparison:
    """What lies in the folder of a grid. Raises UserError where there is none, or it is damaged."""
    record = record_if_any(folder / GRID, allow_changed)
    if record is None:
        raise UserError(f"{folder / GRID} does not exist, so there is nothing to report")
    if not isinstance(record.get("cells"), list) or type(record.get("format")) is not int:
        raise UserError(f"{folder / GRID} is damaged: it names no runs")
    if record["format"] > FORMAT:
        raise UserError(f"{folder / GRID} was written by a newer danetc")
    try:
        trained = {
            run["directory"]: epochs_in(inside(folder, run["directory"]) / TRAINING, allow_changed)
            for cell in record["cells"]
            for run in cell["runs"]
        }
        measure = measure_of(epoch for epochs in trained.values() for epoch in epochs)
        rows = [_row(cell, trained, accuracy, measure) for cell in record["cells"]]
        return Comparison(
            str(record["data"]), tuple(map(str, record["axes"])), accuracy,
            tuple(marked(rows, measure)), measure,
        )  # fmt: skip
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / GRID}, or the training.json of a run there, is damaged: it is not as it was "
            f"written ({type(error).__name__}: {error})"
        ) from error


def _row(
    cell: Mapping[str, Any],
    trained: Mapping[str, list[dict[str, Any]]],
    accuracy: Accuracy,
    measure: Measure,
) -> CellRow:
    """``trained`` are the epochs of each run, by its directory."""
    facts = cell["facts"]
    total = sum(facts["epochs"])
    curves: dict[str, dict[int, tuple[float, ...]]] = {
        name: {} for name in (measure.curve, *measure.trained)
    }
    errors: dict[int, str] = {}
    for run in cell["runs"]:
        epochs = trained[run["directory"]]
        if len(epochs) == total and run["state"] != "failed":
            for name, found in curves.items():
                found[run["seed"]] = tuple(
                    measure.of(epoch) if name == measure.curve else float(epoch[name])
                    for epoch in epochs
                )
        elif run["state"] == "failed":
            errors[run["seed"]] = run["error"]
    known = {name: facts[name] for name in FACTS if name in facts}
    known["wiring"] = wiring(facts["connection"], facts["rule"])
    known["T"] = ", ".join(map(str, dict.fromkeys(facts["steps"])))
    return CellRow(
        name=cell["name"],
        values={**known, **cell["axes"]},
        parameters=facts["parameters"],
        cost=facts["cost"],
        seeds=tuple(run["seed"] for run in cell["runs"]),
        scores={
            seed: measure.best(curve) if accuracy == "best" else curve[-1]
            for seed, curve in curves[measure.curve].items()
        },
        curves=curves,
        errors=errors,
    )


def distinguishing(rows: Sequence[CellRow], axes: Sequence[str], given: Sequence[str]) -> list[str]:
    """The fewest names that tell rows apart which agree in those of ``given``.

    A network's goes first, since it says what its connection, rule and depth say too.
    """
    hidden = {*given}
    if "wiring" in given:
        hidden |= {"connection", "rule"}
    elif hidden & {"connection", "rule"}:
        hidden.add("wiring")
    order = ["network", "recipe", "T", "connection", "rule", "depth", "classes", *axes, "wiring"]
    kept = [
        name
        for name in dict.fromkeys([*axes, "wiring", *FACTS])
        if name not in hidden and len({str(row.values[name]) for row in rows}) > 1
    ]
    for name in order:
        rest = [each for each in kept if each != name]
        if name in kept and are_distinct(rows, [*rest, *given]):
            kept = rest
    return kept


def are_distinct(rows: Sequence[CellRow], names: Sequence[str]) -> bool:
    """Whether no two rows agree in all these names."""
    return len({tuple(str(row.values[name]) for name in names) for row in rows}) == len(rows)


def wiring(connection: str, rule: str) -> str:
    """``origin by densely_additive``; a chain goes without saying."""
    return " by ".join(part for part in (connection, rule) if part not in ("", "chain"))


def marked(rows: Sequence[CellRow], measure: Measure = ACCURACY) -> list[CellRow]:
    """The best of the rows with as many classes; where there is no other, none."""
    found = []
    for row in rows:
        rivals = [each for each in rows if each.values["classes"] == row.values["classes"]]
        means = [each.mean for each in rivals if each.mean is not None]
        best = len(means) > 1 and row.mean == measure.best(means)
        found.append(replace(row, best=best))
    return found
