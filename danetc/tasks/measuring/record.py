"""Networks measured on a data set, and what measures.json says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from danetc.output.text import note
from danetc.requests import MeasuredOn

if TYPE_CHECKING:
    from danetc.runtime.measure import MeasureOptions
    from danetc.runtime.measure.plots import PlottedNetwork
    from danetc.tasks.measuring.data import Subject

FORMAT = 1
"""Of measures.json."""


def measure_subject(
    label: str,
    subject: Subject,
    asked: MeasuredOn,
    options: MeasureOptions,
    *,
    silent: bool = False,
) -> tuple[PlottedNetwork, dict[str, Any]]:
    """Measure one network, with a bar on a terminal, and tell what is particular. What was found, and
    the same as JSON data. Raises SpecError, UserError.
    """
    from danetc.dsl.recipe.text import write_setting
    from danetc.output.console import image_bar
    from danetc.runtime.measure.plots import PlottedNetwork
    from danetc.runtime.measure.run import mean_cross_entropy, mean_squared_distance
    from danetc.tasks.measuring.data import batches_of, open_set, unlike_training
    from danetc.tasks.measuring.measure import measure
    from danetc.tasks.measuring.tables import facts

    images = open_set(
        asked.data,
        subject.model.signature,
        subject.trained,
        classes=asked.classes,
        subset_seed=asked.subset_seed,
        evaluate=subject.steps(asked.data) if asked.evaluate is None else asked.evaluate,
        output=subject.output,
        split=asked.split,
    )
    for notice in images.data.notices:
        note(f"{label}: {notice}")
    if options.statistics == "batch":
        note(f"{label}: norms go by the statistics of each batch")
    unlike = unlike_training(images, subject)
    if unlike:
        note(f"{label}: unlike the tests of the training: {'; '.join(unlike)}")
    most = asked.batch * asked.batches
    available = len(images.data.split(asked.split))
    with image_bar(label, min(most, available), silent=silent) as on_progress:
        measures = measure(
            subject.model,
            batches_of(images, split=asked.split, batch=asked.batch, count=asked.batches),
            only=asked.only,
            options=options,
            loss=mean_squared_distance if images.data.target == "numbers" else mean_cross_entropy,
            on_progress=on_progress,
        )
    if measures.images < most:
        note(f"{label}: the data set has {measures.images} images in this split, all were measured")
    entry = PlottedNetwork(label, measures.layout, measures)
    return entry, {
        "label": label,
        "source": subject.source,
        "trained": subject.is_trained,
        "data": images.data.describe(),
        "evaluate": write_setting("evaluate", images.steps),
        "unlike_training": unlike,
        **facts(entry),
        **measures.as_dict(),
    }


def whole_record(asked: MeasuredOn, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What stands in measures.json."""
    from danetc.version import version

    data = {
        "text": asked.data,
        "split": asked.split,
        "classes": asked.classes,
        "subset_seed": asked.subset_seed,
    }
    return {"format": FORMAT, "danetc": version(), "data": data, "measured": list(measured)}
