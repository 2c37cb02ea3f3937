"""Figures of measures in the style of the paper's Figs. 3, 8, 9 and 10, for one network or several.

They need matplotlib (``danetc[plot]``). Networks differ by line, marker and grey value too, so that
a print in black and white tells them apart. Hollow markers are interblock neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from danetc.runtime.measure.distribution import densities
from danetc.runtime.measure.layout import Layout
from danetc.runtime.measure.run import Measures
from danetc.runtime.system.figures import (
    STYLES,
    WITHOUT,
    can_plot,
    in_figure,
    new_figure,
    save_figure,
)

_PANEL = 5.4, 3.2  # inches


class PlottedNetwork(NamedTuple):
    """A measured network and what the figures call it."""

    label: str
    layout: Layout
    measures: Measures


def draw_all(entries: Sequence[PlottedNetwork], folder: Path, ending: str = ".svg") -> list[Path]:
    """Draw the measures that all entries have into files of ``folder``, and return their paths.

    Raises ImportError without matplotlib.
    """
    if not can_plot():
        raise ImportError(WITHOUT, name="matplotlib")
    entries = [entry._replace(label=in_figure(entry.label)) for entry in entries]
    written = []
    for name, draw in FIGURES.items():
        if all(getattr(entry.measures, name) is not None for entry in entries):
            path = folder / f"{name}{ending}"
            save_figure(draw(entries), path)
            written.append(path)
    return written


def firing_rate(entries: Sequence[PlottedNetwork]) -> Any:
    """Firing rates by layer of the main path (Figs. 3 and 9) and their means (Fig. 3c)."""
    lines = [
        _Line(entry, [each for each in entry.measures.firing_rate.layers if each.main], "rate")
        for entry in entries
        if entry.measures.firing_rate is not None
    ]
    figure, left, right = _layers_and_bars(entries)
    _by_layer(left, lines, "firing rate")
    left.set_ylim(bottom=0)
    means = [
        entry.measures.firing_rate.mean_of_layers for entry in entries if entry.measures.firing_rate
    ]
    if right is not None:
        _bars(right, entries, means, "mean firing rate", "{:.3f}")
    return figure


def gradient_stability(entries: Sequence[PlottedNetwork]) -> Any:
    """Gradient stability by layer (Figs. 8 and 10) and the geometric mean per layer."""
    found = [entry.measures.gradient_stability for entry in entries]
    lines = [
        _Line(entry, [each for each in one.layers if each.main], "stability")
        for entry, one in zip(entries, found, strict=True)
        if one is not None
    ]
    figure, left, right = _layers_and_bars(entries)
    _by_layer(left, lines, "gradient stability dO/dV")
    left.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
    left.set_ylim(bottom=0)
    if right is not None:
        means = [one.geometric_mean for one in found if one is not None]
        _bars(right, entries, means, "geometric mean per layer", "{:.3f}")
    return figure


def potential(entries: Sequence[PlottedNetwork]) -> Any:
    """Membrane potentials before the reset: a column of densities for each layer."""
    figure, panels = _panels(entries)
    for axes, entry in zip(panels, entries, strict=True):
        found = entry.measures.potential
        assert found is not None
        layers = [each for each in found.layers if each.main]
        _columns(axes, [each.distribution for each in layers])
        _steps(axes, [each.threshold for each in layers], "threshold")
        _panel(axes, entry, "membrane potential V", len(layers))
    _legend(figure, panels)
    return figure


def neuron_input(entries: Sequence[PlottedNetwork]) -> Any:
    """Mean and deviation of what neurons take, and those of N(0, V_th^2)."""
    figure, panels = _panels(entries)
    for axes, entry in zip(panels, entries, strict=True):
        found = entry.measures.input
        assert found is not None
        layers = [each for each in found.layers if each.main]
        x = range(1, len(layers) + 1)
        for (colour, line, marker), name in zip(STYLES, ("mean", "std"), strict=False):
            values = [getattr(each.distribution, name) for each in layers]
            axes.plot(x, values, color=colour, linestyle=line, marker=marker, ms=3, label=name)
        axes.axhline(0, color="0.6", linewidth=0.8)
        thresholds = [each.threshold for each in layers]
        if all(value is not None for value in thresholds):
            _steps(axes, [value or 0.0 for value in thresholds], "threshold")
        _panel(axes, entry, "input of the neurons X", len(layers))
    _legend(figure, panels)
    return figure


def gradients(entries: Sequence[PlottedNetwork]) -> Any:
    """Norms of the weights' gradients by layer, whole and in parts."""
    figure, panels = _panels(entries)
    for axes, entry in zip(panels, entries, strict=True):
        found = entry.measures.gradients
        assert found is not None
        wanted = {f"{layer.name}.weight" for layer in entry.layout.weights if layer.main}
        norms = [each for each in found.parameters if each.parameter in wanted]
        x = range(1, len(norms) + 1)
        parts = zip(STYLES, ("whole", "spatial", "temporal", "direct"), strict=False)
        for (colour, line, marker), name in parts:
            values = [getattr(each, name) or float("nan") for each in norms]
            if any(value == value for value in values):  # nan for parts of 0
                axes.plot(x, values, color=colour, linestyle=line, marker=marker, ms=3, label=name)
        axes.set_yscale("log")
        _panel(axes, entry, "norm of dL/dW", len(norms), "weight layer on the main path")
    _legend(figure, panels)
    return figure


