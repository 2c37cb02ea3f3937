"""Functions to open a data set by name, to draw some of its classes and to convert its channels."""

from __future__ import annotations

from dataclasses import replace

import torch

from danetc.runtime.data.dataset import COLOUR, GREY, DataSet, Source, facts_fingerprint, split_off
from danetc.runtime.data.request import Policy, TokenInput
from danetc.runtime.data.sources import find
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
    tokens: TokenInput | None = None,
) -> DataSet:
    """Open the data set ``NAME`` or ``NAME:ARGUMENT`` (see ``sources.SOURCES``).

    ``classes`` draws that many classes at random by ``subset_seed`` and numbers them anew.
    ``channels`` converts between grey and colour. ``on_unreadable`` concerns files that are read during
    training. ``frames`` and ``tokens`` are those of a ``DataRequest``. Raises DataError if there is no such
    data set, or it is damaged.
    """
    source, argument = find(text)
    request = source.request(argument, policy=on_unreadable, frames=frames, tokens=tokens)
    data: DataSet = source.open(request, source.look(request))
    if request.val is not None:
        data = with_validation(data, request.val)
    if classes is not None:
        data = draw_classes(data, classes, subset_seed)
    return data if channels is None or data.tokens else with_channels(data, channels)


def with_validation(data: DataSet, share: float) -> DataSet:
    """Move a share of the training samples to ``val``: of each class, or of all for other targets.

    The selection depends only on the share and the labels. Raises DataError if a part gets no
    samples, or none of a class.
    """
    train, val = split_off(data.train, share, "validation", data.target, f"{data.text} (val)")
    classes = data.target == "classes"
    of = "each class" if classes else "all samples"
    counts = (
        each.labels.bincount(minlength=data.classes).tolist() if classes else [len(each)]
        for each in (train, val)
    )
    for name, kept, held in zip(data.class_names, *counts, strict=classes):
        if (kept == 0) != (held == 0):
            raise DataError(
                f"{data.name}: val={share:g} of {of} leaves none of the {kept + held} training samples"
                f"{f' of class `{name}`' * classes} to {'validate' if kept else 'train'} on; choose "
                "another share, or add samples"
            )
    validation = {"share": share, "of": of}
    return replace(
        data,
        train=train,
        val=val,
        details={**data.details, "validation": validation},
        fingerprint=facts_fingerprint((data.fingerprint, validation)),
    )


def draw_classes(data: DataSet, count: int, seed: int) -> DataSet:
    """Draw ``count`` classes of ``data``, which keep their order and get new numbers.

    A class is drawn by its place in an order that depends on ``seed`` and the number of classes
    alone: the 5 classes of a seed are among its 20. Raises DataError for less than 2 or too many.
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
    places = {n: derive("class", seed, data.classes, n) for n in range(data.classes)}
    chosen = tuple(sorted(sorted(places, key=places.__getitem__)[:count]))
    names = tuple(data.class_names[number] for number in chosen)
    subset = {"seed": seed, "of": data.classes, "indices": list(chosen), "names": list(names)}
    renumbered = torch.full((data.classes,), -1, dtype=torch.int64)
    renumbered[list(chosen)] = torch.arange(count)

    def only_drawn(source: Source) -> Source:
        labels = renumbered[source.labels]
        kept = (labels >= 0).nonzero().flatten()
        return source.select(kept, labels[kept])

    return data.map_splits(
        only_drawn,
        class_names=names,
        subset=chosen,
        details={**data.details, "subset": subset},
        fingerprint=facts_fingerprint((data.fingerprint, chosen)),
    )


def with_channels(data: DataSet, channels: int) -> DataSet:
    """Convert grey images to 3 equal channels, or colour images to grey, and add a notice.

    Grey is the luma of ITU-R BT.601. Frames of events, and images of other numbers of channels, are
    returned unchanged: ``check_fit`` refuses them.
    """
    own = data.shape[0] if data.shape is not None else COLOUR
    if data.events or own == channels or {own, channels} != {COLOUR, GREY}:
        return data
    what = "grey; each is given to the network's 3 channels"
    if channels == GREY:
        what = "in colour; the network gets their grey values"

    return data.map_splits(
        lambda source: source.converted(channels),
        shape=(channels, *data.shape[1:]) if data.shape is not None else None,
        notices=(*data.notices, f"the images of {data.name} are {what}"),
        details={**data.details, "converted_to_channels": channels},
    )
