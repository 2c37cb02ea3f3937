"""Measures of a run that has none yet. Imports torch."""

from __future__ import annotations

import sys

from danetc.model_directory import RUN, WEIGHTS
from danetc.output import echo, json_text
from danetc.report_page.runs import MEASURES, MEASURES_FORMAT, Run, with_measures
from danetc.text import replace_text

BATCH, BATCHES, SPLIT = 64, 4, "test"  # as `danetc measure` without options


def measured(run: Run, data: str) -> Run:
    """The run with what `danetc measure` finds by default, which is kept in the run's directory.

    It is not kept beside a model that was built, for `danetc build` does not replace a directory
    that holds files of others. Raises UserError.
    """
    from rich.progress import Progress

    from danetc import __version__
    from danetc.console import VisibleConsole
    from danetc.measuring.data import batches_of, open_set, open_subject
    from danetc.measuring.measure import measure
    from danetc.runtime.measure import Options

    subject = open_subject(str(run.path), None, {}, 0)
    images, transform = open_set(data, subject, None, 0)
    for notice in (*subject.notices, *images.notices):
        echo(f"note: {notice}", err=True)
    options = Options(subject.statistics, "sum", "main", seed=0)
    console = VisibleConsole(sys.stderr)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(run.label, total=min(BATCH * BATCHES, len(images.test)))
        found = measure(
            subject.model,
            batches_of(images, transform, split=SPLIT, batch=BATCH, count=BATCHES),
            options=options,
            tick=lambda count: progress.advance(task, count),
        )
    entry = {
        "label": run.label,
        "source": subject.source,
        "trained": subject.trained,
        **found.as_dict(),
    }
    record = {
        "format": MEASURES_FORMAT,
        "danetc": __version__,
        "data": {"text": data, "split": SPLIT, "classes": None, "subset_seed": 0},
        "measured": [entry],
    }
    text = json_text(record) + "\n"
    if (run.path / RUN).is_file():
        replace_text(run.path / MEASURES, text)
        return with_measures(run)
    echo(f"note: measures are not kept in {run.path}, which holds no run", err=True)
    return with_measures(run, [(run.path / WEIGHTS, entry, f"{data} ({SPLIT})")])
