"""Data sets by name: ``--data NAME[:ARGUMENT]``. A new one is a module beside this and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from danetc.dsl.diagnostics import did_you_mean
from danetc.runtime.data.channels import with_channels
from danetc.runtime.data.source import (
    DataSet,
    Policy,
    Source,
    Subset,
    facts_fingerprint,
)
from danetc.runtime.errors import DataError
from danetc.runtime.seeds import derive


@dataclass(frozen=True, slots=True)
class Request:
    """What a source is asked for. ``frames`` is the T into which recordings of events are cut,
    where that is still to choose.
    """

    argument: str
    policy: Policy
    frames: int | None


Opener = Callable[[Request], DataSet]


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of data: how it is written and what it is. Its module is imported when it is used."""

    usage: str
    meaning: str
    open: Opener


def _digits(request: Request) -> DataSet:
    from danetc.runtime.data.digits import open_digits

    if request.argument:
        raise DataError(f"`digits` takes no argument, but got `{request.argument}`")
    return open_digits()


def _synthetic(request: Request) -> DataSet:
    from danetc.runtime.data.synthetic import open_synthetic

    return open_synthetic(request.argument)


def _fashion_mnist(request: Request) -> DataSet:
    from danetc.runtime.data.fashion_mnist import open_fashion_mnist

    return open_fashion_mnist(request.argument)


def _cifar10(request: Request) -> DataSet:
    from danetc.runtime.data.cifar import open_cifar

    return open_cifar("cifar10", request.argument)


def _cifar100(request: Request) -> DataSet:
    from danetc.runtime.data.cifar import open_cifar

    return open_cifar("cifar100", request.argument)


def _folder(request: Request) -> DataSet:
    from danetc.runtime.data.folder import open_folder

    return open_folder(request.argument, request.policy)


def _webdataset(request: Request) -> DataSet:
    from danetc.runtime.data.webdataset import open_webdataset

    return open_webdataset(request.argument, request.policy)


def _events(request: Request) -> DataSet:
    from danetc.runtime.data.event_sets import open_event_data

    return open_event_data(request.argument, request.policy, request.frames)


SOURCES: Mapping[str, Row] = MappingProxyType(
    {
        "digits": Row("digits", "scikit-learn's 1,797 digits of 8x8, built in", _digits),
        "fashion-mnist": Row("fashion-mnist:DIR", "the published idx files", _fashion_mnist),
        "cifar10": Row("cifar10:DIR", "the published files", _cifar10),
        "cifar100": Row("cifar100:DIR", "the published files", _cifar100),
        "folder": Row("folder:DIR", "DIR/train/CLASS/ and DIR/val/CLASS/ with images", _folder),
        "webdataset": Row("webdataset:SHARDS", "images in local tar files", _webdataset),
        "events": Row(
            "events:DIR",
            "as folder, with frames [T, C, H, W] in npz or npy; events:NAME:DIR is a data set of "
            "SpikingJelly's",
            _events,
        ),
        "synthetic": Row(
            "synthetic[:classes=10,size=32,count=512,...]", "made on the spot", _synthetic
        ),
    }
)


def open_data(
    text: str,
    *,
    classes: int | None = None,
    subset_seed: int = 0,
    on_unreadable: Policy = "stop",
    frames: int | None = None,
    channels: int | None = None,
) -> DataSet:
    """The data set that ``text`` names: ``NAME`` or ``NAME:ARGUMENT``, as in ``SOURCES``.

    With ``classes``, so many classes drawn at random by ``subset_seed``, numbered anew. With
    ``channels``, grey and colour are converted to that number (``with_channels``).
    ``on_unreadable`` is for sources that read files while they train. ``frames`` is T for
    recordings of events that are still to be cut into frames.

    Raises DataError where there is none, or it is not as it should be.
    """
    name, _, argument = text.partition(":")
    row = SOURCES.get(name)
    if row is None:
        usages = ", ".join(each.usage for each in SOURCES.values())
        hint = did_you_mean(name, SOURCES) or f"there is {usages}"
        raise DataError(f"there is no data set `{name}`; {hint}")
    data = row.open(Request(argument, on_unreadable, frames))
    if classes is not None:
        data = draw_classes(data, classes, subset_seed)
    return data if channels is None else with_channels(data, channels)


def draw_classes(data: DataSet, count: int, seed: int) -> DataSet:
    """``count`` classes of ``data``, drawn at random, in their old order under new numbers.

    A class is drawn by its place in an order that depends on ``seed`` and the number of classes
    alone, so the 5 of one seed are among its 20. Raises DataError for less than 2 or too many.
    """
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
        drawn=Subset(seed, data.classes, drawn, names),
        fingerprint=facts_fingerprint((data.fingerprint, drawn)),
    )


def _only(source: Source, renumbered: torch.Tensor) -> Source:
    labels = renumbered[source.labels]
    kept = (labels >= 0).nonzero().flatten()
    return source.select(kept, labels[kept])
