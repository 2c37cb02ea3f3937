"""The results of a grid: a row for each cell, read from its folder, and tables of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.errors import UserError
from danetc.output.table import Cell, Table
from danetc.requests import Accuracy, SelectOn
from danetc.runtime.data.request import Split, has_validation
from danetc.runtime.system.files import within
from danetc.tasks.model_directory import GRID, TRAINING, epochs_in, record_if_any

FORMAT = 1
FACTS = ("network", "connection", "rule", "wiring", "depth", "classes", "recipe", "T")
"""Facts of every cell. ``wiring`` is its connection by its rule."""
TRAINED = ("train_loss", "train_accuracy")
"""Names of the training curves. The values are averages over the epoch."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Metric that compares cells on a ``split``, or without training if that is None.

    ``trained`` are the names of the training curves. Values are shown times ``scale``, with ``unit``.
    """

    name: str
    unit: str
    scale: int
    higher: bool
    trained: tuple[str, ...] = TRAINED
    split: Split | None = "test"

    @property
    def curve(self) -> str:
        """Name of the values over the epochs."""
        return f"{self.split}_{'accuracy' if self.higher else 'rmse'}"

    @property
    def head(self) -> str:
        """Title of a column or an axis."""
        return " ".join(filter(None, (self.split, self.unit)))

    def of(self, epoch: Mapping[str, Any]) -> float:
        """Return the value in the record of an epoch."""
        scores = "scores" if self.split == "test" else "val_scores"
        return float(epoch[self.curve] if self.higher else epoch[scores]["rmse"])

    def best(self, values: Iterable[float]) -> float:
        return max(values) if self.higher else min(values)

    def objective(self, value: float) -> float:
        """Return a number to be maximised."""
        return value if self.higher else -value

    def text(self, mean: float | None, deviation: float | None = None) -> str:
        """Return ``68.26 ± 0.31`` for an accuracy in per cent, ``0.1234 ± 0.0021`` for a distance."""
        if mean is None:
            return "-"
        value, spread = ("{:.4g}", " ± {:.2g}") if self.scale == 1 else ("{:.2f}", " ± {:.2f}")
        shown = value.format(self.scale * mean)
        return shown if deviation is None else shown + spread.format(self.scale * deviation)


ACCURACY = Measure("accuracy", "top-1 %", 100, True)
OF_PIXELS = Measure("pixel accuracy", "pixel accuracy %", 100, True)
OF_NUMBERS = Measure("rmse", "RMSE", 1, False, ("train_loss",))
PATHS = Measure("paths", "fewest neurons on a path", 1, False, (), None)
MEASURES: Mapping[str, Measure] = {
    each.name: each for each in (ACCURACY, OF_PIXELS, OF_NUMBERS, PATHS)
}


def measure_of(epochs: Iterable[Mapping[str, Any]], split: Split) -> Measure:
    """Return the measure of epochs that are evaluated on a split, which their scores tell."""
    scores = next(iter(epochs), {}).get("scores" if split == "test" else "val_scores", {})
    found = OF_NUMBERS if "rmse" in scores else OF_PIXELS if "miou" in scores else ACCURACY
    return replace(found, split=split)


def refuse_test(what: str, data: str, select_on: SelectOn) -> None:
    """Raise UserError if ``what`` is selected on test images, unless the user accepts that."""
    validated = has_validation(data)
    if validated and select_on == "test":
        raise UserError(f"{what} is selected on validation images of {data}, not on test images")
    if not validated and select_on == "val":
        raise UserError(
            f"{what} would be selected on the test images of {data}, whose accuracy is then "
            "optimistic; hold out validation images, as in --data digits,val=0.1, or accept it "
            "with --select-on test, which the results record"
        )


@dataclass(frozen=True)
class CellRow:
    """A cell and its results.

    ``values`` are those on the axes and the ``FACTS``, ``cost`` is the sum over the phases of
    epochs x T. ``scores`` and ``curves`` hold the results of complete runs and their values over all
    epochs by seed, ``errors`` the messages of failed runs.
    """

    name: str
    values: Mapping[str, Any]
    parameters: int
    cost: int
    seeds: tuple[int, ...]
    scores: Mapping[int, float]
    curves: Mapping[str, Mapping[int, tuple[float, ...]]] = field(repr=False)
    errors: Mapping[int, str]

    @property
    def mean(self) -> float | None:
        return fmean(self.scores.values()) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1); None for a single run."""
        found = list(self.scores.values())
        return stdev(found) if len(found) > 1 else None

    def curve(self, name: str) -> list[tuple[float, float]]:
        """Return the mean and the deviation (0 for a single run) after each epoch."""
        epochs = zip(*self.curves[name].values(), strict=True)
        return [(fmean(each), stdev(each) if len(each) > 1 else 0.0) for each in epochs]

    @property
    def state(self) -> str:
        if len(self.scores) == len(self.seeds):
            return "done"
        done = f"{len(self.scores)} of {len(self.seeds)} runs"
        return f"{done}, {len(self.errors)} failed" if self.errors else done

    def as_dict(self) -> dict[str, Any]:
        names = ("parameters", "seeds", "scores", "mean", "deviation", "state", "errors")
        return {
            "name": self.name,
            **self.values,
            **{name: getattr(self, name) for name in names},
            "epochs_x_T": self.cost,
            "curves": {name: self.curve(name) for name in self.curves},
        }


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean over ``seeds`` of a cell's score minus that of another with the same seed, and the bounds of
    its 95 % interval by Student's t distribution."""

    cell: str
    minus: str
    seeds: int
    mean: float
    low: float
    high: float


