"""The records in the directories of runs. torch is imported only to measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError
from danetc.output.echo import note
from danetc.output.table import unique_labels
from danetc.runtime.system.files import save_record, within
from danetc.tasks.measuring.tables import FORMAT, whole_record
from danetc.tasks.model_directory import (
    CONVERSION,
    EVALUATION,
    GRID,
    MEASURES,
    RUN,
    TRAINING,
    WEIGHTS,
    epochs_in,
    open_directory,
    record_if_any,
    record_in,
    trials_in,
)


@dataclass(frozen=True)
class ShownRun:
    """A run, or a network that was built and never trained.

    Attributes:
        record: The run.json of the run.
        epochs: The list of epochs in training.json.
        measures: The results of ``danetc measure``, if any.
        measured_on: The data set of the measures.
        evaluation: The results of ``danetc eval --per-class``, if any.
        notes: Notes about missing results, shown on the page.
    """

    label: str
    path: Path
    graph: Graph
    spec: str
    record: Mapping[str, Any] | None = None
    epochs: Sequence[Mapping[str, Any]] = ()
    measures: Mapping[str, Any] | None = None
    measured_on: str = ""
    evaluation: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def open_runs(paths: Sequence[Path]) -> list[ShownRun]:
    """Return the runs in these directories, and every run in directories of trials and of grids.

    Raises UserError.
    """
    found = [run for path in paths for run in _trials(path)]
    if len({path.resolve() for path in found}) < len(found):
        raise UserError("the same run is given twice")
    runs = [_open(path) for path in found]
    labels = unique_labels([run.graph.name for run in runs], [run.path for run in runs])
    return [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]


def _trials(path: Path) -> list[Path]:
    """Return the runs in a directory; for a grid, only those that have started."""
    if not (path / GRID).is_file():
        return trials_in(path)
    record = record_in(path / GRID)
    try:
        places = [
            within(path, run["directory"]) for cell in record["cells"] for run in cell["runs"]
        ]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path / GRID} is damaged: it names no runs") from error
    found = [place for place in places if (place / RUN).is_file()]
    if not found:
        raise UserError(f"{path} holds no run yet")
    return found


def _open(path: Path) -> ShownRun:
    compiled = open_directory(path).compiled()
    graph, text = compiled.graph, compiled.checked.module.source.text
    epochs = epochs_in(path / TRAINING)
    run = ShownRun(graph.name, path, graph, text, record_if_any(path / RUN), tuple(epochs))
    if not epochs:
        made = "converted" if record_if_any(path / CONVERSION) else "built"
        why = f"{made}, not trained" if run.record is None else "no epoch is finished"
        run = replace(run, notes=(f"There are no curves: {why}.",))
    if (evaluation := record_if_any(path / EVALUATION)) is not None:
        notes = (*run.notes, *_if_old(path / EVALUATION, "eval --per-class"))
        run = replace(run, evaluation=evaluation, notes=notes)
    return _with_measures(run, *_entry(path / MEASURES)) if (path / MEASURES).is_file() else run


def measured(run: ShownRun, data: str, device: str | None) -> ShownRun:
    """Measure a run as ``danetc measure`` does by default, and save the measures in its directory.

    The measures of a built model are not saved, since ``danetc build`` would refuse to replace the
    directory. Imports torch. Raises UserError.
    """
    from danetc.requests import MeasuredOn
    from danetc.tasks.measuring.data import open_subject
    from danetc.tasks.measuring.measure import measure_subject

    asked = MeasuredOn(data=data)
    subject = open_subject(str(run.path), device=device)
    _, entry = measure_subject(run.label, subject, asked, subject.statistics)
    if (run.path / RUN).is_file():
        save_record(whole_record(asked, [entry]), run.path / MEASURES)
    else:
        note(f"measures are not kept in {run.path}, which holds no run")
    return _with_measures(run, entry, f"{data} ({asked.split})")


def _with_measures(run: ShownRun, measures: Mapping[str, Any], data: str) -> ShownRun:
    if measures.get("network") != run.graph.name:
        raise UserError(
            f"{run.path / MEASURES} holds measures of {measures.get('network')}, not of "
            f"{run.graph.name}, which is in {run.path}"
        )
    notes = (*run.notes, *_if_old(run.path / MEASURES, "measure"))
    return replace(run, measures=measures, measured_on=data, notes=notes)


def _if_old(file: Path, command: str) -> tuple[str, ...]:
    """Return a note if the weights beside a file are newer."""
    times = [x.stat().st_mtime for x in (file, file.with_name(WEIGHTS)) if x.is_file()]
    old = times != sorted(times, reverse=True)
    return (f"{file.name} is older than the weights: `danetc {command}` again.",) if old else ()


def _entry(path: Path) -> tuple[Mapping[str, Any], str]:
    """Return the last entry in a file of measures and the data of it. Raises UserError."""
    record = record_in(path)
    if record.get("format", 0) != FORMAT:
        raise UserError(f"{path} was written by another version of danetc; measure again")
    try:
        data = record.get("data", {})
        return dict(record["measured"][-1]), f"{data.get('text')} ({data.get('split')})"
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged, or not written by `danetc measure`") from error
