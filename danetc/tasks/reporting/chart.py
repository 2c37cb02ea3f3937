"""Curves as lines of our own: a page needs no library for them, and every point has its words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

from danetc.tasks.reporting.layer_values import LayerMeasure, layer_name, neurons_in_order
from danetc.tasks.reporting.runs import ShownRun

WIDTH, HEIGHT = 520.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 10.0, 36.0
_FOR_NAMES = 76.0  # more below a chart whose axis names layers
_MOST_NAMES = 34  # on an axis
_PLAIN = {"stages", "blocks"}  # of a layer's name: what an axis has no room for
_MARKERS = 40  # a line of more points has no marker at each
_GROUND = 1e-12  # a factor below it is drawn there


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    words: str


@dataclass(frozen=True)
class Series:
    """A line. ``run`` is the run's index, which gives it its colour and marker; a ``faint`` one is
    dashed."""

    name: str
    run: int
    points: tuple[Point, ...]
    faint: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over whole numbers (epochs, layers); ``logarithmic`` is the y axis. ``names`` are what the
    numbers stand for, where that is said."""

    key: str
    title: str
    across: str
    up: str
    series: tuple[Series, ...]
    logarithmic: bool = False
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def height(self) -> float:
        return HEIGHT + (_FOR_NAMES if self.names else 0.0)

    @cached_property
    def _x(self) -> tuple[float, float]:
        xs = [point.x for line in self.series for point in line.points]
        low, high = min(xs), max(xs)
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    @cached_property
    def _y(self) -> tuple[float, float]:
        ys = [self._scaled(point.y) for line in self.series for point in line.points]
        low, high = min(ys), max(ys)
        if not self.logarithmic and low >= 0 and low < high / 2:
            low = 0.0
        pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        return (low if low == 0 else low - pad), high + pad

    def _scaled(self, y: float) -> float:
        return math.log10(max(y, _GROUND)) if self.logarithmic else y

    def across_at(self, x: float) -> float:
        low, high = self._x
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up_at(self, y: float) -> float:
        return self._up(self._scaled(y))

    def _up(self, scaled: float) -> float:
        low, high = self._y
        return HEIGHT - BOTTOM - (scaled - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def path(self, line: Series) -> str:
        return " ".join(f"{self.across_at(p.x):.1f},{self.up_at(p.y):.1f}" for p in line.points)

    def markers(self, line: Series) -> list[tuple[float, float]]:
        """Where markers stand: at each point, or at some where there are many."""
        every = max(1, len(line.points) // _MARKERS + 1)
        shown = line.points[::every] if every > 1 else line.points
        return [(self.across_at(p.x), self.up_at(p.y)) for p in shown]

    @property
    def ticks_across(self) -> list[tuple[float, str]]:
        if self.names:
            every = math.ceil(len(self.names) / _MOST_NAMES)
            return [(self.across_at(at), name) for at, name in [*self.names.items()][::every]]
        low, high = self._x
        steps = [at for at in _ticks(low, high, 8) if at == int(at)]
        return [(self.across_at(at), f"{at:.0f}") for at in steps]

    @property
    def ticks_up(self) -> list[tuple[float, str]]:
        low, high = self._y
        if not self.logarithmic:
            return [(self._up(at), f"{at:g}") for at in _ticks(low, high, 6)]
        return [(self._up(math.log10(at)), f"{at:g}") for at in _powers(10**low, 10**high)]

    @property
    def stops(self) -> list[dict[str, object]]:
        """What the script tells at each x: its place, and the words of each line by its run."""
        found: dict[float, list[tuple[int, str]]] = {}
        for line in self.series:
            for point in line.points:
                found.setdefault(point.x, []).append((line.run, f"{line.name}: {point.words}"))
        return [
            {"x": round(self.across_at(x), 1), "at": f"{self.across} {x:.0f}", "lines": lines}
            for x, lines in sorted(found.items())
        ]


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two values."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: powers of ten, with numbers between where these are few."""
    span = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        found = [
            d * 10.0**power for power in span for d in digits if low <= d * 10.0**power <= high
        ]
        if len(found) >= 3:
            return found[:: max(1, math.ceil(len(found) / 7))]
    return [float(f"{at:.3g}") for at in _ticks(low, high, 4)]


def training_charts(runs: Sequence[ShownRun]) -> list[Chart]:
    """Loss and accuracy of every epoch, the training data's dashed. None where nothing was trained."""
    charts = (
        ("loss", "Loss", "loss", "{:.4f}"),
        ("accuracy", "Accuracy (top-1)", "accuracy", "{:.2%}"),
    )
    found = []
    for key, title, up, form in charts:
        series = []
        for index, run in enumerate(runs):
            for split in ("train", "test"):
                points = []
                for number, epoch in enumerate(run.epochs, 1):
                    value = epoch.get(f"{split}_{key}")
                    if isinstance(value, (int, float)) and math.isfinite(value):
                        points.append(Point(number, value, form.format(value)))
                if points:
                    name = f"{run.label}, {split}"
                    series.append(Series(name, index, tuple(points), split == "train"))
        if series:
            found.append(Chart(key, title, "epoch", up, tuple(series)))
    return found


def layer_charts(runs: Sequence[ShownRun], measures: Sequence[LayerMeasure]) -> list[Chart]:
    """Measures of each neuron layer, in the order of the forward pass (Figs. 8 to 10)."""
    found = []
    for measure in measures:
        series = []
        for index, run in enumerate(runs):
            values = measure.of(run.measures)
            names = [layer_name(node) for node in neurons_in_order(run.graph)]
            points = [
                Point(i, values[name], f"{measure.words(values[name])}, {name}")
                for i, name in enumerate(names, 1)
                if name in values
            ]
            if points:
                series.append(Series(run.label, index, tuple(points)))
        if series:
            factor = measure.mean == "geometric"
            title = f"{measure.title.capitalize()} by layer"
            chart = Chart(measure.key, title, "layer", measure.title, tuple(series), factor)
            drawn = {int(point.x) for line in series for point in line.points}
            found.append(replace(chart, names=_layer_names(runs, drawn)))
    return found


def _layer_names(runs: Sequence[ShownRun], places: Set[int]) -> dict[int, str]:
    """Layers of neurons by place, in short; where runs have different layers there, the place."""
    of_runs = [[layer_name(node) for node in neurons_in_order(run.graph)] for run in runs]
    found = {}
    for place in sorted(places):
        names = {names[place - 1] for names in of_runs if place <= len(names)}
        short = ".".join(part for part in min(names).split(".") if part not in _PLAIN)
        found[place] = short if len(names) == 1 else str(place)
    return found
