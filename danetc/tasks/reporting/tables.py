"""The tables of a page: results, curves, stages, layers, settings and facts of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from danetc.compiler.analysis.summary import on_main_path, summarise
from danetc.compiler.ir.graph import Node
from danetc.tasks.reporting.figures import training_curves
from danetc.tasks.reporting.layer_values import MEASURES, layer_name, neurons_in_order, of_nodes
from danetc.tasks.reporting.runs import ShownRun


class PageRow(NamedTuple):
    """A row and its heading. ``marked`` is True if the runs differ in it."""

    name: str
    cells: tuple[str, ...]
    marked: bool = False


class PageTable(NamedTuple):
    """A table. Its ``rows`` or its ``columns`` may be those of the runs, in their order."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[PageRow, ...]
    of_runs: Literal["rows", "columns"] | None = None


_RESULTS = (
    "run", "network", "T", "parameters", "epochs", "test top-1", "best top-1", "test top-5",
    "test loss", "firing rate", "gradient stability", "additions", "MACs", "energy, uJ",
)  # fmt: skip


def results(runs: Sequence[ShownRun]) -> PageTable:
    """Return a row for each run: ``-`` if unknown, and no column for what is unknown of all."""
    rows = []
    for run in runs:
        facts = summarise(run.graph)
        last: Mapping[str, Any] = run.epochs[-1] if run.epochs else {}
        measures = run.measures or {}
        firing = measures.get("firing_rate") or {}
        stability = measures.get("gradient_stability") or {}
        counted = measures.get("operations") or {}
        energy = counted.get("energy")
        cells = (
            run.graph.name,
            str(run.graph.steps),
            f"{facts.parameters:,}",
            str(len(run.epochs)) if run.epochs else "-",
            _cell("{:.2%}", last.get("test_accuracy")),
            _best(run.epochs),
            _cell("{:.2%}", last.get("test_top5")),
            _cell("{:.4f}", last.get("test_loss")),
            _cell("{:.4f}", firing.get("mean_of_layers")),
            _cell("{:.3g}", stability.get("overall")),
            _cell("{:,.0f}", counted.get("additions")),
            _cell("{:,.0f}", counted.get("macs")),
            _cell("{:.4g}", None if energy is None else 1e6 * energy),
        )
        rows.append(PageRow(run.label, cells))
    columns = list(zip(*(row.cells for row in rows), strict=True))
    known = [place for place, cells in enumerate(columns) if set(cells) != {"-"}]
    heads = (_RESULTS[0], *(_RESULTS[place + 1] for place in known))
    kept = (PageRow(row.name, tuple(row.cells[place] for place in known)) for row in rows)
    return PageTable("Results", heads, tuple(kept), "rows")


def curves(runs: Sequence[ShownRun]) -> PageTable | None:
    """Return the values in the figures of training, a row for each epoch."""
    columns = {
        f"{name}, {key}": dict(points)
        for key, lines in training_curves(runs).items()
        for name, points in lines.items()
    }
    epochs = sorted({epoch for points in columns.values() for epoch in points})
    rows = tuple(
        PageRow(str(epoch), tuple(_cell("{:.4f}", each.get(epoch)) for each in columns.values()))
        for epoch in epochs
    )
    return PageTable("Curves", ("epoch", *columns), rows) if rows else None


