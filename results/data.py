"""Data of results/: trained cells as JSON, older runs, and published numbers."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import attrgetter
from pathlib import Path
from statistics import NormalDist, mean, stdev
from typing import Any, Protocol

from danetc.tasks.grid.results import t_quantile

HERE = Path(__file__).resolve().parent

CHAIN, EQ_11 = "chain", "densely_additive"
ALL, AFTER = "densely_additive_all", "densely_additive_after_opening"
RULES = {
    CHAIN: "Origin",
    EQ_11: "DANet-C (Eq. 11)",
    ALL: "Listing 1",
    AFTER: "Listing 1 after the opening block",
}
"""Names of Origin's blocks under each rule."""


@dataclass(frozen=True)
class Layer:
    """A layer of neurons of a trained network. ``stage`` and ``block`` are None in the stem and the head."""

    name: str
    main: bool
    interblock: bool
    rate: float
    dodv: float

    @property
    def stage(self) -> int | None:
        parts = self.name.split(".")
        return int(parts[1]) if parts[0] == "stages" else None

    @property
    def block(self) -> int | None:
        parts = self.name.split(".")
        return int(parts[3]) if len(parts) > 3 and parts[2] == "blocks" else None


@dataclass(frozen=True)
class Cell:
    """A trained network: the JSON file written by ``results/run.py``."""

    name: str
    record: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return int(self.record["seed"])

    @property
    def axes(self) -> Mapping[str, Any]:
        axes: Mapping[str, Any] = self.record["axes"]
        return axes

    @property
    def classes(self) -> int:
        return int(self.axes.get("classes", 10))

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch, in per cent."""
        return 100 * float(self.record["epochs"][-1]["test_accuracy"])

    @property
    def stability(self) -> float:
        """dO/dV per layer: geometric mean over the main path."""
        return float(self.record["dodv_a_layer"])

    @property
    def log10_product(self) -> float:
        return float(self.record["log10_product"])

    @property
    def firing_rate(self) -> float:
        return float(self.record["firing_rate"])

    @property
    def train_loss(self) -> float:
        return float(self.record["epochs"][-1]["train_loss"])

    def after(self, phase: str) -> float:
        """Test accuracy after the last epoch of a phase, in per cent."""
        found = [each for each in self.record["epochs"] if each["phase"] == phase]
        return 100 * float(found[-1]["test_accuracy"])

    @cached_property
    def layers(self) -> list[Layer]:
        return [
            Layer(each["layer"], each["main"], each["interblock"], each["rate"], each["dodv"])
            for each in self.record["layers"]
        ]

    @property
    def interblock(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.interblock and layer.main]

    @property
    def interblock_dodv(self) -> float:
        """Geometric mean of dO/dV over the interblock neurons of all stages."""
        return geometric([layer.dodv for layer in self.interblock])


OF_PAPER = ("paper", "digits")
"""Folders with the cells of the paper's tables and figures."""
DIGITS = "digits_14"
"""Recipe of the cells that are trained on digits; the others are trained on Fashion-MNIST."""


def read_cells(*folders: str) -> list[Cell]:
    """Return all finished trainings in these folders (default: ``OF_PAPER``), ordered by file name."""
    return [cell for cell in _all_cells(folders) if "diverged" not in cell.record]


def read_diverged(*folders: str) -> list[Cell]:
    """Return the trainings that diverged to NaN, with the epochs before that."""
    return [cell for cell in _all_cells(folders) if "diverged" in cell.record]


def _all_cells(folders: Sequence[str]) -> list[Cell]:
    return [cell for folder in folders or OF_PAPER for cell in _cells(HERE / folder / "cells")]


@cache
def _cells(folder: Path) -> tuple[Cell, ...]:
    return tuple(Cell(path.stem, read(path)) for path in sorted(folder.glob("*.json")))


