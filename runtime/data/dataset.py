"""Data sets: sources of labelled samples for each split, and the facts that a run records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from danetc.runtime.data.request import Policy, Split, Target
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import derive

COLOUR, GREY = 3, 1


def converted(images: Tensor, channels: int) -> Tensor:
    """Convert images [..., 1, H, W] to 3 equal channels, or [..., 3, H, W] to grey."""
    if channels == COLOUR:
        return images.expand(*images.shape[:-3], COLOUR, *images.shape[-2:])
    grey: Tensor = rgb_to_grayscale(images, num_output_channels=GREY)
    return grey


class Reader(Protocol):
    """Reads images [C, H, W], uint8 or float32, or frames of events [T, C, H, W] of any real dtype."""

    def read(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Return a sample, and a map of its classes [H, W], if any. Raises UnreadableError."""

    def where(self, number: int) -> str:
        """Return the file of a sample, or what else identifies it in messages."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples that are read when they are used.

    ``labels`` are classes [N], int64, or numbers [N, D], float32 (zeros [N] for maps, which are read
    with their samples); ``numbers`` [N] are those of the reader. Images are converted to ``channels``.
    """

    reader: Reader
    labels: Tensor
    numbers: Tensor
    on_unreadable: Policy = "stop"
    channels: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a sample and its label. Raises UnreadableError."""
        sample, classes = self.reader.read(self.number(index))
        sample = sample if self.channels is None else converted(sample, self.channels)
        return sample, self.labels[index] if classes is None else classes

    def number(self, index: int) -> int:
        """Return the number of a sample in the whole set, of which this may be a selection."""
        return int(self.numbers[index])

    def where(self, index: int) -> str:
        return self.reader.where(self.number(index))

    def select(self, indices: Tensor, labels: Tensor) -> Samples:
        """Return the samples at ``indices`` [M] with ``labels`` [M]."""
        return replace(self, labels=labels, numbers=self.numbers[indices])

    def converted(self, channels: int) -> Samples:
        return replace(self, channels=channels)


@dataclass(frozen=True, eq=False)
class Memory:
    """Samples in memory: ``images`` [N, C, H, W] or [N, T, C, H, W], and labels as in ``Samples`` or [N, H, W]."""

    images: Tensor
    labels: Tensor
    name: str = "the data"

    on_unreadable: Policy = field(default="stop", init=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def where(self, index: int) -> str:
        return f"image {index} of {self.name}"

    def select(self, indices: Tensor, labels: Tensor) -> Memory:
        return replace(self, images=self.images[indices], labels=labels)

    def converted(self, channels: int) -> Memory:
        return replace(self, images=converted(self.images, channels))


Source = Memory | Samples
"""The samples of one split."""


PROBES = 8
"""Number of samples of a split that are read, evenly spread, to find out what it holds."""


def evenly(count: int, most: int = PROBES) -> list[int]:
    """Return at most ``most`` of ``count`` indices, evenly spread, the first and the last included."""
    few = min(count, most)
    return [number * (count - 1) // max(1, few - 1) for number in range(few)]


@dataclass(frozen=True, eq=False)
class DataSet:
    """An open data set.

    ``shape`` is that of a raw sample, [C, H, W] or [T, C, H, W], or None if samples differ. ``class_names``
    has a name for each class, or for each number if numbers are learned. ``val`` are the training samples
    held out for validation, ``subset`` the numbers of drawn classes in the whole set. Samples of ``tokens``
    are [L], or [T, 1] with ``events``, int64. ``details`` are recorded, ``notices`` shown to the user once.
    """

    name: str
    text: str
    class_names: tuple[str, ...]
    train: Source
    test: Source
    shape: tuple[int, ...] | None
    fingerprint: str
    events: bool = False
    tokens: bool = False
    target: Target = "classes"
    subset: tuple[int, ...] | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    val: Source | None = None

    @property
    def classes(self) -> int:
        """Number of outputs of a network: one for each class, or for each number."""
        return len(self.class_names)

    @property
    def splits(self) -> dict[Split, Source]:
        found: dict[Split, Source] = {"train": self.train, "test": self.test}
        return found if self.val is None else {**found, "val": self.val}

    def split(self, name: Split) -> Source:
        """Return the samples of a split. Raises DataError if none are held out for validation."""
        if name not in self.splits:
            raise DataError(f"{self.text} has no validation samples; ,val=0.1 holds some out")
        return self.splits[name]

    def map_splits(self, change: Callable[[Source], Source], **facts: Any) -> DataSet:
        """Return the data set with every split and some ``facts`` changed."""
        splits: dict[str, Any] = {name: change(each) for name, each in self.splits.items()}
        return replace(self, **splits, **facts)

    @property
    def judged_on(self) -> Split:
        """Split on which epochs are evaluated: ``val`` if there is one, else ``test``."""
        return "test" if self.val is None else "val"

    def describe(self) -> dict[str, object]:
        """Return the facts that distinguish this data set from others, as JSON data."""
        return {
            "name": self.name,
            "text": self.text,
            "classes": self.classes,
            "class_names": list(self.class_names),
            **{name: len(source) for name, source in self.splits.items()},
            "shape": None if self.shape is None else list(self.shape),
            "events": self.events,
            "fingerprint": self.fingerprint,
            "on_unreadable": self.train.on_unreadable,
            **self.details,
            **({} if self.target == "classes" else {"target": self.target}),
        }


def facts_fingerprint(facts: Iterable[object]) -> str:
    """Return a checksum of names, counts and sizes, for files that are too many to read."""
    digest = hashlib.blake2b(digest_size=16)
    for fact in facts:
        digest.update(repr(fact).encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()


def held_out(
    source: Source, share: float, target: Target = "classes", name: str = ""
) -> tuple[Source, Source]:
    """Split off a share of the samples to test on. Raises DataError if one side is empty."""
    train, test = split_off(source, share, "hold out", target, name)
    if not len(test) or not len(train):
        raise DataError(
            f"a share of {share:g} of {len(source)} samples leaves none to "
            f"{'train' if len(test) else 'test'} on"
        )
    return train, test


def split_off(
    source: Source, share: float, purpose: str, target: Target, name: str
) -> tuple[Source, Source]:
    """Return the rest and a share of the samples, of each class, or of all for other targets. They depend on the
    arguments alone. In memory, the share gets a ``name``."""
    labels, generator = source.labels, torch.Generator().manual_seed(derive(purpose))
    groups = [torch.arange(len(labels))]
    if target == "classes":
        groups = [(labels == each).nonzero().flatten() for each in labels.unique()]
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for group in groups:
        order = torch.randperm(len(group), generator=generator)
        mask[group[order[: round(share * len(group))]]] = True
    rest, part = (source.select(side.nonzero().flatten(), labels[side]) for side in (~mask, mask))
    return rest, replace(part, name=name) if isinstance(part, Memory) else part


def with_validation(data: DataSet, share: float) -> DataSet:
    """Move a share of the training samples to ``val``, as ``split_off`` does. Raises DataError if a part gets no
    samples, or none of a class."""
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
    """Draw ``count`` classes of ``data``, which keep their order and get new numbers: the first of an order that
    depends on ``seed`` and the number of classes alone, so that the 5 classes of a seed are among its 20.
    Raises DataError for less than 2 or too many."""
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
    """Convert grey images to 3 equal channels, or colour images to grey (luma of ITU-R BT.601), with a notice.

    Frames of events, and images of other numbers of channels, stay: ``check_fit`` refuses them.
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