def values(entries: Sequence[PlottedNetwork]) -> Any:
    """Outputs of blocks: the range in grey, one deviation around the mean in black.

    The ranges of spikes, counts and real numbers differ too much for a common y axis.
    """
    figure, panels = _panels(entries, shared=False)
    for axes, entry in zip(panels, entries, strict=True):
        found = entry.measures.values
        assert found is not None
        axes.use_sticky_edges = False  # bars may begin below the rest
        blocks = [block for stage in found.stages for block in stage.blocks]
        x = range(1, len(blocks) + 1)
        least, most, means = ([getattr(b, n) for b in blocks] for n in ("least", "most", "mean"))
        heights = [high - low for low, high in zip(least, most, strict=True)]
        axes.bar(x, heights, 0.7, least, color="0.8", label="least to most")
        axes.vlines(
            x, [max(block.mean - block.std, block.least) for block in blocks],
            [min(block.mean + block.std, block.most) for block in blocks],
            color="black", linewidth=1.5, label="one deviation around the mean",
        )  # fmt: skip
        axes.plot(x, means, "o", color="black", ms=3, label="mean")
        place = 0
        for stage in found.stages:
            place += len(stage.blocks)
            axes.axvline(place + 0.5, color="0.5", linewidth=0.6, linestyle=":")
        axes.axhline(0, color="0.4", linewidth=0.8)
        _panel(axes, entry, "output of the block", place, "block (dotted: end of a stage)")
    _legend(figure, panels)
    return figure


def operations(entries: Sequence[PlottedNetwork]) -> Any:
    """Energy of one image by measured rates, and for dense computation."""
    figure = new_figure(7.2, len(entries) * 0.75 + 1.2)
    axes = figure.subplots()
    names, y = [], 0
    for entry in entries:
        found = entry.measures.operations
        assert found is not None
        model = found.model
        spent = [1e6 * model.joules(found.additions, 0), 1e6 * model.joules(0, found.macs)]
        axes.barh(y, spent[0], color="0.75", edgecolor="black")
        axes.barh(y, spent[1], left=spent[0], color="white", edgecolor="black", hatch="///")
        axes.barh(y + 1, 1e6 * found.dense_energy, color="0.35", edgecolor="black")
        for row, value in ((y, sum(spent)), (y + 1, 1e6 * found.dense_energy)):
            axes.annotate(
                f"{value:.3g}", (value, row), (3, 0), textcoords="offset points", va="center"
            )
        names += [entry.label, f"{entry.label}, dense"]
        y += 2
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("microjoules an image: additions (grey), multiply-accumulates (hatched)")
    return figure


FIGURES: Mapping[str, Callable[[Sequence[PlottedNetwork]], Any]] = {
    "firing_rate": firing_rate,
    "gradient_stability": gradient_stability,
    "potential": potential,
    "input": neuron_input,
    "gradients": gradients,
    "values": values,
    "operations": operations,
}
"""The figure of each measure, by its name in ``Measures``."""


# -- parts -----------------------------------------------------------------------------------------


class _Line(NamedTuple):
    entry: PlottedNetwork
    layers: Sequence[Any]
    value: str


