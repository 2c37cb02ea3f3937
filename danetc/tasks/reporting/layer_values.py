"""Values of measures by neuron layer and by box of a picture, and their colour scale.

A box of several layers shows their mean, arithmetic for shares and geometric for factors, which can be
compared with the value of a single layer.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean
from typing import Any, Literal, NamedTuple

import numpy as np

from danetc.compiler.analysis.summary import on_main_path
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node
from danetc.tasks.reporting.runs import ShownRun

STEPS = 7  # colours of the scale


@dataclass(frozen=True)
class LayerMeasure:
    """A figure of a neuron layer: ``value`` of the ``rows`` of a ``part`` of measures.json."""

    key: str
    title: str
    explanation: str
    part: str
    rows: str
    value: str
    mean: Literal["arithmetic", "geometric"]

    def of(self, measures: Mapping[str, Any] | None) -> dict[str, float]:
        """Return the value of each measured layer by its name."""
        part = (measures or {}).get(self.part) or {self.rows: ()}
        found = {str(row["layer"]): float(row[self.value]) for row in part[self.rows]}
        return {layer: value for layer, value in found.items() if math.isfinite(value)}

    def joined(self, values: Sequence[float]) -> float:
        """Return the mean of several layers."""
        if self.mean == "arithmetic":
            return fmean(values)
        return geometric_mean(values) if min(values) > 0 else 0.0

    def words(self, value: float) -> str:
        return f"{value:.3f}" if self.mean == "arithmetic" else f"{value:.3g}"


MEASURES = (
    LayerMeasure(
        "firing", "firing rate", "spikes of a neuron per time step",
        "firing_rate", "layers", "rate", "arithmetic",
    ),
    LayerMeasure(
        "stability", "gradient stability",
        "dO/dV of a layer; the product over the layers says whether gradients vanish or explode",
        "gradient_stability", "layers", "stability", "geometric",
    ),
    LayerMeasure(
        "silent", "silent neurons", "share of the neurons that never spike",
        "firing_rate", "layers", "silent", "arithmetic",
    ),
    LayerMeasure(
        "gradient", "gradient norm", "norm of the gradient of the loss at the neurons' input",
        "gradients", "neurons", "whole", "geometric",
    ),
)  # fmt: skip


def layer_name(node: Node) -> str:
    """Return the name of a node's module, which measures use."""
    return dotted(*node.scope, node.name)


class Shown(NamedTuple):
    """A measure in a box: the mean and the range of its ``size`` layers."""

    value: float
    least: float
    most: float
    size: int


def of_nodes(
    measure: LayerMeasure, values: Mapping[str, float], nodes: Iterable[Node]
) -> Shown | None:
    """Return a measure of the layers among some nodes, or None if none was measured.

    As in the totals of measures, layers in shortcuts do not count beside those of the main path.
    """
    known = [(node, values[layer_name(node)]) for node in nodes if layer_name(node) in values]
    found = [value for node, value in known if on_main_path(node)] or [value for _, value in known]
    return Shown(measure.joined(found), min(found), max(found), len(found)) if found else None


Scale = tuple[float, ...]
"""The ``STEPS`` + 1 boundaries of the colours."""


def scale_of(measure: LayerMeasure, runs: Sequence[ShownRun]) -> Scale | None:
    """Return one scale for all runs, so that their colours can be compared; None without values."""
    factors = measure.mean == "geometric"
    values = [
        value
        for run in runs
        for value in measure.of(run.measures).values()
        if value > 0 or not factors
    ]
    if not values:
        return None
    space = np.geomspace if factors else np.linspace
    return tuple(space(min(values), max(values), STEPS + 1).tolist())


def step_of(value: float, scale: Scale) -> int:
    """Return the number of a value's colour; the middle one if all values are equal."""
    if scale[0] == scale[-1]:
        return STEPS // 2
    return min(max(bisect_right(scale, value) - 1, 0), STEPS - 1)


def neurons_in_order(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes.values() if node.op == "neuron"]
