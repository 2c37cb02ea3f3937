"""What a data set is: two sources of samples with labels, and the facts that a run records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, Protocol

from torch import Tensor

from danetc.runtime.sources.request import Policy
from danetc.runtime.sources.target import Target

Split = Literal["test", "train"]


class Source(Protocol):
    """The samples of one split.

    A sample is an image [C, H, W], uint8 from 0 to 255 or float32, or, of events, frames
    [T, C, H, W] of any real dtype; with it comes its class from 0, the classes of its pixels
    [H, W], or numbers [D], float32.
    """

    @property
    def labels(self) -> Tensor:
        """Of all samples: classes [N], int64, or numbers [N, D], float32. Those of pixels [N, H, W],
        or zeros [N] where they are in files that are read with the samples.
        """

    @property
    def draws(self) -> bool:
        """Whether a sample is drawn at random when it is read: then it is seeded before."""

    @property
    def on_unreadable(self) -> Policy:
        """What a sample that cannot be read does."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        """A sample and its label. Raises UnreadableError."""

    def where(self, index: int) -> str:
        """The sample's file, or what else tells a person which one it is."""

    def select(self, indices: Tensor, labels: Tensor) -> Source:
        """Of these samples [M] only, with these labels [M]."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Samples in memory: ``images`` [N, C, H, W] (or [N, T, C, H, W]), ``labels`` [N], of pixels
    [N, H, W], of numbers [N, D].
    """

    images: Tensor
    labels: Tensor
    name: str = "the data"

    on_unreadable: Policy = field(default="stop", init=False)
    draws: bool = field(default=False, init=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        return self.images[index], label_of(self.labels, index)

    def where(self, index: int) -> str:
        return f"image {index} of {self.name}"

    def select(self, indices: Tensor, labels: Tensor) -> Memory:
        return replace(self, images=self.images[indices], labels=labels)


def label_of(labels: Tensor, index: int) -> int | Tensor:
    """That of a sample: a class, the classes of pixels, or numbers."""
    return int(labels[index]) if labels.dim() == 1 else labels[index]


@dataclass(frozen=True, eq=False)
class Selected:
    """Some samples of another source; under ``labels`` of their own, where they have a class each."""

    source: Source
    indices: Tensor
    labels: Tensor

    @property
    def on_unreadable(self) -> Policy:
        return self.source.on_unreadable

    @property
    def draws(self) -> bool:
        return self.source.draws

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        sample, label = self.source[int(self.indices[index])]
        return sample, label if isinstance(label, Tensor) else int(self.labels[index])

    def where(self, index: int) -> str:
        return self.source.where(int(self.indices[index]))

    def select(self, indices: Tensor, labels: Tensor) -> Selected:
        return Selected(self.source, self.indices[indices], labels)


def evenly(count: int, most: int) -> list[int]:
    """At most so many of ``count`` indices, evenly spread, the first and the last among them."""
    few = min(count, most)
    return [number * (count - 1) // max(1, few - 1) for number in range(few)]


def number_of(source: Source, index: int) -> int:
    """The number that a sample has in the whole set, of which ``source`` may be a selection."""
    if isinstance(source, Selected):
        return number_of(source.source, int(source.indices[index]))
    inner: Source | None = getattr(source, "source", None)  # one that changes each sample
    return index if inner is None else number_of(inner, index)


@dataclass(frozen=True)
class DrawnClasses:
    """Classes drawn at random: which ones, by their numbers and names in the whole set."""

    seed: int
    out_of: int
    indices: tuple[int, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set, opened.

    ``shape`` is that of a raw sample, (C, H, W) or (T, C, H, W), where all have the same, else
    None. ``class_names`` are those of the classes, or of the numbers where ``target`` says that
    numbers are learned. ``details`` are facts of this kind of set for the record, ``notices`` what a person
    should read once.
    """

    name: str
    text: str
    class_names: tuple[str, ...]
    train: Source
    test: Source
    shape: tuple[int, ...] | None
    fingerprint: str
    events: bool = False
    target: Target = "classes"
    drawn: DrawnClasses | None = None
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    notices: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """How many outputs a network of it has: one for each class, or for each number."""
        return len(self.class_names)

    def split(self, name: Split) -> Source:
        return self.train if name == "train" else self.test

    @property
    def subset(self) -> tuple[int, ...] | None:
        """The numbers that the classes have in the whole set, where some were drawn from it."""
        return self.drawn.indices if self.drawn is not None else None

    @property
    def on_unreadable(self) -> Policy:
        return self.train.on_unreadable

    def describe(self) -> dict[str, object]:
        """Everything that tells this data set from another, as JSON data."""
        facts: dict[str, object] = {
            "name": self.name,
            "text": self.text,
            "classes": self.classes,
            "train": len(self.train),
            "test": len(self.test),
            "shape": list(self.shape) if self.shape is not None else None,
            "events": self.events,
            "fingerprint": self.fingerprint,
            "on_unreadable": self.on_unreadable,
            **self.details,
        }
        if self.target != "classes":
            facts["target"] = self.target
        if self.drawn is not None:
            facts["subset"] = {
                "seed": self.drawn.seed,
                "of": self.drawn.out_of,
                "indices": list(self.drawn.indices),
                "names": list(self.drawn.names),
            }
        return facts


def memory_fingerprint(*sources: Memory) -> str:
    """Of every value of sources in memory."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        for tensor in (source.images, source.labels):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def facts_fingerprint(facts: Iterable[object]) -> str:
    """Of names, counts and sizes: what stands for files too many to read."""
    digest = hashlib.blake2b(digest_size=16)
    for fact in facts:
        digest.update(repr(fact).encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()
