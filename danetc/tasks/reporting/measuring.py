"""Measures of a run that has none yet. Imports torch."""

from __future__ import annotations

from collections.abc import Collection

from danetc.output.text import note
from danetc.runtime.system.files import save_record
from danetc.tasks.measuring.record import MeasuredOn, measure_subject, whole_record
from danetc.tasks.model_directory import MEASURES, RUN, WEIGHTS
from danetc.tasks.reporting.runs import ShownRun, with_measures


def measured(run: ShownRun, data: str, allow_changed: Collection[str] = ()) -> ShownRun:
    """The run with what `danetc measure` finds by default, which is kept in the run's directory.

    It is not kept beside a model that was built, for `danetc build` does not replace a directory
    that holds files of others. Raises UserError.
    """
    from danetc.runtime.measure import MeasureOptions
    from danetc.tasks.measuring.data import open_subject

    asked = MeasuredOn(data=data)
    subject = open_subject(str(run.path), None, {}, 0, allow_changed)
    for notice in subject.notices:
        note(f"{run.label}: {notice}")
    options = MeasureOptions(subject.statistics, output=subject.output)
    _, entry = measure_subject(run.label, subject, asked, options)
    if (run.path / RUN).is_file():
        save_record(whole_record(asked, [entry]), run.path / MEASURES)
        return with_measures(run)
    note(f"measures are not kept in {run.path}, which holds no run")
    return with_measures(run, [(run.path / WEIGHTS, entry, f"{data} ({asked.split})")])
