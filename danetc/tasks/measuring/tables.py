"""Measures as tables: of one network on a terminal, and one of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from itertools import zip_longest
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from danetc.output.echo import echo
from danetc.output.table import Cell, Table, print_rows

if TYPE_CHECKING:
    from danetc.requests import MeasuredOn
    from danetc.runtime.measure import Measures
    from danetc.runtime.measure.plots import Entry

_COLUMNS = (
    ("neurons", "firing-rate", "layers", "rate", "rate", ".4f"),
    ("neurons", "firing-rate", "layers", "active", "active", ".1%"),
    ("neurons", "firing-rate", "layers", "silent", "silent", ".1%"),
    ("neurons", "firing-rate", "layers", "learnt", "values", ""),
    ("neurons", "gradient-stability", "layers", "dO/dV", "stability", ".4f"),
    ("neurons", "potential", "layers", "V mean", "distribution.mean", "z.3f"),
    ("neurons", "potential", "layers", "V std", "distribution.std", ".3f"),
    ("neurons", "potential", "layers", "V >= V_th", "firing", ".2%"),
    ("neurons", "input", "layers", "X mean", "distribution.mean", "z.3f"),
    ("neurons", "input", "layers", "X std", "distribution.std", ".3f"),
    ("neurons", "input", "layers", "X to N(0, V_th^2)", "distance", ".3f"),
    ("neurons", "gradients", "neurons", "|dL/dX|", "whole", ".2e"),
    ("neurons", "gradients", "neurons", "spatial", "spatial", ".2e"),
    ("neurons", "gradients", "neurons", "temporal", "temporal", ".2e"),
    ("weights", "gradients", "parameters", "|dL/dW|", "whole", ".2e"),
    ("weights", "gradients", "parameters", "spatial", "spatial", ".2e"),
    ("weights", "gradients", "parameters", "temporal", "temporal", ".2e"),
    ("weights", "gradients", "parameters", "direct", "direct", ".2e"),
    ("weights", "operations", "layers", "input", "kind", ""),
    ("weights", "operations", "layers", "active", "active", ".1%"),
    ("weights", "operations", "layers", "additions", "additions", ",.0f"),
    ("weights", "operations", "layers", "MACs", "macs", ",.0f"),
)
"""Columns of a network's tables: table, measure, field with its rows, head, field of a row, format."""

FACTS = ("depth", "connection", "rule", "steps")  # of a network, in its layout
WHOLE = (
    ("firing-rate", "firing rate", "mean_of_layers", ".4f"),
    ("gradient-stability", "gradient stability", "overall", ".3g"),
    ("gradient-stability", "a layer", "geometric_mean", ".4f"),
    ("operations", "additions", "additions", ",.0f"),
    ("operations", "MACs", "macs", ",.0f"),
    ("operations", "energy, uJ", "energy", ".4g"),
)
"""Figures of whole networks: measure, head, field, format."""

FORMAT = 1  # version of measures.json


def print_measures(measures: Measures) -> None:
    """Print the measures of one network: neurons, weights and stages, then what was left out."""
    taken = measures.taken()
    tables = {}
    for title in ("neurons", "weights"):
        columns = [column for column in _COLUMNS if column[0] == title and column[1] in taken]
        values = [
            {_layer_of(row): attrgetter(field)(row) for row in getattr(taken[name], rows)}
            for _, name, rows, _, field, _ in columns
        ]
        tables[title] = [
            {"layer": layer.name if layer.main else f"({layer.name})"}
            | {
                head: "-" if found.get(layer.name) is None else format(found[layer.name], form)
                for found, (_, _, _, head, _, form) in zip(values, columns, strict=True)
                if {*found.values()} != {None}
            }
            for layer in getattr(measures.layout, title)
            if columns
        ]
    tables["values from block to block"] = [
        {
            "stage": stage.stage.removeprefix("stages."),
            "connection": stage.connection,
            "rule": stage.rule,
            "block gives": stage.kind,
            "least": f"{stage.least:.3g}",
            "most": f"{stage.most:.3g}",
            "first block": "{0.mean:.3f} +- {0.std:.3f}".format(stage.blocks[0]),
            "last block": "{0.mean:.3f} +- {0.std:.3f}".format(stage.blocks[-1]),
        }
        for stage in (measures.values.stages if measures.values is not None else ())
    ]
    for title, rows in tables.items():
        if rows:
            echo(f"\n{title}")
            print_rows(rows)
    for name, found in taken.items():
        for reason in getattr(found, "skipped", ()):
            echo(f"{name} was not measured of {reason}")


def _layer_of(row: Any) -> str:
    return str(
        getattr(row, "layer", "") or row.parameter.removesuffix("_raw").removesuffix(".weight")
    )


def overall(entries: Sequence[Entry], accuracies: Sequence[float | None] = ()) -> Table:
    """Return a table with figures of whole networks, as in Tables IV and V, and the test accuracies of
    their trainings, if there are any."""
    taken = entries[0][1].taken()
    columns = [column for column in WHOLE if column[0] in taken]
    tested, rows = any(each is not None for each in accuracies), []
    for (label, measures), accuracy in zip_longest(entries, accuracies):
        cells = [Cell(label), *(Cell(str(getattr(measures.layout, name))) for name in FACTS)]
        for name, head, field, form in columns:
            value = getattr(measures.taken()[name], field)
            value *= 1e6 if head.endswith("uJ") else 1
            cells.append(Cell(format(value, form), value=value))
        known = None if accuracy is None else 100 * accuracy
        cells += [Cell("-" if known is None else f"{known:.2f}", value=known)] * tested
        rows.append(tuple(cells))
    heads = ("network", "depth", "connection", "rule", "T", *(head for _, head, *_ in columns))
    heads += ("test top-1 %",) * tested
    return Table(heads, tuple(rows), frozenset({1, *range(4, len(heads))}))


def whole_record(asked: MeasuredOn, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of measures.json."""
    data = {name: getattr(asked, name) for name in ("split", "classes", "subset_seed")}
    data["text"] = asked.data
    return {"format": FORMAT, "danetc": version("danetc"), "data": data, "measured": list(measured)}