def on_fashion_mnist(cells: Sequence[Cell], classes: int = 10, steps: int = 1) -> list[Cell]:
    """Return the cells of one task, since accuracies of different tasks are not comparable."""
    return [
        cell
        for cell in cells
        if cell.record["recipe"] != DIGITS and cell.classes == classes and cell.record["T"] == steps
    ]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def pick(
    cells: Sequence[Cell],
    *,
    connection: str,
    rule: str = CHAIN,
    depth: int | None = None,
    n: int | None = None,
    zero_init: bool = False,
    classes: int = 10,
    recipe: str = "one_step",
) -> list[Cell]:
    """Return the cells of a network in one of the paper's shapes (``depth``) or with ``n`` blocks a
    stage, ordered by seed.

    With two blocks a stage, Eq. 11 and Listing 1 after the opening block equal the chain
    (tests/differential/test_readings.py), so its cells are returned if they have none.
    """

    def found(rule: str) -> list[Cell]:
        wanted: dict[str, Any] = {"connection": connection, "rule": rule}
        wanted |= {"depth": depth} if n is None else {"n": n}
        if connection != "dense_layer":
            wanted["zero_init"] = zero_init
        else:
            del wanted["connection"], wanted["rule"]
        return [
            cell
            for cell in cells
            if all(cell.axes.get(name) == value for name, value in wanted.items())
            and (cell.record["network"] == "densenet") == (connection == "dense_layer")
            and cell.classes == classes
            and cell.record["recipe"] == recipe
        ]

    own = found(rule)
    if not own and rule in (EQ_11, AFTER) and (depth == 18 or n == 2):
        own = found(CHAIN)
    return sorted(own, key=lambda cell: cell.seed)


# -- figures of several ----------------------------------------------------------------------------

MISSING = "–"
"""Table entry for networks that are not trained yet."""


def shown(values: Sequence[float], digits: int = 1) -> str:
    """Return the mean, sample standard deviation and number of values, one value per seed."""
    if not values:
        return MISSING
    text = f"{mean(values):.{digits}f}"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{text}{spread} ({len(values)})"


SUPPORTED, CONTRADICTED, OPEN = "supported", "contradicted", "open"


@dataclass(frozen=True)
class Interval:
    """Mean difference of ``pairs`` paired values with its 95 % interval, unbounded for one pair."""

    pairs: int
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Verdict on the claim that the difference is positive."""
        return SUPPORTED if self.low > 0 else CONTRADICTED if self.high < 0 else OPEN

    def text(self, digits: int = 1) -> str:
        bounds = f" [{self.low:+.{digits}f}, {self.high:+.{digits}f}]" if self.pairs > 1 else ""
        return f"{self.mean:+.{digits}f}{bounds} ({self.pairs})"


def interval(differences: Sequence[float]) -> Interval:
    """Return the mean of the differences with its 95 % interval by the t distribution."""
    count, middle = len(differences), mean(differences)
    if count == 1:
        return Interval(1, middle, -math.inf, math.inf)
    half = t_quantile(count - 1) * stdev(differences) / math.sqrt(count)
    return Interval(count, middle, middle - half, middle + half)


class Seeded(Protocol):
    """A trained network with its seed, such as ``Cell`` and ``Older``."""

    @property
    def seed(self) -> int: ...
    @property
    def accuracy(self) -> float: ...


def paired(
    first: Sequence[Seeded],
    second: Sequence[Seeded],
    value: Callable[[Any], float] = attrgetter("accuracy"),
) -> Interval | None:
    """Return the interval of first minus second over the seeds of both, None if they share none."""
    other = {cell.seed: value(cell) for cell in second}
    differences = [value(cell) - other[cell.seed] for cell in first if cell.seed in other]
    return interval(differences) if differences else None


def verdict(intervals: Iterable[Interval]) -> str:
    """Return the verdict on a claim that all differences are positive: one of the other sign suffices
    to contradict it."""
    found = {each.verdict for each in intervals}
    return CONTRADICTED if CONTRADICTED in found else OPEN if found != {SUPPORTED} else SUPPORTED


def geometric(values: Sequence[float]) -> float:
    """Return the geometric mean, or 0 if a value is 0."""
    if min(values) <= 0:
        return 0.0
    return math.exp(mean(map(math.log, values)))


def ranks(values: Sequence[float]) -> list[float]:
    """Return ranks from 1; equal values share the mean of their ranks."""
    order = sorted(values)
    return [order.index(value) + (order.count(value) + 1) / 2 for value in values]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's correlation, or None for fewer than three values or a constant sequence."""
    if len(first) < 3:
        return None
    a, b = ranks(first), ranks(second)
    over_a = [rank - mean(a) for rank in a]
    over_b = [rank - mean(b) for rank in b]
    size = math.sqrt(sum(x * x for x in over_a) * sum(x * x for x in over_b))
    if size == 0:
        return None
    return sum(x * y for x, y in zip(over_a, over_b, strict=True)) / size


