"""Figures of measurements as SVG or PNG. They need matplotlib: ``danetc[plot]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.errors import UserError
from danetc.runtime.measure.plots import STYLES, WITHOUT, can_plot, in_figure, save_figure

if TYPE_CHECKING:
    from danetc.tasks.benchmark import Report

FORMATS = (".svg", ".png")


def check_plot(path: Path) -> None:
    """Before anything is measured: raises UserError where no figure could be written there."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"a figure is SVG or PNG, so its name ends in .svg or .png: {path}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path}: there is no such folder")
    if not can_plot():
        raise UserError(WITHOUT)


def plot_report(report: Report, path: Path) -> None:
    """Bars for each candidate: time, saved bytes and peak memory as ratios to the base. What was
    not measured has no panel."""
    names = list(report.results)
    panels: dict[str, list[float]] = {}
    for title, of in (
        ("time", report.time),
        ("saved bytes", report.saved),
        ("peak memory", report.peak),
    ):
        values = [value for value in map(of, names) if value is not None]
        if len(values) == len(names):
            panels[title] = values
    figure = _figure(len(panels), height=1.2 + 0.4 * len(names), width=3.2)
    for axes, (title, values) in zip(_panels(figure, len(panels)), panels.items(), strict=True):
        bars = axes.barh(names, values, color=[_colour(name) for name in names])
        axes.bar_label(bars, fmt="%.2f", padding=2)
        axes.axvline(1, color="0.3", linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 1.2 * max(*values, 1))
        axes.set_title(title)
        axes.invert_yaxis()
    for axes in figure.axes[1:]:
        axes.set_yticklabels([])
    figure.suptitle(
        f"{report.network}, T = {report.steps}, N = {report.conditions.images}: "
        f"a training step relative to {report.base}"
    )
    save_figure(figure, path)


def plot_lines(
    path: Path,
    panels: Sequence[tuple[str, str, str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]],
) -> None:
    """Panels side by side, each (title, x label, y label, lines by name as (x, y))."""
    if not can_plot():
        raise UserError(WITHOUT)
    figure = _figure(len(panels), height=3.2, width=3.8)
    for axes, (title, across, up, lines) in zip(_panels(figure, len(panels)), panels, strict=True):
        for place, (name, (x, y)) in enumerate(lines.items()):
            colour, dash, marker = STYLES[place % len(STYLES)]
            axes.plot(
                x, y, color=colour, linestyle=dash, marker=marker, ms=4, label=in_figure(name)
            )
        axes.set(title=title, xlabel=across, ylabel=up)
        highest = max((value for _, y in lines.values() for value in y), default=1)
        axes.set_ylim(0, 1.06 * highest)
        axes.set_xlim(left=0)
        axes.legend(fontsize="small")
    save_figure(figure, path)


def _figure(count: int, height: float, width: float) -> Any:
    return import_module("matplotlib.figure").Figure(
        figsize=(width * count, height), layout="constrained"
    )


def _panels(figure: Any, count: int) -> list[Any]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _colour(name: str) -> str:
    return "tab:blue" if name.startswith("danetc ") else "0.6"
