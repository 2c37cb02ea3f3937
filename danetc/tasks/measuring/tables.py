"""Measures as people read them: tables of one network on a terminal, and one of several."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from danetc.output.console import VisibleConsole
from danetc.output.table import Cell
from danetc.output.table import Table as ResultTable

if TYPE_CHECKING:
    from danetc.runtime.measure import Layout, Measures, ProductLayer, WeightLayer
    from danetc.runtime.measure.plots import PlottedNetwork

WIDEST = 200  # columns that a table may take


def print_measures(measures: Measures, layout: Layout) -> None:
    """Print what was measured of one network: its neurons, weights and stages, then totals."""
    console = VisibleConsole(sys.stdout)
    console.width = max(console.width, WIDEST)  # a line that wraps is better than a cut number
    for table in (_neurons(measures, layout), _weights(measures, layout), _stages(measures)):
        if table is not None:
            console.print(table)
    for line in totals(measures):
        console.print(line, soft_wrap=True)


def totals(measures: Measures) -> list[str]:
    """What holds for the network as a whole, and what was left out, a line each."""
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
    """What the network is: its depth, wiring and time steps."""
    names = ("depth", "connection", "rule", "steps")
    return {name: getattr(entry.layout, name) for name in names}


def overall(entries: Sequence[PlottedNetwork]) -> ResultTable:
    """A row a network with what was measured of each as a whole, as in Tables IV and V.

    Of the networks of one depth and T the most stable is marked: the one whose product of dO/dV is
    closest to 1.
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
"""The measures that give a figure of the whole network."""
_STABILITY = "gradient stability"
_BEST = "the product closest to 1 among networks of the same depth and T"


def _whole(measures: Measures) -> dict[str, tuple[float, str]]:
    """Figures of a network as a whole by their heads, with their forms."""
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
    """The places of those, in each group of one depth and T."""
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


def _table(title: str, first: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _real(value: float) -> str:
    text = f"{value:.3f}"
    return text.lstrip("-") if float(text) == 0 else text


def _by_layer(found: Any) -> Mapping[str, Any]:
    return {} if found is None else {each.layer: each for each in found.layers}


def _neurons(measures: Measures, layout: Layout) -> Table | None:
    """A row a layer; those in shortcuts in brackets."""
    columns: list[tuple[str, Mapping[str, Any], Any]] = []
    rates, stable = _by_layer(measures.firing_rate), _by_layer(measures.gradient_stability)
    potentials, inputs = _by_layer(measures.potential), _by_layer(measures.input)
    norms = {} if measures.gradients is None else {n.layer: n for n in measures.gradients.neurons}
    if measures.firing_rate is not None:
        plain = all(each.kind == "spike" for each in measures.firing_rate.layers)
        columns += [
            ("rate", rates, lambda each: f"{each.rate:.4f}"),
            *([] if plain else [("active", rates, lambda each: f"{each.active:.1%}")]),
            ("silent", rates, lambda each: f"{each.silent:.1%}"),
        ]
    if measures.gradient_stability is not None:
        columns.append(("dO/dV", stable, lambda each: f"{each.stability:.4f}"))
    if measures.potential is not None:
        columns += [
            ("V mean", potentials, lambda each: _real(each.distribution.mean)),
            ("V std", potentials, lambda each: _real(each.distribution.std)),
            ("V >= V_th", potentials, lambda each: f"{each.firing:.2%}"),
        ]
    if measures.input is not None:
        columns += [
            ("X mean", inputs, lambda each: _real(each.distribution.mean)),
            ("X std", inputs, lambda each: _real(each.distribution.std)),
            (
                "X to N(0, V_th^2)",
                inputs,
                lambda each: "-" if each.distance is None else f"{each.distance:.3f}",
            ),
        ]
    if measures.gradients is not None:
        columns += [
            ("|dL/dX|", norms, lambda each: f"{each.whole:.2e}"),
            ("spatial", norms, lambda each: f"{each.spatial:.2e}"),
            ("temporal", norms, lambda each: f"{each.temporal:.2e}"),
        ]
    if not columns:
        return None
    table = _table("neurons", "layer", [head for head, _, _ in columns])
    for layer in layout.neurons:
        name = layer.name if layer.main else f"({layer.name})"
        cells = [show(by[layer.name]) if layer.name in by else "-" for _, by, show in columns]
        table.add_row(name, *cells)
    return table


def _weights(measures: Measures, layout: Layout) -> Table | None:
    """A row a convolution or linear layer."""
    if measures.gradients is None and measures.operations is None:
        return None
    heads = []
    if measures.gradients is not None:
        heads += ["|dL/dW|", "spatial", "temporal", "direct"]
    if measures.operations is not None:
        heads += ["input", "active", "additions", "MACs"]
    table = _table("weights", "layer", heads)
    norms = (
        {}
        if measures.gradients is None
        else {each.parameter: each for each in measures.gradients.parameters}
    )
    counts = _by_layer(measures.operations)
    layers: list[WeightLayer | ProductLayer] = [*layout.weights, *layout.products]
    for layer in layers:
        cells = []
        if measures.gradients is not None:
            norm = norms.get(f"{layer.name}.weight")
            parts = ("whole", "spatial", "temporal", "direct")
            cells += ["-" if norm is None else f"{getattr(norm, part):.2e}" for part in parts]
        if layer.name in counts:
            each = counts[layer.name]
            cells += [
                each.kind,
                f"{each.active:.1%}",
                f"{each.additions:,.0f}",
                f"{each.macs:,.0f}",
            ]
        table.add_row(layer.name if layer.main else f"({layer.name})", *cells)
    return table


def _stages(measures: Measures) -> Table | None:
    """A row a stage: what its blocks give."""
    if measures.values is None or not measures.values.stages:
        return None
    heads = ("connection", "rule", "block gives", "least", "most", "first block", "last block")
    table = _table("values from block to block", "stage", heads)
    for stage in measures.values.stages:
        ends = [
            f"{block.mean:.3f} +- {block.std:.3f}" for block in (stage.blocks[0], stage.blocks[-1])
        ]
        name = stage.stage.removeprefix("stages.")
        table.add_row(
            name, stage.connection, stage.rule, stage.kind, f"{stage.least:.3g}", f"{stage.most:.3g}",
            *ends,
        )  # fmt: skip
    return table
