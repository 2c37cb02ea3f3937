"""Figures of results/README.md, drawn from the trained networks. They need matplotlib."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from results import experiments
from results.data import CHAIN, RULES, Cell, pick, read_cells
from results.networks import facts, network_of
from results.tables import BLOCKS, CONNECTIONS, by_network, in_shape_34

STYLES = (
    ("#000000", "-", "o"),
    ("#d55e00", "--", "s"),
    ("#0072b2", "-.", "^"),
    ("#8a8a8a", ":", "D"),
    ("#009e73", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#cc79a7", (0, (1, 1)), "P"),
    ("#56b4e9", (0, (3, 1)), "X"),
    ("#e69f00", (0, (6, 2)), "*"),
)
"""Styles of danetc's figures, which also differ by line, marker and grey value (Okabe and Ito)."""

SAVED = {
    "svg.hashsalt": "results",
    "svg.fonttype": "none",
    "font.size": 8.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


def panels(count: int, width: float = 3.6, height: float = 2.7) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def line(
    axes: Any, x: Sequence[float], y: Sequence[float], style: int, label: str, **more: Any
) -> None:
    colour, dash, marker = STYLES[style % len(STYLES)]
    axes.plot(
        x,
        y,
        color=colour,
        linestyle=dash,
        marker=marker,
        markersize=4,
        linewidth=1.2,
        label=label,
        **more,
    )


def over(
    axes: Any, cells: Mapping[int, Sequence[Cell]], style: int, label: str, **more: Any
) -> None:
    """Plot the mean accuracy over a number, with a dot for each seed."""
    known = {x: [c.accuracy for c in own] for x, own in cells.items() if own}
    if not known:
        return
    line(axes, list(known), [mean(values) for values in known.values()], style, label, **more)
    for x, values in known.items():
        axes.plot([x] * len(values), values, ".", color=STYLES[style][0], markersize=2)


def legend(axes: Any, **more: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6.5, **more)


# -- items 1 and 2 ---------------------------------------------------------------------------------


def architecture(cells: Sequence[Cell]) -> Figure:
    """The paper's [3,4,6,3]: training loss by epoch, and firing rate and dO/dV by layer."""
    figure, (loss, rate, slope) = panels(3)
    place = 0
    for zero in (False, True):
        for rule, name in RULES.items():
            own = pick(cells, connection="origin", rule=rule, depth=34, zero_init=zero)
            if own:
                epochs = own[0].record["epochs"]
                label = name + (", zero-init." if zero else "")
                line(
                    loss,
                    [e["epoch"] for e in epochs],
                    [e["train_loss"] for e in epochs],
                    place,
                    label,
                )
            place += 1
    for style, name in enumerate(("Origin", "DANet-C (Eq. 11)", "tdBN", "DANet-D")):
        connection, rule = CONNECTIONS[name]
        own = pick(cells, connection=connection, rule=rule, depth=34)
        if own:
            main = [layer for layer in own[0].layers if layer.main]
            places = list(range(1, len(main) + 1))
            line(rate, places, [layer.rate for layer in main], style, name)
            line(slope, places, [layer.dodv for layer in main], style, name)
    loss.set(
        title="ResNet-34's shape, seed 0",
        xlabel="epoch",
        ylabel="training loss",
        xticks=[1, 2, 3],
        ylim=(0, 4.4),
    )
    rate.set(title="firing rate (Fig. 9)", xlabel="layer of neurons")
    slope.set(title="dO/dV (Fig. 10), T = 1", xlabel="layer of neurons")
    for axes in (loss, rate, slope):
        legend(axes)
    return figure


def blocks(cells: Sequence[Cell]) -> Figure:
    """Accuracy over blocks a stage."""
    figure, parts = panels(2)
    for axes, start, title in zip(
        parts, (False, True), ("as they start", "zero-initialised"), strict=True
    ):
        for style, (rule, name) in enumerate(RULES.items()):
            found = {
                n: pick(cells, connection="origin", rule=rule, n=n, zero_init=start) for n in BLOCKS
            }
            over(axes, found, style, name)
        if not start:
            found = {n: pick(cells, connection="sew", rule=CHAIN, n=n) for n in BLOCKS}
            over(axes, found, len(RULES), "SEW")
        axes.set(
            title=f"test accuracy, %, {title}",
            xlabel="blocks a stage",
            ylim=(0, 100),
            xlim=(1.8, 20),
            xscale="log",
        )
        axes.set_xticks(BLOCKS, [str(n) for n in BLOCKS])
        axes.minorticks_off()
        legend(axes, loc="lower left")
    return figure


# -- what predicts accuracy ------------------------------------------------------------------------


def paths(cells: Sequence[Cell]) -> Figure:
    """Accuracy of networks in ResNet-34's shape over the fewest neurons on a path, and over dO/dV."""
    figure, (fewest, slopes) = panels(2, 4.0, 2.8)
    networks = by_network(in_shape_34([*cells, *read_cells("beyond")]))
    accuracy = [mean(c.accuracy for c in own) for own in networks]
    x = [facts()[network_of(own[0].name)]["fewest_neurons"] for own in networks]
    dodv = [mean(c.stability for c in own) for own in networks]
    for axes, values, label in (
        (fewest, x, "fewest neurons on a path"),
        (slopes, dodv, "dO/dV a layer"),
    ):
        axes.plot(values, accuracy, "o", color=STYLES[0][0], markersize=4, alpha=0.6)
        axes.set(title="ResNet-34's shape, T = 1", xlabel=label, ylabel="test accuracy, %")
    return figure


FIGURES: dict[str, Callable[[Sequence[Cell]], Figure]] = {
    "architecture": architecture,
    "blocks": blocks,
    "paths": paths,
}
"""Figures by file name in results/figures."""


# -- experiments -----------------------------------------------------------------------------------


def nine_epochs(cells: Sequence[Cell]) -> Figure:
    """Experiment 2: training loss and test accuracy by epoch, a mean over seeds."""
    figure, (loss, accuracy) = panels(2)
    for style, name in enumerate(experiments.FOUR):
        runs = experiments.after_nine(experiments.read_all(), name)
        epochs = [c.record["epochs"] for c in runs if "diverged" not in c.record]
        if epochs:
            for axes, key in ((loss, "train_loss"), (accuracy, "test_accuracy")):
                values = [mean(each[key] for each in of) for of in zip(*epochs, strict=True)]
                line(axes, range(1, len(values) + 1), values, style, name)
    loss.set(title="training loss", xlabel="epoch")
    accuracy.set(title="test accuracy", xlabel="epoch")
    for axes in (loss, accuracy):
        legend(axes)
    return figure


def gradients(cells: Sequence[Cell]) -> Figure:
    """Experiment 3: gradient norms over layers at n = 9, before the training and after it."""
    figure, parts = panels(4, 3.0)
    places = [(zero, epoch) for zero in (False, True) for epoch in (0, -1)]
    for axes, (zero, epoch) in zip(parts, places, strict=True):
        for style, (name, of) in enumerate(experiments.FIVE.items()):
            runs = experiments.read_all()["gradients"]
            for cell in experiments.of(runs, n=9, zero_init=zero, **of):
                if "diverged" not in cell.record:
                    norms = cell.record["gradients"][epoch]["neurons"].values()
                    # Branches that end with a norm of 0 pass no gradient.
                    shown = {place: norm for place, norm in enumerate(norms, 1) if norm}
                    line(axes, list(shown), list(shown.values()), style, name)
        when = "before training" if epoch == 0 else "after 3 epochs"
        title = f"{when}{', zero-initialised' if zero else ''}"
        axes.set(title=title, xlabel="layer of neurons", yscale="log")
        legend(axes)
    return figure


def drawn_paths(cells: Sequence[Cell]) -> Figure:
    """Experiment 4: accuracy over the fewest neurons on a path, and over dO/dV."""
    figure, (fewest, slopes) = panels(2, 4.0, 2.8)
    for row in experiments.drawn("paths")["networks"]:
        for cell in experiments.run_of(row, experiments.read_all()["paths"]):
            value = experiments.accuracy(cell)
            dodv = cell.record.get("dodv_a_layer", 0.0)
            for axes, x in ((fewest, row["fewest"]), (slopes, dodv)):
                axes.plot(x, value, "o", color=STYLES[0][0], markersize=4, alpha=0.6)
    fewest.set(xlabel="fewest neurons on a path", ylabel="test accuracy, %")
    slopes.set(xlabel="dO/dV a layer", ylabel="test accuracy, %")
    return figure


EXPERIMENTS: dict[str, Callable[[Sequence[Cell]], Figure]] = {
    "nine_epochs": nine_epochs,
    "gradients": gradients,
    "paths": drawn_paths,
}
"""Figures by file name in results/experiments/figures."""


def draw(
    cells: Sequence[Cell],
    folder: Path,
    figures: Mapping[str, Callable[[Sequence[Cell]], Figure]] = FIGURES,
) -> list[Path]:
    """Draw figures. The same cells and matplotlib version give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(SAVED):
        for name, make in figures.items():
            path, new = folder / f"{name}.svg", folder / f".{name}.svg"
            make(cells).savefig(new, format="svg", metadata={"Date": None})
            os.replace(new, path)
            written.append(path)
    return written