_QUANTILES = (
    12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.30600,
    2.26216, 2.22814, 2.20099, 2.17881, 2.16037, 2.14479, 2.13145,
)  # fmt: skip


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, to 0.001.

    From 16 degrees of freedom on, it is an expansion in 1 / ``freedom`` (Abramowitz and Stegun, 26.7.5).
    """
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    return 1.959964 + 2.372271 / freedom + 2.822499 / freedom**2


@dataclass(frozen=True)
class GridResults:
    """Results of all cells. ``axes`` are the names of what was varied.

    ``over_epochs`` is the measure of the curves, on validation images if there are any, and ``measure``
    that of the scores: on the same images for the best epoch, on the test images for the last.
    """

    data: str
    axes: tuple[str, ...]
    accuracy: Accuracy
    rows: tuple[CellRow, ...]
    measure: Measure = ACCURACY
    over_epochs: Measure = ACCURACY

    def as_dict(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "axes": list(self.axes),
            "accuracy": self.accuracy,
            "measure": self.measure.name,
            "split": self.measure.split,
            "cells": [row.as_dict() | {"best": self.is_best(row, self.rows)} for row in self.rows],
            "paired": [asdict(each) for each in self.paired()],
        }

    def paired(self) -> list[PairedDifference]:
        """Return the difference of each cell to the first, over the seeds that both have, at least two."""
        found = []
        for row in self.rows[1:]:
            first = self.rows[0]
            shared = sorted(first.scores.keys() & row.scores.keys())
            if len(shared) > 1 and first.values["classes"] == row.values["classes"]:
                each = [row.scores[seed] - first.scores[seed] for seed in shared]
                half = t_quantile(len(each) - 1) * stdev(each) / len(each) ** 0.5
                low, high = fmean(each) - half, fmean(each) + half
                found.append(
                    PairedDifference(row.name, first.name, len(each), fmean(each), low, high)
                )
        return found

    def is_best(self, row: CellRow, rivals: Iterable[CellRow]) -> bool:
        """True if no rival with as many classes has a better mean, and there are several."""
        same = [each for each in rivals if each.values["classes"] == row.values["classes"]]
        means = [each.mean for each in same if each.mean is not None]
        return len(means) > 1 and row.mean == self.measure.best(means)

    def check_name(self, name: str, purpose: str) -> None:
        """Check that a name is an axis or a fact. Raises UserError if not."""
        known = list(dict.fromkeys([*self.axes, *FACTS]))
        if name not in known:
            raise UserError(f"there is no `{name}` to {purpose}; {instead(name, known)}")

    def varying(self) -> list[str]:
        """Return the names that tell the rows apart: the axes, then facts that differ otherwise."""
        names = list(self.axes)
        for name in FACTS:
            found = [str(row.values[name]) for row in self.rows]
            known = any([str(row.values[axis]) for row in self.rows] == found for axis in names)
            # The connection and the rule say what the wiring is.
            if name not in ("wiring", *names) and len(set(found)) > 1 and not known:
                names.append(name)
        return names

    def distinguishing(self, given: Sequence[str]) -> list[str]:
        """Return the fewest names that tell apart the rows that agree in ``given``.

        A network's name is dropped first, since it implies the connection, rule and depth.
        """
        kept = list(dict.fromkeys([*self.axes, "wiring", *FACTS]))
        facts = ("network", "recipe", "T", "connection", "rule", "depth", "classes")
        for name in (*facts, *self.axes, "wiring"):
            rest = [each for each in kept if each != name]
            if name in kept and self.are_distinct([*rest, *given]):
                kept = rest
        return kept

    def are_distinct(self, names: Sequence[str]) -> bool:
        """True if no two rows agree in all these names."""
        found = {tuple(str(row.values[name]) for name in names) for row in self.rows}
        return len(found) == len(self.rows)


def read_results(
    folder: Path,
    accuracy: Accuracy = "last",
    select_on: SelectOn = "val",
    record: Mapping[str, Any] | None = None,
) -> GridResults:
    """Read the folder of a grid, or take its ``record``. Raises UserError if there is none, or it is damaged.

    The best epoch is that on the validation images, or on the test images if the user accepts that.
    """
    record = record or record_if_any(folder / GRID)
    if record is None:
        raise UserError(f"{folder / GRID} does not exist, so there is nothing to report")
    try:
        trained = {
            run["directory"]: epochs_in(within(folder, run["directory"]) / TRAINING)
            for cell in record["cells"]
            for run in cell["runs"]
        }
        data = str(record["data"])
        flat = (epoch for epochs in trained.values() for epoch in epochs)
        over_epochs = measure_of(flat, "val" if has_validation(data) else "test")
        measure = over_epochs if accuracy == "best" else replace(over_epochs, split="test")
        axes = tuple(map(str, record["axes"]))
        found = GridResults(data, axes, accuracy, (), measure, over_epochs)
        rows = tuple(_row(cell, trained, found) for cell in record["cells"])
        if accuracy == "best":
            refuse_test("the best epoch", data, select_on)
        return replace(found, rows=rows)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / GRID}, or the training.json of a run there, is damaged: it is not as it was "
            f"written ({type(error).__name__}: {error})"
        ) from error


def _row(
    cell: Mapping[str, Any], trained: Mapping[str, list[dict[str, Any]]], results: GridResults
) -> CellRow:
    """Return the row of a cell. ``trained`` has the epochs of each run by its directory."""
    facts, measure, over_epochs = cell["facts"], results.measure, results.over_epochs
    failed = {run["seed"]: run["error"] for run in cell["runs"] if run["state"] == "failed"}
    complete = {
        run["seed"]: trained[run["directory"]]
        for run in cell["runs"]
        if run["seed"] not in failed and len(trained[run["directory"]]) == sum(facts["epochs"])
    }
    values: dict[str, Callable[..., float]] = {over_epochs.curve: over_epochs.of}
    values |= {name: itemgetter(name) for name in measure.trained}
    curves = {
        name: {seed: tuple(map(value, epochs)) for seed, epochs in complete.items()}
        for name, value in values.items()
    }
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
            seed: measure.best(map(measure.of, epochs))
            if results.accuracy == "best"
            else measure.of(epochs[-1])
            for seed, epochs in complete.items()
        },
        curves=curves,
        errors=failed,
    )


def wiring(connection: str, rule: str) -> str:
    """Return a text such as ``origin by densely_additive``; the rule ``chain`` is left out."""
    return " by ".join(part for part in (connection, rule) if part not in ("", "chain"))


HEADS = {"parameters": "params", "cost": "epochs x T"}


def table(results: GridResults, columns: Sequence[str] = ()) -> Table:
    """Return a row for each cell; with ``columns``, spread the values of these axes or facts.

    As in Tables II and III, the best cell of a row with the same number of classes is marked; if each
    number of classes is one column, the best cell of each column. The parameters and the cost are
    shown if they are the same for all cells of a row. Raises UserError if a name is unknown, or if two
    cells have the same place.
    """
    rows, measure = results.rows, results.measure
    for column in columns:
        results.check_name(column, "make columns of")
    names = results.distinguishing(columns) if columns else results.varying()
    if columns and not results.are_distinct([*names, *columns]):
        across = ", ".join(columns)
        raise UserError(f"several cells would share a place of a table with {across} across")
    numeric = {
        name: all(isinstance(row.values[name], (int, float)) for row in rows)
        for name in (*names, *columns)
    }

    def place(row: CellRow) -> str:
        values = ((each, str(row.values[each])) for each in columns)
        return ", ".join(f"{each} {text}" if numeric[each] else text for each, text in values)

    groups: dict[object, dict[str, CellRow]] = {}
    for row in rows:
        key = tuple(str(row.values[name]) for name in names) if columns else row.name
        groups.setdefault(key, {})[place(row)] = row
    shared = [
        name
        for name in HEADS
        if all(len({getattr(row, name) for row in each.values()}) == 1 for each in groups.values())
    ]
    places = list(dict.fromkeys(map(place, rows)))
    last: dict[str, Callable[[CellRow], str]] = {}
    if not columns and any(len(row.seeds) > 1 for row in rows):
        last["runs"] = lambda row: str(len(row.scores))
    if not columns and any(row.state != "done" for row in rows):
        last["state"] = lambda row: row.state
    body = []
    for group in groups.values():
        first = next(iter(group.values()))
        cells = [Cell(str(first.values[name])) for name in names]
        cells += [Cell(f"{getattr(first, name):,}") for name in shared]
        for found in map(group.get, places if columns else group):
            if found is None:
                cells.append(Cell("-"))
                continue
            classes = [each.values["classes"] for each in group.values()]
            alone = classes.count(found.values["classes"]) == 1
            best = results.is_best(found, results.rows if alone else group.values())
            cells.append(Cell(measure.text(found.mean, found.deviation), best, found.mean))
        body.append((*cells, *(Cell(show(first)) for show in last.values())))
    head = f"{'best ' * (results.accuracy == 'best')}{measure.head}"
    if results.accuracy == "best" or results.over_epochs.split == "val":
        places = [f"{each}, {head}" for each in places]
    heads = (*names, *(HEADS[name] for name in shared), *(places if columns else [head]), *last)
    right = {number for number, name in enumerate(names) if numeric[name]}
    right |= {*range(len(names), len(heads) - ("state" in last))}
    return Table(heads, tuple(body), frozenset(right))
