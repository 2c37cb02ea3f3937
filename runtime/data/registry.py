"""Data sets opened by their names, those of ``danetc.runtime.sources``."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import torch

from danetc.runtime.data.channels import with_channels
from danetc.runtime.data.source import DataSet, DrawnClasses, Source, facts_fingerprint
from danetc.runtime.sources.request import DataRequest, Policy
from danetc.runtime.sources.table import find
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import derive


def open_data(
    text: str,
    *,
    classes: int | None = None,
    subset_seed: int = 0,
    on_unreadable: Policy = "stop",
    frames: int | None = None,
    channels: int | None = None,
) -> DataSet:
    """The data set that ``text`` names: ``NAME`` or ``NAME:ARGUMENT``, as in ``sources.table.SOURCES``.

    With ``classes``, so many classes drawn at random by ``subset_seed``, numbered anew. With
    ``channels``, grey and colour are converted to that number (``with_channels``).
    ``on_unreadable`` is for sources that read files while they train. ``frames`` is T for
    recordings of events that are still to be cut into frames.

    Raises DataError where there is none, or it is not as it should be.
    """
    row, name, argument = find(text)
    module = import_module(f"danetc.runtime.data.{row.module}")
    request = DataRequest(name, argument, on_unreadable, frames)
    row.look(request)
    data: DataSet = module.open_source(request)
    if classes is not None:
        data = draw_classes(data, classes, subset_seed)
    return data if channels is None else with_channels(data, channels)


def draw_classes(data: DataSet, count: int, seed: int) -> DataSet:
    """``count`` classes of ``data``, drawn at random, in their old order under new numbers.

    A class is drawn by its place in an order that depends on ``seed`` and the number of classes
    alone, so the 5 of one seed are among its 20. Raises DataError for less than 2 or too many.
    """
    if data.target != "classes":
        raise DataError(
            f"classes cannot be drawn from {data.name}, whose labels are {data.target}; leave out "
            "--classes"
        )
    if not 2 <= count <= data.classes:
        raise DataError(
            f"{count} classes cannot be drawn from the {data.classes} of {data.name}; "
            f"--classes takes 2 to {data.classes}"
        )
    order = sorted(
        range(data.classes), key=lambda number: derive("class", seed, data.classes, number)
    )
    drawn = tuple(sorted(order[:count]))
    names = tuple(data.class_names[number] for number in drawn)
    renumbered = torch.full((data.classes,), -1, dtype=torch.int64)
    renumbered[list(drawn)] = torch.arange(count)
    return replace(
        data,
        class_names=names,
        train=_only(data.train, renumbered),
        test=_only(data.test, renumbered),
        drawn=DrawnClasses(seed, data.classes, drawn, names),
        fingerprint=facts_fingerprint((data.fingerprint, drawn)),
    )


def _only(source: Source, renumbered: torch.Tensor) -> Source:
    labels = renumbered[source.labels]
    kept = (labels >= 0).nonzero().flatten()
    return source.select(kept, labels[kept])
