"""The tables of a page: results, curves, stages, layers, settings and facts of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from danetc.compiler.analysis.summary import on_main_path, summarise
from danetc.compiler.ir.graph import Node
from danetc.dsl.diagnostics.visible import visible
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


Cells = Mapping[str, str | None]
"""Dictionary of the cells of a row by the title of the column. The value is None if it is not known."""


def _table(
    caption: str,
    first: str,
    rows: Sequence[tuple[str, Cells]],
    of_runs: Literal["rows", "columns"] | None = None,
) -> PageTable:
    """Return a table with the names of the rows in column ``first``; columns without values are omitted."""
    heads = [
        head
        for head in dict.fromkeys(head for _, cells in rows for head in cells)
        if any(cells.get(head) is not None for _, cells in rows)
    ]
    made = (PageRow(name, tuple(cells.get(head) or "-" for head in heads)) for name, cells in rows)
    return PageTable(caption, (first, *heads), tuple(made), of_runs)


def _cell(form: str, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return form.format(value) if math.isfinite(value) else str(value)


def results(runs: Sequence[ShownRun]) -> PageTable:
    """Return a row for each run."""
    rows = []
    for run in runs:
        last: Mapping[str, Any] = run.epochs[-1] if run.epochs else {}
        measures = run.measures or {}
        firing, stability, counted = (
            measures.get(part) or {} for part in ("firing_rate", "gradient_stability", "operations")
        )
        cells = {
            "network": run.graph.name,
            "T": str(run.graph.steps),
            "parameters": f"{summarise(run.graph).parameters:,}",
            "epochs": str(len(run.epochs)) if run.epochs else None,
            "test top-1": _cell("{:.2%}", last.get("test_accuracy")),
            "best val top-1": _best(run.epochs),
            "test top-5": _cell("{:.2%}", last.get("test_top5")),
            "test loss": _cell("{:.4f}", last.get("test_loss")),
            "firing rate": _cell("{:.4f}", firing.get("mean_of_layers")),
            "gradient stability": _cell("{:.3g}", stability.get("overall")),
            "additions": _cell("{:,.0f}", counted.get("additions")),
            "MACs": _cell("{:,.0f}", counted.get("macs")),
            "energy, uJ": _cell("{:.4g}", (energy := counted.get("energy")) and 1e6 * energy),
        }
        rows.append((run.label, cells))
    return _table("Results", "run", rows, "rows")


def _best(epochs: Sequence[Mapping[str, Any]]) -> str | None:
    known = {
        number: float(value)
        for number, epoch in enumerate(epochs, 1)
        if isinstance(value := epoch.get("val_accuracy"), (int, float))
    }
    best = max(known, key=known.__getitem__, default=None)
    return None if best is None else f"{known[best]:.2%} in {best}"


def stages(run: ShownRun) -> PageTable:
    """Return a row for each stage: its wiring, its values, and what was measured there."""
    values = (run.measures or {}).get("values") or {}
    measured = {stage["stage"]: stage for stage in values.get("stages", ())}
    rows = []
    for stage in summarise(run.graph).stages:
        span = measured.get(stage.name)
        cells = {
            "connection": stage.connection or "its blocks",
            "rule": stage.rule,
            "blocks": str(stage.blocks),
            "C×H×W": "×".join(map(str, stage.shape)),
            "block reads": stage.block_reads,
            "block gives": stage.block_gives,
            "measured": f"{span['least']:.3g} to {span['most']:.3g}" if span else None,
            "stage gives": stage.gives,
            "fewest neurons": str(stage.fewest_neurons),
            "parameters": f"{stage.parameters:,}",
        }
        rows.append((stage.name, cells))
    return _table(f"Stages of {run.label}", "stage", rows)


def classes(run: ShownRun) -> PageTable | None:
    """Return a row for each class of an evaluation, or None without one."""
    if run.evaluation is None:
        return None
    rows = []
    for each in run.evaluation["classes"]:
        taken_for = each["taken_for"] and f"{each['taken_for']} ({each['share']:.2%})"
        cells = {"images": f"{each['images']:,}", "accuracy": _cell("{:.2%}", each["accuracy"])}
        rows.append((str(each["class"]), {**cells, "most often confused with": taken_for}))
    found = run.evaluation["results"][0]
    where = f"{run.evaluation['data']} ({run.evaluation['split']}), T = {found['steps']}"
    return _table(f"Classes of {run.label} on {where}: {found['top1']:.2%}", "class", rows)


def layers(run: ShownRun) -> list[PageTable]:
    """Return the neuron layers with their measures by stage, then the weight layers."""
    shown = [(measure, measure.of(run.measures)) for measure in MEASURES]
    columns = {m.title: {n: m.words(v) for n, v in values.items()} for m, values in shown}
    columns |= _distributions(run.measures or {})
    grouped: dict[str, list[Node]] = {}
    for node in neurons_in_order(run.graph):
        grouped.setdefault(_part(run, node), []).append(node)
    found = []
    for part, nodes in grouped.items():
        rows = [
            (
                layer_name(node) + ("" if on_main_path(node) else " (shortcut)"),
                {head: by.get(layer_name(node)) for head, by in columns.items()},
            )
            for node in nodes
        ]
        title = [f"{part}: {len(nodes)} layer{'s' * (len(nodes) != 1)} of neurons"]
        title += [
            f"{measure.title} {measure.words(joined.value)}"
            for measure, values in shown
            if (joined := of_nodes(measure, values, nodes)) is not None
        ]
        found.append(_table("; ".join(title), "layer", rows))
    return [*found, *_weights(run.measures or {})]


def _part(run: ShownRun, node: Node) -> str:
    stage = run.graph.stage_of(node)
    return ".".join(node.scope[:1] if stage is None else stage.scope) or "network"


def _distributions(measures: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return mean and deviation of each neuron layer's membrane potential V and input X."""
    found: dict[str, dict[str, str]] = {}
    for part, letter in (("potential", "V"), ("input", "X")):
        for row in (measures.get(part) or {}).get("layers", ()):
            mean, deviation = (_cell("{:.3f}", row["distribution"][key]) for key in ("mean", "std"))
            spread = found.setdefault(f"{letter}, mean ± deviation", {})
            spread[str(row["layer"])] = f"{mean} ± {deviation}"
            if part == "input" and (distance := _cell("{:.3f}", row.get("distance"))):
                found.setdefault("X to N(0, V_th²)", {})[str(row["layer"])] = distance
    return found


