"""The records in the directories of runs. torch is imported only to measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError
from danetc.output.echo import note
from danetc.output.figures import percent
from danetc.output.table import unique_labels
from danetc.runtime.system.files import save_record, within
from danetc.tasks.measuring.tables import FORMAT
from danetc.tasks.model_directory import (
    CONVERSION,
    GRID,
    MEASURES,
    RUN,
    TRAINING,
    WEIGHTS,
    epochs_in,
    open_directory,
    record_if_any,
    record_in,
)
from danetc.tasks.trained import trials_in


@dataclass(frozen=True)
class ShownRun:
    """A run, or a network that was built and never trained.

    Attributes:
        record: The run.json of the run.
        epochs: The list of epochs in training.json.
        measures: The results of ``danetc measure``, if any.
        measured_on: The data set of the measures.
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
    notes: tuple[str, ...] = ()


Entry = tuple[Path, Mapping[str, Any], str]
"""A file of measures, the entry of a network in it, and the data that it was measured on."""


def open_runs(paths: Sequence[Path], measures: Sequence[Path] = ()) -> list[ShownRun]:
    """Return the runs in these directories; that of trials or of a grid stands for each run in it.

    ``measures`` are more files or directories of ``danetc measure``, which are used first. Raises
    UserError.
    """
    found = [run for path in paths for run in _trials(path)]
    if len({path.resolve() for path in found}) < len(found):
        raise UserError("the same run is given twice")
    given = [entry for path in measures for entry in _entries(_file(path))]
    runs = [_open(path, given) for path in found]
    for _, entry, _ in given:
        if not any(_same(entry, run.path) for run in runs):
            raise UserError(
                f"measures of {entry.get('source')} are given, which is none of the runs"
            )
    labels = unique_labels([run.graph.name for run in runs], [run.path for run in runs])
    return [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]


def _trials(path: Path) -> list[Path]:
    """Return the runs in a directory; of a grid those that have begun."""
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


def _open(path: Path, given: Sequence[Entry]) -> ShownRun:
    compiled = open_directory(path).compiled()
    graph, text = compiled.graph, compiled.checked.module.source.text
    epochs = epochs_in(path / TRAINING)
    record = record_if_any(path / RUN)
    run = ShownRun(graph.name, path, graph, text, record, tuple(epochs))
    if not epochs:
        run = replace(run, notes=(f"There are no curves: {_why_no_curves(run)}.",))
    own = [entry for entry in given if _same(entry[1], path)]
    return _with_measures(run, own)


def _why_no_curves(run: ShownRun) -> str:
    if run.record is not None:
        return "no epoch is finished"
    made = record_if_any(run.path / CONVERSION)
    if made is None:
        return "built, not trained"
    try:
        (*_, last), ann = made["over_time"], made["ann"]
        return (
            f"converted from {made['source']} (ReLU: {percent(ann['top1'])} on {made['data']}); at T = "
            f"{last['steps']} it is right on {percent(last['top1'])} of the test images"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.path / CONVERSION} is damaged: {error}") from error


def measured(run: ShownRun, data: str) -> ShownRun:
    """Measure a run as ``danetc measure`` does by default, and save the measures in its directory.

    The measures of a built model are not saved, since ``danetc build`` would refuse to replace the
    directory. Imports torch. Raises UserError.
    """
    from danetc.requests import MeasuredOn
    from danetc.tasks.measuring.data import open_subject
    from danetc.tasks.measuring.measure import measure_subject
    from danetc.tasks.measuring.tables import whole_record

    asked = MeasuredOn(data=data)
    subject = open_subject(str(run.path), None, {}, 0)
    if subject.notice:
        note(f"{run.label}: {subject.notice}")
    _, entry = measure_subject(run.label, subject, asked, subject.statistics)
    if (run.path / RUN).is_file():
        save_record(whole_record(asked, [entry]), run.path / MEASURES)
        return _with_measures(run)
    note(f"measures are not kept in {run.path}, which holds no run")
    return _with_measures(run, [(run.path / WEIGHTS, entry, f"{data} ({asked.split})")])


def _with_measures(run: ShownRun, given: Sequence[Entry] = ()) -> ShownRun:
    """Return the run with the ``given`` measures, or else those in its directory."""
    file = run.path / MEASURES
    entries = list(given) or (_entries(file) if file.is_file() else [])
    if not entries:
        return run
    source, entry, data = entries[-1]
    if entry.get("network") != run.graph.name:
        raise UserError(
            f"{source} holds measures of {entry.get('network')}, not of {run.graph.name}, which "
            f"is in {run.path}"
        )
    notes = run.notes
    weights = run.path / WEIGHTS
    if weights.is_file() and weights.stat().st_mtime > source.stat().st_mtime:
        notes = (*notes, "The measures are older than the weights: measure again.")
    return replace(run, measures=entry, measured_on=data, notes=notes)


def _file(path: Path) -> Path:
    found = path / MEASURES if path.is_dir() else path.resolve()
    if not found.is_file():
        raise UserError(
            f"there are no measures in {path}; `danetc measure RUN -o {path}` takes them"
        )
    return found


def _entries(path: Path) -> list[Entry]:
    """Return the entry of each network in a file of measures. Raises UserError."""
    record = record_in(path)
    entries = record.get("measured")
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise UserError(f"{path} is damaged, or not written by `danetc measure`")
    if record.get("format", 0) != FORMAT:
        raise UserError(f"{path} was written by another version of danetc; measure again")
    data = record.get("data")
    data = data if isinstance(data, dict) else {}
    return [(path, each, f"{data.get('text')} ({data.get('split')})") for each in entries]


def _same(entry: Mapping[str, Any], path: Path) -> bool:
    return Path(str(entry.get("source"))).resolve() == path.resolve()
