"""Time and memory of a training step in T (1, 2, 4, 8) and in depth (ResNet-18 to 152), plotted.

Linear means that the last increase costs no more for each step or block than those before it. From
ResNet-50 to 101 to 152 there are 17 more blocks each time, though not of one size: what the last
ones cost is therefore held against what they cost torchvision's.

    python benchmarks/scaling_time_depth.py [--quick] [--batch N] [--image S]
"""

from __future__ import annotations

import sys
from typing import Any

from allocated import peak_bytes, saved_bytes
from candidates import Candidate
from common import (
    ANN,
    RESULTS,
    Options,
    Row,
    each_step,
    entries,
    marginal,
    named,
    network,
    options,
    ours,
    progress,
    report,
    seconds,
)
from steps import TrainingStep
from timing import medians, time_interleaved

from danetc.output.returned import LinePanel, line_figure
from danetc.runtime.system.figures import WITHOUT, can_plot

TIMES = (1, 2, 4, 8)
DEPTHS = (18, 34, 50, 101, 152)
CONNECTIONS = ("sew", "danet_c")
MOST = 1.2


def measure(found: dict[str, Candidate], at: Options) -> dict[str, Any]:
    """Seconds, saved bytes and peak bytes of each candidate, timed against each other."""
    saved = each_step(found, lambda step: saved_bytes(step.loss), "saved bytes")
    peak = each_step(found, peak_of, "peak bytes")
    steps = {name: entry.make() for name, entry in found.items()}
    device = next(iter(steps.values())).device
    samples = time_interleaved(
        steps, device, at.rounds, on_progress=lambda name: progress(f"scaling: {name}")
    )
    return {
        "time": {name: medians(samples[name]).seconds for name in found},
        "saved": saved,
        "peak": peak,
        "samples": seconds(samples),
    }


def peak_of(step: TrainingStep) -> int:
    step()
    step.optimizer.zero_grad()
    return peak_bytes(step)


def in_time(at: Options, rows: list[Row], lines: dict[str, Any]) -> dict[str, Any]:
    """One network with T = 1, 2, 4, 8."""
    found = {}
    for steps in TIMES:
        graph = network("sew_r18", at, steps)
        found[f"T = {steps}"] = entries(graph, at)[ours(graph)]
    figures = measure(found, at)
    for key, what in (("time", "time"), ("saved", "saved bytes"), ("peak", "peak bytes")):
        values = list(figures[key].values())
        rows.append(Row(f"sew_r18: {what} in T", marginal(TIMES, values), most=MOST))
        lines[f"{key}, T"] = (TIMES, values)
    return figures


def in_depth(at: Options, rows: list[Row], lines: dict[str, Any]) -> dict[str, Any]:
    """Each depth against torchvision's, and the growth from 50 to 152."""
    raw: dict[str, Any] = {}
    depths = (50, 101, 152) if at.quick else DEPTHS
    curves: dict[tuple[str, str], list[float]] = {}
    for depth in depths:
        graphs = [network(f"{name}_r{depth}", at) for name in CONNECTIONS]
        found: dict[str, Candidate] = {}
        for graph in graphs:
            found |= {
                name: entry
                for name, entry in entries(graph, at).items()
                if name.startswith((ANN, "danetc"))
            }
        figures = raw[f"resnet{depth}"] = measure(found, at)
        ann = named(found, ANN)
        for label, name in ((ANN, ann), *zip(CONNECTIONS, map(ours, graphs), strict=True)):
            for key in ("time", "saved", "peak"):
                curves.setdefault((label, key), []).append(figures[key][name])
            if label != ANN:
                value = figures["time"][name] / figures["time"][ann]
                rows.append(Row(f"{name} / {ann}", value))
    first = len(depths) - 3
    for (label, key), values in curves.items():
        lines[f"{key}, depth, {label}"] = (depths, values)
        if label != ANN:
            theirs = marginal(depths[first:], curves[ANN, key][first:])
            bend = marginal(depths[first:], values[first:]) / theirs
            what = f"{label}: {key} in depth, 50 to 152, against {ANN}'s"
            rows.append(Row(what, bend, most=MOST))
    return raw


def draw(lines: dict[str, Any]) -> None:
    def scaled(key: str, factor: float) -> tuple[list[float], list[float]]:
        x, y = lines[key]
        return list(x), [value * factor for value in y]

    labels = (ANN, *CONNECTIONS)
    panels = [
        LinePanel("T", "CPU s", {"sew_r18": scaled("time, T", 1)}, "time in T"),
        LinePanel(
            "T",
            "MB",
            {
                "sew_r18, saved": scaled("saved, T", 1e-6),
                "sew_r18, peak": scaled("peak, T", 1e-6),
            },
            "memory in T",
        ),
        LinePanel(
            "layers",
            "CPU s",
            {label: scaled(f"time, depth, {label}", 1) for label in labels},
            "time in depth",
        ),
        LinePanel(
            "layers",
            "MB",
            {label: scaled(f"saved, depth, {label}", 1e-6) for label in labels},
            "saved bytes in depth",
        ),
    ]
    path = RESULTS / "scaling_time_depth.svg"
    line_figure(panels).savefig(path)
    print(f"drawn in {path.relative_to(RESULTS.parents[1])}")


def main() -> int:
    at = options("scaling_time_depth", __doc__, rounds=(5, 2))
    rows: list[Row] = []
    lines: dict[str, Any] = {}
    raw = {"time": in_time(at, rows, lines), "depth": in_depth(at, rows, lines)}
    status = report(at, rows, raw)
    if not can_plot():
        print(f"not drawn: {WITHOUT}")
    elif not at.quick:
        draw(lines)
    return status


if __name__ == "__main__":
    sys.exit(main())
