"""A measure's value for each layer of neurons, and for each box of a picture; the scale of colours.

What a box shows of several layers is their mean: arithmetic for shares, geometric for factors, so
that a box's value can be compared with a layer's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from danetc.compiler.analysis.summary import on_main_path
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node
from danetc.tasks.reporting.runs import ShownRun

STEPS = 7  # colours of the scale


@dataclass(frozen=True)
class LayerMeasure:
    """A figure of a layer of neurons. ``part`` and ``rows`` say where measures.json has it."""

    key: str
    title: str
    explanation: str
    part: str
    rows: str
    value: str
    mean: Literal["arithmetic", "geometric"]

    def of(self, measures: Mapping[str, Any] | None) -> dict[str, float]:
        """Its value by the name of the layer; empty where it was not measured."""
        part = (measures or {}).get(self.part)
        if not isinstance(part, Mapping):
            return {}
        found = {str(row["layer"]): float(row[self.value]) for row in part[self.rows]}
        return {layer: value for layer, value in found.items() if math.isfinite(value)}

    def joined(self, values: Sequence[float]) -> float:
        """What several layers have in common."""
        if self.mean == "arithmetic":
            return sum(values) / len(values)
        if min(values) <= 0:
            return 0.0
        return math.exp(sum(map(math.log, values)) / len(values))

    def words(self, value: float) -> str:
        return f"{value:.3f}" if self.mean == "arithmetic" else f"{value:.3g}"


MEASURES = (
    LayerMeasure(
        "firing", "firing rate", "spikes of a neuron at a time step",
        "firing_rate", "layers", "rate", "arithmetic",
    ),
    LayerMeasure(
        "stability", "gradient stability",
        "dO/dV of a layer, whose product over layers says whether gradients vanish or explode",
        "gradient_stability", "layers", "stability", "geometric",
    ),
    LayerMeasure(
        "silent", "silent neurons", "the share of neurons that never spike",
        "firing_rate", "layers", "silent", "arithmetic",
    ),
    LayerMeasure(
        "gradient", "gradient norm", "the norm of the loss's gradient at the neurons' input",
        "gradients", "neurons", "whole", "geometric",
    ),
)  # fmt: skip


def layer_name(node: Node) -> str:
    """The name of a node's module, as measures have it."""
    return dotted(*node.scope, node.name)


@dataclass(frozen=True)
class Shown:
    """What a box shows of a measure: the mean, the range of its ``count`` layers, the colour."""

    value: float
    least: float
    most: float
    count: int


def of_nodes(
    measure: LayerMeasure, values: Mapping[str, float], nodes: Iterable[Node]
) -> Shown | None:
    """What a measure says of some nodes; None where none of them was measured.

    As in the measure's own totals, layers in shortcuts do not count beside those of the main path.
    """
    known = [(node, values[layer_name(node)]) for node in nodes if layer_name(node) in values]
    found = [value for node, value in known if on_main_path(node)] or [value for _, value in known]
    if not found:
        return None
    return Shown(measure.joined(found), min(found), max(found), len(found))


@dataclass(frozen=True)
class Scale:
    """Colours for values from ``low`` to ``high``: ``STEPS`` equal steps, of the logarithm where
    the measure is a factor."""

    low: float
    high: float
    logarithmic: bool

    def step(self, value: float) -> int:
        low, high, at = map(self._place, (self.low, self.high, max(value, self.low)))
        if high <= low:
            return STEPS // 2
        return max(0, min(STEPS - 1, int((at - low) / (high - low) * STEPS)))

    def edges(self) -> list[float]:
        """The values between which the steps lie, STEPS + 1 of them."""
        low, high = self._place(self.low), self._place(self.high)
        between = [low + (high - low) * i / STEPS for i in range(STEPS + 1)]
        return [math.exp(each) for each in between] if self.logarithmic else between

    def _place(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def scale_of(measure: LayerMeasure, runs: Sequence[ShownRun]) -> Scale | None:
    """One scale for all runs, so that their colours can be compared; None without values."""
    values = [value for run in runs for value in measure.of(run.measures).values()]
    logarithmic = measure.mean == "geometric"
    if logarithmic:
        values = [value for value in values if value > 0]
    if not values:
        return None
    return Scale(min(values), max(values), logarithmic)


def neurons_in_order(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes.values() if node.op == "neuron"]
