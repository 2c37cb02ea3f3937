"""Figures of measures in the style of the paper's Figs. 3, 8, 9 and 10, for one network or several.

They need matplotlib (``danetc[plot]``). Networks differ by line, marker and grey value too, so that
a print in black and white tells them apart. Hollow markers are interblock neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import accumulate, cycle
from math import ceil
from pathlib import Path
from typing import Any

from torch import Tensor

from danetc.runtime.measure.distribution import densities
from danetc.runtime.measure.operations import ADDITION
from danetc.runtime.measure.run import Measures
from danetc.runtime.system.figures import STYLES, in_figure, new_figure, save_figure

_PANEL = 5.4, 3.2  # inches

Entry = tuple[str, Measures]
"""Label and measures of a network."""


def draw_all(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Draw the measures that all entries have into files of ``folder``, and return their paths."""
    shown = [(in_figure(label), measures) for label, measures in entries]
    written = []
    for name, draw in FIGURES.items():
        if all(name in measures.taken() for _, measures in entries):
            written.append(folder / f"{name.replace('-', '_')}.svg")
            save_figure(draw(shown), written[-1])
    return written


# -- a line for each network -----------------------------------------------------------------------


def _lines(
    measure: str, value: str, name: str, mean: str, mean_name: str, entries: Sequence[Entry]
) -> Any:
    """Draw values by layer of the main path, interblock neurons hollow, and means of networks.

    There are bars of means only if there are networks to compare.
    """
    compared = len(entries) > 1
    figure = new_figure((1.75 if compared else 1.25) * _PANEL[0], _PANEL[1])
    ratios = (3, 1.1) if compared else (1,)
    axes, *others = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    found = [getattr(measures, measure) for _, measures in entries]
    layers = [[each for each in one.layers if each.main] for one in found]
    longest = max(map(len, layers))
    size = 4.5 if longest < 40 else 3 if longest < 80 else 2
    ends = set()
    for (label, measures), own, (colour, dash, marker) in zip(
        entries, layers, cycle(STYLES), strict=False
    ):
        y = [getattr(each, value) for each in own]
        style = {"color": colour, "marker": marker, "ms": size}
        x = range(1, len(y) + 1)
        axes.plot(x, y, linestyle=dash, linewidth=1.1, label=label, **style)
        inter = [place for place, each in enumerate(own) if each.interblock]
        hollow = [[each[place] for place in inter] for each in (x, y)]
        axes.plot(*hollow, linestyle="", markerfacecolor="white", **style)
        stages = {layer.name: layer.stage for layer in measures.layout.neurons}
        of = [stages[each.layer] for each in own]
        ends.add(tuple(place for place in range(1, len(of)) if of[place] != of[place - 1]))
    if len(ends) == 1:  # networks of one backbone
        for end in ends.pop():
            axes.axvline(end + 0.5, color="0.6", linewidth=0.6, linestyle=":")
    inner = any(each.interblock for own in layers for each in own)
    axes.set_xlabel("neuron layer on the main path" + (" (hollow: interblock)" if inner else ""))
    axes.set_ylabel(name)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(integer=True))
    if measure == "gradient_stability":
        axes.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
    if not compared:
        axes.set_title(entries[0][0], fontsize="medium")
        return figure
    figure.legend(loc="outside upper left", ncols=len(entries), fontsize="small")
    bars = others[0].bar(
        [label for label, _ in entries], [getattr(one, mean) for one in found],
        color="white", edgecolor=[colour for _, (colour, *_) in zip(entries, cycle(STYLES), strict=False)],
    )  # fmt: skip
    others[0].bar_label(bars, fmt="%.3f", padding=2, fontsize="small")
    others[0].margins(y=0.15)
    others[0].tick_params("x", labelrotation=30 if len(entries) > 2 else 0)
    others[0].set_ylabel(mean_name)
    return figure


# -- a panel for each network ----------------------------------------------------------------------

Draw = Callable[[Any, Any], tuple[str, int]]
"""Draws values into a panel; returns the name of the y axis and the number of places on the x axis."""