def _cell(form: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "-"
    return form.format(value) if math.isfinite(value) else str(value)


def _best(epochs: Sequence[Mapping[str, Any]]) -> str:
    known = [
        (float(value), number)
        for number, epoch in enumerate(epochs, 1)
        if isinstance(value := epoch.get("test_accuracy"), (int, float))
    ]
    if not known:
        return "-"
    value, number = max(known, key=lambda each: (each[0], -each[1]))
    return f"{value:.2%} in {number}"


def stages(run: ShownRun) -> PageTable:
    """Return a row for each stage: its wiring, its values, and what was measured there."""
    facts = summarise(run.graph)
    values = {
        stage["stage"]: stage
        for stage in ((run.measures or {}).get("values") or {}).get("stages", ())
    }
    rows = []
    for stage in facts.stages:
        measured = values.get(stage.name)
        span = f"{measured['least']:.3g} to {measured['most']:.3g}" if measured else "-"
        cells = (
            stage.connection or "its blocks",
            stage.rule,
            str(stage.blocks),
            "×".join(map(str, stage.shape)),
            stage.block_reads,
            stage.block_gives,
            span,
            stage.gives,
            str(stage.fewest_neurons),
            f"{stage.parameters:,}",
        )
        rows.append(PageRow(stage.name, cells))
    heads = (
        "stage", "connection", "rule", "blocks", "C×H×W", "block reads", "block gives", "measured",
        "stage gives",
        "fewest neurons", "parameters",
    )  # fmt: skip
    return PageTable(f"Stages of {run.label}", heads, tuple(rows))


class LayerGroup(NamedTuple):
    """The layers of a part of a network, which the page shows on demand."""

    title: str
    table: PageTable


def layers(run: ShownRun) -> list[LayerGroup]:
    """Return the neuron layers with their measures by stage, then the weight layers."""
    measured = [(measure, measure.of(run.measures)) for measure in MEASURES]
    shown = [(measure, values) for measure, values in measured if values]
    columns = [(m.title, {n: m.words(v) for n, v in values.items()}) for m, values in shown]
    columns += _distributions(run)
    grouped: dict[str, list[Node]] = {}
    for node in neurons_in_order(run.graph):
        grouped.setdefault(_part(run, node), []).append(node)
    found = []
    for part, nodes in grouped.items():
        heads = ("layer", *(head for head, _ in columns))
        rows = tuple(
            PageRow(
                layer_name(node) + ("" if on_main_path(node) else " (shortcut)"),
                tuple(by.get(layer_name(node), "-") for _, by in columns),
            )
            for node in nodes
        )
        means = []
        for measure, values in shown:
            joined = of_nodes(measure, values, nodes)
            if joined is not None:
                means.append(f"{measure.title} {measure.words(joined.value)}")
        count = f"{len(nodes)} layer{'s' * (len(nodes) != 1)} of neurons"
        title = "; ".join([f"{part}: {count}", *means])
        found.append(LayerGroup(title, PageTable(f"Layers of {run.label} in {part}", heads, rows)))
    weights = _weights(run)
    return [*found, weights] if weights is not None else found


def _part(run: ShownRun, node: Node) -> str:
    for stage in run.graph.stages:
        if node.scope[: len(stage.scope)] == stage.scope:
            return ".".join(stage.scope)
    return ".".join(node.scope[:1]) or "network"


Column = tuple[str, dict[str, str]]  # a head, and a cell for each layer


def _distributions(run: ShownRun) -> list[Column]:
    """Return mean and deviation of each neuron layer's membrane potential V and input X."""
    measures = run.measures or {}
    found: list[Column] = []
    for part, letter in (("potential", "V"), ("input", "X")):
        rows = (measures.get(part) or {}).get("layers", ())
        spread = {}
        for row in rows:
            of = row["distribution"]
            spread[str(row["layer"])] = (
                f"{_cell('{:.3f}', of['mean'])} ± {_cell('{:.3f}', of['std'])}"
            )
        if spread:
            found.append((f"{letter}, mean ± deviation", spread))
        if part == "input" and spread:
            distance = {str(row["layer"]): _cell("{:.3f}", row.get("distance")) for row in rows}
            found.append(("X to N(0, V_th²)", distance))
    return found


def _weights(run: ShownRun) -> LayerGroup | None:
    """Return operations and gradients of convolutions and linear layers, if they were measured."""
    measures = run.measures or {}
    counted = (measures.get("operations") or {}).get("layers", ())
    if not counted:
        return None
    norms = {
        str(row["parameter"]): row
        for row in (measures.get("gradients") or {}).get("parameters", ())
    }
    rows = []
    for row in counted:
        norm = norms.get(f"{row['layer']}.weight", {})
        cells = (
            str(row["kind"]),
            _cell("{:.1%}", row["active"]),
            _cell("{:,.0f}", row["additions"]),
            _cell("{:,.0f}", row["macs"]),
            *(_cell("{:.2e}", norm.get(part)) for part in ("whole", "spatial", "temporal")),
        )
        rows.append(PageRow(str(row["layer"]), cells))
    heads = (
        "layer", "input", "active", "additions", "MACs", "|dL/dW|", "spatial part", "temporal part",
    )  # fmt: skip
    title = f"{len(rows)} layers of weights: operations of an image, and gradients"
    return LayerGroup(title, PageTable(f"Weights of {run.label}", heads, tuple(rows)))


def settings(runs: Sequence[ShownRun]) -> PageTable | None:
    """Return the settings, those in which the runs differ first."""
    return _compared("Settings of the runs", runs, "settings", {"spec"})


def facts(runs: Sequence[ShownRun]) -> PageTable | None:
    """Return where and by what the runs were made."""
    return _compared("Facts of the runs", runs, "facts", set())


def _compared(
    caption: str, runs: Sequence[ShownRun], part: str, without: set[str]
) -> PageTable | None:
    flat = [_flat((run.record or {}).get(part) or {}) for run in runs]
    rows = []
    for key in dict.fromkeys(key for each in flat for key in each):
        if key in without:
            continue
        cells = tuple(each.get(key, "-") for each in flat)
        rows.append(PageRow(key, cells, len(set(cells)) > 1))
    rows.sort(key=lambda row: not row.marked)
    heads = ("name", *(run.label for run in runs))
    return PageTable(caption, heads, tuple(rows), "columns") if rows else None


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return every leaf of a record by its path, as text."""
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        named = {
            str(item.get("name", i)) if isinstance(item, Mapping) else str(i): item
            for i, item in enumerate(value)
        }
        return _flat(named, prefix)
    return {prefix: _words(value)}


def _words(value: object) -> str:
    match value:
        case str():
            return value
        case None:
            return "none"
        case list() if all(isinstance(item, str) for item in value):
            return " ".join(value) or "none"
        case _:
            return json.dumps(value)
