"""Measures as tables: of one network on a terminal, and one of several networks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from danetc.output.console import VisibleConsole
from danetc.output.table import Cell
from danetc.output.table import Table as ResultTable
from danetc.version import version

if TYPE_CHECKING:
    from danetc.requests import MeasuredOn
    from danetc.runtime.measure import Layout, Measures, ProductLayer, WeightLayer
    from danetc.runtime.measure.plots import PlottedNetwork

WIDEST = 200


def print_measures(measures: Measures, layout: Layout) -> None:
    """Print the measures of one network: neurons, weights and stages, then totals."""
    console = VisibleConsole(sys.stdout)
    console.width = max(console.width, WIDEST)  # wrapped lines are better than truncated numbers
    for table in (_neurons(measures, layout), _weights(measures, layout), _stages(measures)):
        if table is not None:
            console.print(table)
    for line in totals(measures):
        console.print(line, soft_wrap=True)


def totals(measures: Measures) -> list[str]:
    """Return lines of figures of the whole network, and of what was left out."""
    lines = []
    if (rates := measures.firing_rate) is not None:
        lines.append(
            f"firing rate         {rates.mean_of_layers:.4f} mean of layers on the main path, "
            f"{rates.mean_of_neurons:.4f} mean of all neurons"
        )
        lines += [f"  not counted: {reason}" for reason in rates.skipped]
    if (found := measures.gradient_stability) is not None:
        where = "on the main path" if found.over == "main" else "in all"
        lines.append(
            f"gradient stability  {found.overall:.3g} product of {found.counted} layers {where}, "
            f"{found.geometric_mean:.4f} a layer (geometric mean); {found.time} over time"
        )
        lines += [f"  not counted: {reason}" for reason in found.skipped]
    if (potentials := measures.potential) is not None:
        variables = sorted({layer.variable for layer in potentials.layers})
        lines.append(
            f"membrane potential  {', '.join(variables) or 'none'} of the neuron's equations"
        )
        lines += [f"  not measured: {reason}" for reason in potentials.skipped]
    if (gradients := measures.gradients) is not None:
        lines.append(
            f"gradients           loss {gradients.loss:.4f}; the parts add up to the whole within "
            f"{gradients.residual:.1e} of it"
        )
    if (counted := measures.operations) is not None:
        model = counted.model
        lines.append(
            f"operations          {counted.additions:,.0f} additions and {counted.macs:,.0f} "
            f"multiply-accumulates an image ({counted.dense_macs:,.0f} if nothing were left out)"
        )
        counts = "multiply" if model.counts == "macs" else "are added one by one"
        lines.append(
            f"energy              {1e6 * counted.energy:.4g} uJ an image "
            f"({1e6 * counted.dense_energy:.4g} uJ); {model.name}: {model.addition:g} pJ an "
            f"addition, {model.mac:g} pJ a multiply-accumulate; counts {counts}"
        )
    return lines


def facts(entry: PlottedNetwork) -> dict[str, int | str]:
    """Return the depth, wiring and time steps of a network."""
    names = ("depth", "connection", "rule", "steps")
    return {name: getattr(entry.layout, name) for name in names}


def overall(entries: Sequence[PlottedNetwork]) -> ResultTable:
    """Return a table with figures of whole networks, as in Tables IV and V.

    Of the networks with one depth and T it marks the one whose product of dO/dV is closest to 1.
    """
    wholes = [_whole(entry.measures) for entry in entries]
    columns = [head for head in wholes[0] if all(head in whole for whole in wholes)]
    best = _most_stable(entries)
    rows = []
    for place, (entry, whole) in enumerate(zip(entries, wholes, strict=True)):
        cells = [Cell(entry.label), *(Cell(str(value)) for value in facts(entry).values())]
        for head in columns:
            value, form = whole[head]
            cells.append(Cell(form.format(value), head == _STABILITY and place in best, value))
        rows.append(tuple(cells))
    heads = ("network", "depth", "connection", "rule", "T", *columns)
    right = frozenset({1, *range(4, len(heads))})
    return ResultTable(heads, tuple(rows), right, _BEST)


WHOLE = ("firing-rate", "gradient-stability", "operations")
"""Measures with a figure of the whole network."""
_STABILITY = "gradient stability"
_BEST = "the product closest to 1 among networks of the same depth and T"


def _whole(measures: Measures) -> dict[str, tuple[float, str]]:
    """Return figures of the whole network by their heads, with their formats."""
    found = {}
    if (rates := measures.firing_rate) is not None:
        found["firing rate"] = rates.mean_of_layers, "{:.4f}"
    if (stability := measures.gradient_stability) is not None:
        found[_STABILITY] = stability.overall, "{:.3g}"
        found["a layer"] = stability.geometric_mean, "{:.4f}"
    if (counted := measures.operations) is not None:
        found["additions"] = counted.additions, "{:,.0f}"
        found["MACs"] = counted.macs, "{:,.0f}"
        found["energy, uJ"] = 1e6 * counted.energy, "{:.4g}"
    return found


def _most_stable(entries: Sequence[PlottedNetwork]) -> set[int]:
    """Return the places of the most stable networks, in each group of one depth and T."""
    groups: dict[tuple[int, int], dict[int, float]] = {}
    for place, entry in enumerate(entries):
        if (found := entry.measures.gradient_stability) is not None:
            away = inf if found.log10_overall is None else abs(found.log10_overall)
            groups.setdefault((entry.layout.depth, entry.layout.steps), {})[place] = away
    return {
        place
        for group in groups.values()
        for place, away in group.items()
        if len(group) > 1 and away == min(group.values())
    }


def _table(title: str, first: str, heads: Iterable[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _real(value: float) -> str:
    text = f"{value:.3f}"
    return text.lstrip("-") if float(text) == 0 else text


Show = Callable[[Any], str]
_RATES: Mapping[str, Show] = {
    "rate": lambda each: f"{each.rate:.4f}",
    "active": lambda each: f"{each.active:.1%}",
    "silent": lambda each: f"{each.silent:.1%}",
}
_NEURONS: Mapping[str, Mapping[str, Show]] = {
    "firing_rate": _RATES,
    "gradient_stability": {"dO/dV": lambda each: f"{each.stability:.4f}"},
    "potential": {
        "V mean": lambda each: _real(each.distribution.mean),
        "V std": lambda each: _real(each.distribution.std),
        "V >= V_th": lambda each: f"{each.firing:.2%}",
    },
    "input": {
        "X mean": lambda each: _real(each.distribution.mean),
        "X std": lambda each: _real(each.distribution.std),
        "X to N(0, V_th^2)": lambda each: "-" if each.distance is None else f"{each.distance:.3f}",
    },
    "gradients": {
        "|dL/dX|": lambda each: f"{each.whole:.2e}",
        "spatial": lambda each: f"{each.spatial:.2e}",
        "temporal": lambda each: f"{each.temporal:.2e}",
    },
}
"""Columns of the table of neurons by the measure that they show."""
_GRADIENTS = {"|dL/dW|": "whole", "spatial": "spatial", "temporal": "temporal", "direct": "direct"}
_OPERATIONS: Mapping[str, Show] = {
    "input": lambda each: each.kind,
    "active": lambda each: f"{each.active:.1%}",
    "additions": lambda each: f"{each.additions:,.0f}",
    "MACs": lambda each: f"{each.macs:,.0f}",
}


def _neurons(measures: Measures, layout: Layout) -> Table | None:
    """Return a table with a row for each layer of neurons, in brackets if it is in a shortcut."""
    columns: list[tuple[str, Mapping[str, Any], Show]] = []
    for name, shows in _NEURONS.items():
        found: Any = getattr(measures, name)
        if found is None:
            continue
        layers = found.neurons if name == "gradients" else found.layers
        by_name = {each.layer: each for each in layers}
        spikes = name == "firing_rate" and all(each.kind == "spike" for each in layers)
        columns += [  # for spikes it equals the rate
            (head, by_name, show)
            for head, show in shows.items()
            if not (spikes and head == "active")
        ]
    if not columns:
        return None
    table = _table("neurons", "layer", [head for head, _, _ in columns])
    for layer in layout.neurons:
        cells = (show(by[layer.name]) if layer.name in by else "-" for _, by, show in columns)
        table.add_row(layer.name if layer.main else f"({layer.name})", *cells)
    return table


def _weights(measures: Measures, layout: Layout) -> Table | None:
    """Return a table with a row for each convolution or linear layer."""
    gradients, counted = measures.gradients, measures.operations
    if gradients is None and counted is None:
        return None
    heads = [*(_GRADIENTS if gradients else ()), *(_OPERATIONS if counted else ())]
    table = _table("weights", "layer", heads)
    norms = {each.parameter: each for each in gradients.parameters} if gradients else {}
    counts = {each.layer: each for each in counted.layers} if counted else {}
    layers: list[WeightLayer | ProductLayer] = [*layout.weights, *layout.products]
    for layer in layers:
        cells = []
        if gradients is not None:
            norm = norms.get(f"{layer.name}.weight")
            parts = _GRADIENTS.values()
            cells += ["-" if norm is None else f"{getattr(norm, part):.2e}" for part in parts]
        if layer.name in counts:
            cells += [show(counts[layer.name]) for show in _OPERATIONS.values()]
        table.add_row(layer.name if layer.main else f"({layer.name})", *cells)
    return table


def _stages(measures: Measures) -> Table | None:
    """Return a table with a row for each stage: the outputs of its blocks."""
    if measures.values is None or not measures.values.stages:
        return None
    heads = ("connection", "rule", "block gives", "least", "most", "first block", "last block")
    table = _table("values from block to block", "stage", heads)
    for stage in measures.values.stages:
        ends = (
            f"{block.mean:.3f} +- {block.std:.3f}" for block in (stage.blocks[0], stage.blocks[-1])
        )
        table.add_row(
            stage.stage.removeprefix("stages."), stage.connection, stage.rule, stage.kind,
            f"{stage.least:.3g}", f"{stage.most:.3g}", *ends,
        )  # fmt: skip
    return table


# -- records ---------------------------------------------------------------------------------------

FORMAT = 1
"""Version of measures.json."""


def whole_record(asked: MeasuredOn, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of measures.json."""
    data = {
        "text": asked.data,
        "split": asked.split,
        "classes": asked.classes,
        "subset_seed": asked.subset_seed,
    }
    return {"format": FORMAT, "danetc": version(), "data": data, "measured": list(measured)}