def _panels(
    draw: Draw,
    across: str,
    entries: Sequence[tuple[str, Any]],
    *,
    shared: bool = True,
    columns: int = 2,
    size: tuple[float, float] = _PANEL,
) -> Any:
    """Draw a panel for each label and its values, with a common y axis if it is ``shared``."""
    columns = min(columns, len(entries))
    rows = ceil(len(entries) / columns)
    figure = new_figure(columns * size[0], rows * size[1])
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=shared).flat)
    legend: dict[str, Any] = {}
    for axes, (label, values) in zip(panels, entries, strict=False):
        name, count = draw(axes, values)
        axes.set(xlabel=across, ylabel=name, xlim=(0.4, count + 0.6))
        axes.set_title(label, fontsize="medium")
        axes.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(integer=True))
        handles, labels = axes.get_legend_handles_labels()
        legend |= dict(zip(labels, handles, strict=True))
    for unused in panels[len(entries) :]:
        unused.set_axis_off()
    if legend:
        figure.legend(
            legend.values(), legend.keys(), loc="outside upper center", ncols=len(legend),
            fontsize="small",
        )  # fmt: skip
    return figure


def _potential(axes: Any, measures: Measures) -> tuple[str, int]:
    """Membrane potentials: densities of each layer as a grey column, and the mean as a line."""
    assert measures.potential is not None
    layers = [each for each in measures.potential.layers if each.main]
    found = [each.distribution for each in layers]
    low, high, rows = densities(found)
    axes.imshow(
        rows, origin="lower", aspect="auto", cmap="Greys", interpolation="nearest",
        extent=(0.5, len(found) + 0.5, low, high),
    )  # fmt: skip
    x, means = range(1, len(found) + 1), [each.mean for each in found]
    axes.plot(x, means, "o-", color="#d55e00", ms=2.5, lw=1, label="mean")
    _thresholds(axes, [each.threshold for each in layers])
    return "membrane potential V", len(layers)


def _input(axes: Any, measures: Measures) -> tuple[str, int]:
    """Mean and deviation of the inputs of neurons, and those of N(0, V_th^2)."""
    assert measures.input is not None
    layers = [each for each in measures.input.layers if each.main]
    for name, style in zip(("mean", "std"), STYLES, strict=False):
        _curve(axes, [getattr(each.distribution, name) for each in layers], name, style)
    axes.axhline(0, color="0.6", linewidth=0.8)
    thresholds = [each.threshold for each in layers if each.threshold is not None]
    if len(thresholds) == len(layers):
        _thresholds(axes, thresholds)
    return "input of the neurons X", len(layers)


def _gradients(axes: Any, measures: Measures) -> tuple[str, int]:
    """Norms of the weights' gradients, whole and in parts."""
    assert measures.gradients is not None
    wanted = {f"{layer.name}.weight" for layer in measures.layout.weights if layer.main}
    found = measures.gradients.parameters
    norms = [each for each in found if each.parameter.removesuffix("_raw") in wanted]
    for name, style in zip(("whole", "spatial", "temporal", "direct"), STYLES, strict=False):
        values = [getattr(each, name) for each in norms]
        if any(values):
            _curve(axes, [value or float("nan") for value in values], name, style)
    axes.set_yscale("log")
    return "norm of dL/dW", len(norms)


def _values(axes: Any, measures: Measures) -> tuple[str, int]:
    """Outputs of blocks: the range in grey, one deviation around the mean in black."""
    assert measures.values is not None
    axes.use_sticky_edges = False  # bars may begin below the rest
    blocks = [block for stage in measures.values.stages for block in stage.blocks]
    x = range(1, len(blocks) + 1)
    heights = [block.most - block.least for block in blocks]
    axes.bar(x, heights, 0.7, [b.least for b in blocks], color="0.8", label="least to most")
    axes.vlines(
        x, [max(block.mean - block.std, block.least) for block in blocks],
        [min(block.mean + block.std, block.most) for block in blocks],
        color="black", linewidth=1.5, label="one deviation around the mean",
    )  # fmt: skip
    axes.plot(x, [block.mean for block in blocks], "o", color="black", ms=3, label="mean")
    for end in accumulate(len(stage.blocks) for stage in measures.values.stages):
        axes.axvline(end + 0.5, color="0.5", linewidth=0.6, linestyle=":")
    axes.axhline(0, color="0.4", linewidth=0.8)
    return "output of the block", len(blocks)


