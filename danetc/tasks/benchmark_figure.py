"""``danetc bench`` as a figure. It needs matplotlib: ``danetc[plot]``."""

from __future__ import annotations

from typing import Any

from danetc.runtime.measure.plots import new_figure
from danetc.tasks.benchmark import Report


def report_figure(report: Report) -> Any:
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
    figure = new_figure(3.2 * len(panels), 1.2 + 0.4 * len(names))
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
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
    return figure


def _colour(name: str) -> str:
    return "tab:blue" if name.startswith("danetc ") else "0.6"
