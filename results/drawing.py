"""Figures of results/README.md, drawn from the trained networks. They need matplotlib."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from results.data import (
    CHAIN,
    EQ_11,
    HERE,
    RULES,
    SEW_LOGS,
    Cell,
    hand_model,
    older_accuracies,
    pick,
    read,
)
from results.older import OLDER
from results.tables import BLOCKS, CONNECTIONS, SHAPES

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
    """Accuracy over blocks a stage, and dO/dV of interblock neurons by position."""
    figure, (plain, zero, positions) = panels(3)
    for axes, start, title in ((plain, False, "as they start"), (zero, True, "zero-initialised")):
        for style, (rule, name) in enumerate(RULES.items()):
            found = {
                n: pick(cells, connection="origin", rule=rule, n=n, zero_init=start) for n in BLOCKS
            }
            over(axes, found, style, name)
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
    n = 9
    place = list(range(n))
    for style, (rule, dense) in enumerate(((CHAIN, False), (EQ_11, True))):
        line(positions, place, hand_model(n, dense=dense), 3 + style, f"hand model, {RULES[rule]}")
        own = pick(cells, connection="origin", rule=rule, n=n)
        for stage in range(3):
            found = {
                b: [
                    layer.dodv
                    for c in own
                    for layer in c.interblock
                    if (layer.stage, layer.block) == (stage, b)
                ]
                for b in place
            }
            if own:
                colour, dash, marker = STYLES[style]
                positions.plot(
                    place, [mean(found[b]) for b in place], color=colour, linestyle=dash, marker=marker,
                    markersize=3, linewidth=0.8, alpha=0.4 + 0.3 * stage, label=f"{RULES[rule]}, stage {stage + 1}",
                )  # fmt: skip
    positions.set(title="dO/dV of interblock neurons, n = 9", xlabel="block")
    legend(positions)
    return figure


# -- item 3 ----------------------------------------------------------------------------------------


def connections(cells: Sequence[Cell]) -> Figure:
    """Figs. 5 to 7: accuracy over depth in the paper's shapes, at two numbers of classes."""
    figure, axes = panels(2, 4.2, 3.0)
    for part, classes in zip(axes, (5, 10), strict=True):
        for style, (name, (connection, rule)) in enumerate(list(CONNECTIONS.items())[:8]):
            found = {
                d: pick(cells, connection=connection, rule=rule, depth=d, classes=classes)
                for d in SHAPES
            }
            over(part, found, style, name)
        part.set(title=f"{classes} classes", xlabel="depth", ylabel="test accuracy, %")
        part.set_xticks(SHAPES)
        legend(part, ncols=2)
    return figure


# -- the literature, and older runs ----------------------------------------------------------------


def literature(cells: Sequence[Cell]) -> Figure:
    """Origin's accuracy relative to its own at the smallest depth, and to SEW's at the same depth."""
    figure, (own, shares) = panels(2, 4.0, 2.8)
    depths = list(SEW_LOGS)
    origin, sew = ([SEW_LOGS[d][k] for d in depths] for k in (0, 1))
    line(own, depths, [value / origin[0] for value in origin], 0, "SEW's authors, ImageNet")
    line(
        shares,
        depths,
        [a / b for a, b in zip(origin, sew, strict=True)],
        0,
        "SEW's authors, ImageNet",
    )
    found = older_accuracies("accuracy.json")
    older = (20, 56, 110)
    first, second = (
        [mean(found[name, d].values()) for d in older] for name in ("origin_net", "sew_net")
    )
    line(own, older, [value / first[0] for value in first], 1, "ours, n = 3, 9, 18 (older)")
    line(
        shares,
        older,
        [a / b for a, b in zip(first, second, strict=True)],
        1,
        "ours, n = 3, 9, 18 (older)",
    )
    shapes = {d: pick(cells, connection="origin", depth=d) for d in SHAPES}
    others = {d: pick(cells, connection="sew", depth=d) for d in SHAPES}
    known = [d for d in SHAPES if shapes[d]]
    values = [mean(c.accuracy for c in shapes[d]) for d in known]
    if known and known[0] == SHAPES[0]:
        line(own, known, [value / values[0] for value in values], 2, "ours, the paper's shapes")
    both = [d for d in known if others[d]]
    if both:
        share = [
            mean(c.accuracy for c in shapes[d]) / mean(c.accuracy for c in others[d]) for d in both
        ]
        line(shares, both, share, 2, "ours, the paper's shapes")
    own.set(title="Origin over Origin at 18 or 20 layers", xlabel="depth", ylim=(0, 1.1))
    shares.set(title="Origin over SEW at the same depth", xlabel="depth", ylim=(0, 1.1))
    for axes in (own, shares):
        legend(axes)
    return figure