def _weights(measures: Mapping[str, Any]) -> list[PageTable]:
    """Return operations and gradients of convolutions and linear layers, if they were measured."""
    counted = (measures.get("operations") or {}).get("layers", ())
    gradients = (measures.get("gradients") or {}).get("parameters", ())
    norms = {str(row["parameter"]).removesuffix("_raw"): row for row in gradients}
    rows = []
    for row in counted:
        norm = norms.get(f"{row['layer']}.weight", {})
        cells = {
            "input": str(row["kind"]),
            "active": _cell("{:.1%}", row["active"]),
            "additions": _cell("{:,.0f}", row["additions"]),
            "MACs": _cell("{:,.0f}", row["macs"]),
            "|dL/dW|": _cell("{:.2e}", norm.get("whole")),
            "spatial part": _cell("{:.2e}", norm.get("spatial")),
            "temporal part": _cell("{:.2e}", norm.get("temporal")),
        }
        rows.append((str(row["layer"]), cells))
    title = f"{len(rows)} layers of weights: operations of an image, and gradients"
    return [_table(title, "layer", rows)] if rows else []


def compared(
    caption: str, runs: Sequence[ShownRun], part: str, without: Collection[str] = ()
) -> PageTable:
    """Return the entries of a part of run.json; entries in which the runs differ come first."""
    flat = [_flat((run.record or {}).get(part) or {}) for run in runs]
    rows = []
    for key in dict.fromkeys(key for each in flat for key in each if key not in without):
        cells = tuple(each.get(key, "-") for each in flat)
        rows.append(PageRow(key, cells, len(set(cells)) > 1))
    rows.sort(key=lambda row: not row.marked)
    return PageTable(caption, ("name", *(run.label for run in runs)), tuple(rows), "columns")


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return every leaf of a record by its path, as text."""
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = {
            str(item.get("name", i)) if isinstance(item, Mapping) else str(i): item
            for i, item in enumerate(value)
        }
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
        return found
    match value:
        case str():
            return {prefix: value}
        case None:
            return {prefix: "none"}
        case list() if all(isinstance(item, str) for item in value):
            return {prefix: visible(" ".join(value)) or "none"}
        case _:
            return {prefix: json.dumps(value)}