def _curve(axes: Any, y: Sequence[float], name: str, style: Sequence[Any]) -> None:
    colour, line, marker = style
    x = range(1, len(y) + 1)
    axes.plot(x, y, color=colour, linestyle=line, marker=marker, ms=3, label=name)


def _thresholds(axes: Any, heights: Sequence[float]) -> None:
    """Draw the threshold of each layer as a line of steps."""
    edges = [0.5 + place for place in range(len(heights) + 1)]
    axes.stairs(heights, edges, baseline=None, color="black", linestyle="--", label="threshold")


# -- energy ----------------------------------------------------------------------------------------


def _operations(entries: Sequence[Entry]) -> Any:
    """Energy of one image by measured rates, and for dense computation."""
    figure = new_figure(7.2, len(entries) * 0.75 + 1.2)
    axes = figure.subplots()
    names: list[str] = []
    for label, measures in entries:
        found, y = measures.operations, len(names)
        assert found is not None
        whole, dense, added = 1e6 * found.energy, 1e6 * found.dense_energy, 1e-6 * ADDITION
        axes.barh(y, added * found.additions, color="0.75", edgecolor="black")
        axes.barh(
            y, whole - added * found.additions, left=added * found.additions, color="white",
            edgecolor="black", hatch="///",
        )  # fmt: skip
        axes.barh(y + 1, dense, color="0.35", edgecolor="black")
        for row, value in ((y, whole), (y + 1, dense)):
            axes.annotate(
                f"{value:.3g}", (value, row), (3, 0), textcoords="offset points", va="center"
            )
        names += [label, f"{label}, dense"]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("microjoules an image: additions (grey), multiply-accumulates (hatched)")
    return figure


# -- recordings ------------------------------------------------------------------------------------


def _raster(axes: Any, spikes: Tensor) -> tuple[str, int]:
    """Spikes [T, neurons]: a mark for each."""
    steps, neurons = spikes.nonzero(as_tuple=True)
    width = max(0.3, min(4.0, 60 / spikes.shape[1]))
    axes.hlines(neurons, steps + 0.6, steps + 1.4, "black", lw=width, rasterized=True)
    axes.set_ylim(-0.5, spikes.shape[1] - 0.5)
    return "neuron", len(spikes)


def _traces(axes: Any, values: Mapping[str, Tensor]) -> tuple[str, int]:
    """Values [T] of a neuron: lines, and a mark above for each spike."""
    for name, style in zip(("potential", "current"), STYLES, strict=False):
        _curve(axes, values[name].tolist(), name, style)
    steps = range(1, len(values["spikes"]) + 1)
    axes.plot(steps, values["threshold"], color="0.5", ls=":", label="threshold")
    for step in values["spikes"].nonzero()[:, 0].tolist():
        axes.axvline(step + 1, ymin=0.94, color="black", lw=2)
    return "", len(steps)


draw_raster, draw_traces = (
    partial(_panels, draw, "time step", shared=False, columns=1, size=(3.5, 1.6))
    for draw in (_raster, _traces)
)
"""Figures of recordings as wide as a column, with a panel for each layer or neuron."""

_LAYERS = "neuron layer on the main path"
FIGURES: Mapping[str, Callable[[Sequence[Entry]], Any]] = {
    "firing-rate": partial(
        _lines, "firing_rate", "rate", "firing rate", "mean_of_layers", "mean firing rate"
    ),
    "gradient-stability": partial(
        _lines, "gradient_stability", "stability", "gradient stability dO/dV", "geometric_mean",
        "geometric mean per layer",
    ),
    "potential": partial(_panels, _potential, _LAYERS),
    "input": partial(_panels, _input, _LAYERS),
    "gradients": partial(_panels, _gradients, "weight layer on the main path"),
    "values": partial(_panels, _values, "block (dotted: end of a stage)", shared=False),
    "operations": _operations,
}  # fmt: skip
"""The figure of each measure: Figs. 3 and 9 for firing rates, 8 and 10 for gradient stability. The
ranges of values differ too much for a common y axis."""