def older_depth(cells: Sequence[Cell]) -> Figure:
    """Accuracy over depth of the older runs, and the training loss of two networks (Fig. 11)."""
    figure, (accuracy, origin, dense) = panels(3)
    found = older_accuracies("accuracy.json")
    for style, (name, network) in enumerate(OLDER.items()):
        depths = [d for d in (20, 56, 110) if (network, d) in found]
        line(accuracy, depths, [mean(found[network, d].values()) for d in depths], style, name)
    accuracy.set(title="test accuracy, %, first set", xlabel="depth")
    accuracy.set_xticks((20, 56, 110))
    names = {network: name for name, network in OLDER.items()}
    for axes, network in ((origin, "origin_net"), (dense, "danet_c_net")):
        cells_of = [
            c for c in read(HERE / "depth" / "training.json")["cells"] if c["network"] == network
        ]
        for style, cell in enumerate(cells_of):
            epochs, values = curve(cell["curves"]["train_loss"])
            line(axes, epochs, values, style, f"depth {cell['depth']}")
        axes.set(
            title=f"training loss, {names[network]}, second set",
            xlabel="epoch",
            xticks=[1, 2, 3],
            ylim=(0.3, 2.5),
        )
    for axes in (accuracy, origin, dense):
        legend(axes)
    return figure


def curve(points: Sequence[Sequence[float | None]]) -> tuple[list[int], list[float]]:
    """Return the means per epoch of a curve in training.json, which has a mean and a deviation each."""
    return list(range(1, len(points) + 1)), [float(point[0] or 0) for point in points]


def older_layers(cells: Sequence[Cell]) -> Figure:
    """Firing rates and dO/dV by layer at depth 56, T = 1: one network of each."""
    figure, (rate, slope) = panels(2, 4.6, 2.9)
    names = {network: name for name, network in OLDER.items()}
    for style, each in enumerate(read(HERE / "depth" / "measures_56.json")["measured"]):
        rates = [layer["rate"] for layer in each["firing_rate"]["layers"] if layer["main"]]
        slopes = [
            layer["stability"] for layer in each["gradient_stability"]["layers"] if layer["main"]
        ]
        line(rate, range(1, len(rates) + 1), rates, style, names[each["network"]])
        line(slope, range(1, len(slopes) + 1), slopes, style, names[each["network"]])
    rate.set(title="firing rate, depth 56", xlabel="layer of neurons")
    slope.set(title="dO/dV, depth 56, T = 1", xlabel="layer of neurons")
    legend(slope, ncols=2)
    return figure


FIGURES: dict[str, Callable[[Sequence[Cell]], Figure]] = {
    "architecture": architecture,
    "blocks": blocks,
    "connections": connections,
    "literature": literature,
    "older_depth": older_depth,
    "older_layers": older_layers,
}
"""Figures by file name in results/figures."""


def draw(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Draw all figures. The same cells and matplotlib version give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(SAVED):
        for name, make in FIGURES.items():
            path, new = folder / f"{name}.svg", folder / f".{name}.svg"
            make(cells).savefig(new, format="svg", metadata={"Date": None})
            os.replace(new, path)
            written.append(path)
    return written
