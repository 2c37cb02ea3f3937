"""Measures as tables: of one network on a terminal, and one of several networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from danetc.output.echo import echo
from danetc.output.table import Cell, Table, print_table

if TYPE_CHECKING:
    from danetc.requests import MeasuredOn
    from danetc.runtime.measure import Measures
    from danetc.runtime.measure.plots import Entry


def print_measures(measures: Measures) -> None:
    """Print the measures of one network: neurons, weights and stages, then what was left out."""
    taken, layout = measures.taken(), measures.layout
    neurons: list[tuple[Mapping[str, Any], Mapping[str, Show]]] = []
    for name, shows in _NEURONS.items():
        if name in taken:
            found = taken[name].neurons if name == "gradients" else taken[name].layers
            neurons.append(({each.layer: each for each in found}, shows))
    weights: list[tuple[Mapping[str, Any], Mapping[str, Show]]] = []
    if measures.gradients is not None:
        norms = {each.parameter: each for each in measures.gradients.parameters}
        weights.append(({name.removesuffix(".weight"): norms[name] for name in norms}, _GRADIENTS))
    if measures.operations is not None:
        weights.append(({each.layer: each for each in measures.operations.layers}, _OPERATIONS))
    for title, layers, columns in (
        ("neurons", layout.neurons, neurons),
        ("weights", layout.weights, weights),
    ):
        if columns:
            rows = [
                [
                    layer.name if layer.main else f"({layer.name})",
                    *(
                        show(by[layer.name]) if layer.name in by else "-"
                        for by, shows in columns
                        for show in shows.values()
                    ),
                ]
                for layer in layers
            ]
            _print(title, ["layer", *(head for _, shows in columns for head in shows)], rows)
    if measures.values is not None and measures.values.stages:
        heads = ("connection", "rule", "block gives", "least", "most", "first block", "last block")
        rows = [
            [
                stage.stage.removeprefix("stages."), stage.connection, stage.rule, stage.kind,
                f"{stage.least:.3g}", f"{stage.most:.3g}",
                *(f"{end.mean:.3f} +- {end.std:.3f}" for end in (stage.blocks[0], stage.blocks[-1])),
            ]
            for stage in measures.values.stages
        ]  # fmt: skip
        _print("values from block to block", ["stage", *heads], rows)
    for name, found in taken.items():
        for reason in getattr(found, "skipped", ()):
            echo(f"{name} was not measured of {reason}")


def _print(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    echo(f"\n{title}")
    print_table(heads, rows, right=range(1, len(heads)))
    echo()


def facts(measures: Measures) -> dict[str, int | str]:
    """Return the depth, wiring and time steps of a network."""
    names = ("depth", "connection", "rule", "steps")
    return {name: getattr(measures.layout, name) for name in names}


WHOLE = ("firing-rate", "gradient-stability", "operations")
"""Measures with a figure of the whole network."""


def overall(entries: Sequence[Entry]) -> Table:
    """Return a table with figures of whole networks, as in Tables IV and V."""
    wholes = [_whole(measures) for _, measures in entries]
    rows = tuple(
        (
            Cell(label),
            *(Cell(str(value)) for value in facts(measures).values()),
            *(Cell(form.format(value), value=value) for value, form in whole.values()),
        )
        for (label, measures), whole in zip(entries, wholes, strict=True)
    )
    heads = ("network", "depth", "connection", "rule", "T", *wholes[0])
    return Table(heads, rows, frozenset({1, *range(4, len(heads))}))


def _whole(measures: Measures) -> dict[str, tuple[float, str]]:
    """Return figures of the whole network by their heads, with their formats."""
    found = {}
    if (rates := measures.firing_rate) is not None:
        found["firing rate"] = rates.mean_of_layers, "{:.4f}"
    if (stability := measures.gradient_stability) is not None:
        found["gradient stability"] = stability.overall, "{:.3g}"
        found["a layer"] = stability.geometric_mean, "{:.4f}"
    if (counted := measures.operations) is not None:
        found["additions"] = counted.additions, "{:,.0f}"
        found["MACs"] = counted.macs, "{:,.0f}"
        found["energy, uJ"] = 1e6 * counted.energy, "{:.4g}"
    return found


Show = Callable[[Any], str]


_MEAN, _STD = "{0.distribution.mean:z.3f}".format, "{0.distribution.std:.3f}".format
_TERMS = {"spatial": "{0.spatial:.2e}".format, "temporal": "{0.temporal:.2e}".format}
_NEURONS: Mapping[str, Mapping[str, Show]] = {
    "firing-rate": {
        "rate": "{0.rate:.4f}".format,
        "active": "{0.active:.1%}".format,
        "silent": "{0.silent:.1%}".format,
    },
    "gradient-stability": {"dO/dV": "{0.stability:.4f}".format},
    "potential": {"V mean": _MEAN, "V std": _STD, "V >= V_th": "{0.firing:.2%}".format},
    "input": {
        "X mean": _MEAN,
        "X std": _STD,
        "X to N(0, V_th^2)": lambda each: "-" if each.distance is None else f"{each.distance:.3f}",
    },
    "gradients": {"|dL/dX|": "{0.whole:.2e}".format, **_TERMS},
}
"""Columns of the table of neurons by the measure that they show."""
_GRADIENTS = {"|dL/dW|": "{0.whole:.2e}".format, **_TERMS, "direct": "{0.direct:.2e}".format}
_OPERATIONS = {
    "input": "{0.kind}".format,
    "active": "{0.active:.1%}".format,
    "additions": "{0.additions:,.0f}".format,
    "MACs": "{0.macs:,.0f}".format,
}

FORMAT = 1
"""Version of measures.json."""


def whole_record(asked: MeasuredOn, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of measures.json."""
    names = {"text": "data", "split": "split", "classes": "classes", "subset_seed": "subset_seed"}
    data = {name: getattr(asked, of) for name, of in names.items()}
    return {"format": FORMAT, "danetc": version("danetc"), "data": data, "measured": list(measured)}