def _by_layer(axes: Any, lines: Sequence[_Line], name: str) -> None:
    """A line a network over the layers of its main path, interblock neurons hollow."""
    longest = max((len(line.layers) for line in lines), default=0)
    size = 4.5 if longest < 40 else 3 if longest < 80 else 2
    hollow = False
    for line, (colour, dash, marker) in zip(lines, cycle(STYLES), strict=False):
        y = [getattr(each, line.value) for each in line.layers]
        x = list(range(1, len(y) + 1))
        axes.plot(
            x, y, color=colour, linestyle=dash, linewidth=1.1, marker=marker, ms=size,
            label=line.entry.label,
        )  # fmt: skip
        inter = [place for place, each in enumerate(line.layers) if each.interblock]
        hollow = hollow or bool(inter)
        axes.plot(
            [x[place] for place in inter], [y[place] for place in inter], linestyle="",
            marker=marker, ms=size, color=colour, markerfacecolor="white",
        )  # fmt: skip
    ends = {tuple(_stage_ends(line)) for line in lines}
    if len(ends) == 1:  # networks of one backbone
        for end in ends.pop():
            axes.axvline(end + 0.5, color="0.6", linewidth=0.6, linestyle=":")
    axes.set_xlabel("neuron layer on the main path" + (" (hollow: interblock)" if hollow else ""))
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(integer=True))
    if len(lines) == 1:
        axes.set_title(lines[0].entry.label, fontsize="medium")
    else:
        axes.figure.legend(loc="outside upper left", ncols=len(lines), fontsize="small")


def _stage_ends(line: _Line) -> list[int]:
    """Return the numbers of layers on the main path after which stages end."""
    stages = {layer.name: layer.stage for layer in line.entry.layout.neurons}
    of = [stages[each.layer] for each in line.layers]
    return [place for place in range(1, len(of)) if of[place] != of[place - 1]]


def _bars(
    axes: Any, entries: Sequence[PlottedNetwork], values: Sequence[float], name: str, form: str
) -> None:
    hatches = ("", "///", "---", "xxx", "|||", "+++")  # no dots, which make large files
    names = [entry.label for entry in entries]
    bars = axes.bar(names, values, color="white", edgecolor="black")
    for bar, (colour, _, _), hatch in zip(bars, cycle(STYLES), cycle(hatches), strict=False):
        bar.set(hatch=hatch, edgecolor=colour)
    axes.bar_label(bars, [form.format(value) for value in values], padding=2, fontsize="small")
    axes.margins(y=0.15)
    axes.set_ylabel(name)
    if len(entries) > 2:
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")


def _columns(axes: Any, found: Sequence[Any]) -> None:
    """Densities as grey columns, the darkest where each is highest; the mean as a line."""
    low, high, rows = densities(found)
    axes.imshow(
        rows, origin="lower", aspect="auto", cmap="Greys", interpolation="nearest",
        extent=(0.5, len(found) + 0.5, low, high),
    )  # fmt: skip
    x = range(1, len(found) + 1)
    axes.plot(x, [each.mean for each in found], "o-", color="#d55e00", ms=2.5, lw=1, label="mean")


def _steps(axes: Any, heights: Sequence[float], name: str) -> None:
    """A height of each layer, as a line of steps."""
    edges = [0.5 + place for place in range(len(heights) + 1)]
    axes.stairs(heights, edges, baseline=None, color="black", linestyle="--", label=name)


def _panel(
    axes: Any,
    entry: PlottedNetwork,
    name: str,
    count: int,
    across: str = "neuron layer on the main path",
) -> None:
    """Titles and axes of a panel over ``count`` layers or blocks."""
    axes.set(xlabel=across, ylabel=name, xlim=(0.4, count + 0.6))
    axes.set_title(entry.label, fontsize="medium")
    axes.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(integer=True))


def _legend(figure: Any, panels: Sequence[Any]) -> None:
    """One for all panels, above them, where it hides nothing."""
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(
        found.values(), found.keys(), loc="outside upper center", ncols=len(found), fontsize="small"
    )


def _layers_and_bars(entries: Sequence[PlottedNetwork]) -> tuple[Any, Any, Any | None]:
    """A wide panel, and a narrow one beside it where there are networks to compare."""
    if len(entries) == 1:
        figure = new_figure(1.25 * _PANEL[0], _PANEL[1])
        return figure, figure.subplots(), None
    figure = new_figure(1.75 * _PANEL[0], _PANEL[1])
    left, right = figure.subplots(1, 2, width_ratios=(3, 1.1))
    return figure, left, right


def _panels(entries: Sequence[PlottedNetwork], *, shared: bool = True) -> tuple[Any, list[Any]]:
    """A panel an entry, two in a row, with one y axis where it is ``shared``."""
    columns = min(2, len(entries))
    rows = ceil(len(entries) / columns)
    figure = new_figure(columns * _PANEL[0], rows * _PANEL[1])
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=shared).flat)
    for unused in panels[len(entries) :]:
        unused.set_axis_off()
    return figure, panels[: len(entries)]
