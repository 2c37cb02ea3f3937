"""Measures of a run that has none yet. Imports torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from danetc.model_directory import MEASURES, RUN, WEIGHTS
from danetc.report_page.runs import MEASURES_FORMAT, Run, with_measures
from danetc.runtime.files import save_record
from danetc.text import note

BATCH, BATCHES = 64, 4  # as `danetc measure` without options
SPLIT: Literal["test"] = "test"


def measured(run: Run, data: str, allow_changed: Collection[str] = ()) -> Run:
    """The run with what `danetc measure` finds by default, which is kept in the run's directory.

    It is not kept beside a model that was built, for `danetc build` does not replace a directory
    that holds files of others. Raises UserError.
    """
    from danetc import __version__
    from danetc.console import image_bar
    from danetc.dsl.recipe_text import write_setting
    from danetc.measuring.data import batches_of, open_set, open_subject, unlike_training
    from danetc.measuring.measure import measure
    from danetc.runtime.measure import Options

    subject = open_subject(str(run.path), None, {}, 0, allow_changed)
    images = open_set(data, subject.model.signature, subject.trained, output=subject.output)
    unlike = unlike_training(images, subject)
    for notice in (*subject.notices, *images.data.notices):
        note(f"{run.label}: {notice}")
    if unlike:
        told = "; ".join(unlike)
        note(f"{run.label}: unlike the tests of the training: {told}")
    options = Options(subject.statistics, "sum", "main", seed=0, output=subject.output)
    with image_bar(run.label, min(BATCH * BATCHES, len(images.data.test))) as tick:
        found = measure(
            subject.model,
            batches_of(images, split=SPLIT, batch=BATCH, count=BATCHES),
            options=options,
            tick=tick,
        )
    entry = {
        "label": run.label,
        "source": subject.source,
        "trained": subject.is_trained,
        "evaluate": write_setting("evaluate", images.steps),
        "unlike_training": unlike,
        **found.as_dict(),
    }
    record = {
        "format": MEASURES_FORMAT,
        "danetc": __version__,
        "data": {"text": data, "split": SPLIT, "classes": None, "subset_seed": 0},
        "measured": [entry],
    }
    if (run.path / RUN).is_file():
        save_record(record, run.path / MEASURES)
        return with_measures(run)
    note(f"measures are not kept in {run.path}, which holds no run")
    return with_measures(run, [(run.path / WEIGHTS, entry, f"{data} ({SPLIT})")])