# -- the hand model ---------------------------------------------------------------------------------

_NORMAL = NormalDist()
_GRID = [step / 100 for step in range(-800, 801)]


def _slope(x: float) -> float:
    """Return the derivative of the sigmoid surrogate with alpha = 4, which is 1 at the threshold."""
    sigmoid = 1 / (1 + math.exp(-4 * x))
    return 4 * sigmoid * (1 - sigmoid)


@cache
def hand_model(n: int, *, dense: bool) -> tuple[float, ...]:
    """Return dO/dV of the interblock neuron of each of n blocks, at T = 1.

    V is the sum of the branch, N(0, 1), and the shortcut. The shortcut is N(0, 1) in block 0, where it
    has a norm, and later the number of spikes that the rule adds, in a chain those of the previous
    block. A neuron spikes if V >= 1, and the branches are independent.
    """
    weights = [_NORMAL.pdf(x) / 100 for x in _GRID]
    wide = NormalDist(0, math.sqrt(2))
    found = [sum(wide.pdf(x) / 100 * _slope(x - 1) for x in _GRID)]
    one = 1 - wide.cdf(1)
    share = {0: 1 - one, 1: one}  # for each number of spikes
    for _ in range(1, n):
        found.append(
            sum(
                p * sum(w * _slope(x + count - 1) for x, w in zip(_GRID, weights, strict=True))
                for count, p in share.items()
            )
        )
        after: dict[int, float] = {}
        for count, p in share.items():
            fires = 1 - _NORMAL.cdf(1 - count)
            silent, spiking = (count, count + 1) if dense else (0, 1)
            after[silent] = after.get(silent, 0.0) + p * (1 - fires)
            after[spiking] = after.get(spiking, 0.0) + p * fires
        share = after
    return tuple(found)


# -- older runs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Older:
    """A network of results/depth for one seed: accuracy in per cent, and measures."""

    network: str
    depth: int
    seed: int
    accuracy: float
    stability: float | None = None
    firing_rate: float | None = None


def older_accuracies(file: str) -> dict[tuple[str, int], dict[int, float]]:
    """Return the test accuracy in per cent by network, depth and seed, from a file of results/depth."""
    record = read(HERE / "depth" / file)
    return {
        (cell["network"], cell["depth"]): {
            int(seed): 100 * value for seed, value in cell["accuracies"].items()
        }
        for cell in record["cells"]
    }


def older_measured() -> list[Older]:
    """Return the older networks at T = 1 for which both measures and accuracy are stored."""
    first, second = older_accuracies("accuracy.json"), older_accuracies("training.json")
    found = []
    with open(HERE / "depth" / "measures.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            network, *_, seed = row["network"].split()
            if row["T"] != "1":
                continue
            key = network, int(row["depth"])
            known = second.get(key) or first[key]
            found.append(
                Older(
                    *key,
                    int(seed),
                    known[int(seed)],
                    float(row["a layer"]),
                    float(row["firing rate"]),
                )
            )
    return found


# -- what others published --------------------------------------------------------------------------

SEW_LOGS = {
    18: (62.3, 63.2),
    34: (61.9, 67.0),
    50: (57.7, 67.8),
    101: (31.8, 68.8),
    152: (10.0, 69.3),
}
"""Best top-1 on ImageNet of Spiking-ResNet (Origin) and of SEW-ResNet, from the training logs of
SEW's authors (Fang et al., NeurIPS 2021), by depth."""
