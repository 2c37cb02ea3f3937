"""What the page says in tables: results, stages, layers of neurons, settings and facts of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from danetc.compiler.analysis.summary import on_main_path, summarise
from danetc.compiler.ir.graph import Node
from danetc.tasks.reporting.layer_values import MEASURES, layer_name, neurons_in_order, of_nodes
from danetc.tasks.reporting.runs import ShownRun


@dataclass(frozen=True)
class PageRow:
    """A row under the head ``name``. ``run`` is its run's index where it is of one; ``marked`` says
    that the runs differ in it."""

    name: str
    cells: tuple[str, ...]
    run: int | None = None
    marked: bool = False


@dataclass(frozen=True)
class PageTable:
    caption: str
    heads: tuple[str, ...]
    rows: tuple[PageRow, ...]
    by_run: bool = False  # each column behind the first is of a run


_RESULTS = (
    "run", "network", "T", "parameters", "epochs", "test top-1", "best top-1", "test top-5",
    "test loss", "firing rate", "gradient stability", "additions", "MACs", "energy, uJ",
)  # fmt: skip


def results(runs: Sequence[ShownRun]) -> PageTable:
    """A row a run: its results. ``-`` stands where something was not trained or measured;
    what is known of no run has no column."""
    rows = []
    for index, run in enumerate(runs):
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
        rows.append(PageRow(run.label, cells, index))
    known = [place for place, cells in enumerate(zip(*(r.cells for r in rows), strict=True))
             if set(cells) != {"-"}]  # fmt: skip
    heads = (_RESULTS[0], *(_RESULTS[place + 1] for place in known))
    kept = (replace(row, cells=tuple(row.cells[place] for place in known)) for row in rows)
    return PageTable("Results", heads, tuple(kept))


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
    """A row a stage: how it is wired, what it passes on, and what was measured there."""
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


@dataclass(frozen=True)
class LayerGroup:
    """The layers of a part of a network, which the page shows on demand."""

    title: str
    table: PageTable


def layers(run: ShownRun) -> list[LayerGroup]:
    """Every layer of neurons with its measures, by stage, then every layer of weights."""
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
            PageRow(_titled(node), tuple(by.get(layer_name(node), "-") for _, by in columns))
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


def _titled(node: Node) -> str:
    return layer_name(node) if on_main_path(node) else f"{layer_name(node)} (shortcut)"


Column = tuple[str, dict[str, str]]  # a head, and a cell for each layer


def _distributions(run: ShownRun) -> list[Column]:
    """Membrane potentials V and inputs X of each layer of neurons: mean and deviation."""
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
    """Operations and gradients of convolutions and linear layers; None where not measured."""
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
    """What was set, beside each other: rows in which runs differ first."""
    return _compared("Settings of the runs", runs, "settings", {"spec"})


def facts(runs: Sequence[ShownRun]) -> PageTable | None:
    """Where and by what the runs were made."""
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
        rows.append(PageRow(key, cells, marked=len(set(cells)) > 1))
    rows.sort(key=lambda row: not row.marked)
    heads = ("name", *(run.label for run in runs))
    return PageTable(caption, heads, tuple(rows), by_run=True) if rows else None


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Every leaf of a record by its path, in words."""
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
