"""Data sets: two sources of labelled samples, and the facts that a run records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from danetc.runtime.data.request import DataRequest, Policy, Target

Split = Literal["test", "train"]


class Source(Protocol):
    """The samples of one split.

    A sample is an image [C, H, W], uint8 from 0 to 255 or float32, or frames of events
    [T, C, H, W] of any real dtype. Its label is a class from 0, a map of classes [H, W], or numbers
    [D], float32.
    """

    @property
    def labels(self) -> Tensor:
        """Labels of all samples: classes [N], int64; numbers [N, D], float32; or maps [N, H, W].
        Zeros [N] if the maps are only read with their samples.
        """

    @property
    def draws(self) -> bool:
        """True if reading a sample draws random numbers, which are seeded before."""

    @property
    def on_unreadable(self) -> Policy: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        """Return a sample and its label. Raises UnreadableError."""

    def where(self, index: int) -> str:
        """Return the file of a sample, or what else identifies it in messages."""

    def select(self, indices: Tensor, labels: Tensor) -> Source:
        """Return the samples at ``indices`` [M] with ``labels`` [M]."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Samples in memory: ``images`` [N, C, H, W] or [N, T, C, H, W], and their labels."""

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
    return int(labels[index]) if labels.dim() == 1 else labels[index]


@dataclass(frozen=True, eq=False)
class Selected:
    """Some samples of another source. Their classes may have new numbers."""

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
    """Return at most ``most`` of ``count`` indices, evenly spread, the first and the last included."""
    few = min(count, most)
    return [number * (count - 1) // max(1, few - 1) for number in range(few)]


def number_of(source: Source, index: int) -> int:
    """Return the number of a sample in the whole set, of which ``source`` may be a selection."""
    if isinstance(source, Selected):
        return number_of(source.source, int(source.indices[index]))
    inner: Source | None = getattr(source, "source", None)  # of a source that converts samples
    return index if inner is None else number_of(inner, index)


@dataclass(frozen=True)
class DrawnClasses:
    """Classes drawn at random, with their numbers and names in the whole set."""

    seed: int
    out_of: int
    indices: tuple[int, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set, opened.

    ``shape`` is the shape of a raw sample, [C, H, W] or [T, C, H, W], or None if samples differ.
    ``class_names`` has a name for each class, or for each number if numbers are learned.
    ``details`` are further facts for the record, ``notices`` are shown to the user once.
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
        """Number of outputs of a network: one for each class, or for each number."""
        return len(self.class_names)

    def split(self, name: Split) -> Source:
        return self.train if name == "train" else self.test

    @property
    def subset(self) -> tuple[int, ...] | None:
        """Numbers of the drawn classes in the whole set; None if none were drawn."""
        return self.drawn.indices if self.drawn is not None else None

    @property
    def on_unreadable(self) -> Policy:
        return self.train.on_unreadable

    def describe(self) -> dict[str, object]:
        """Return the facts that distinguish this data set from others, as JSON data."""
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


def memory_set(
    request: DataRequest,
    class_names: tuple[str, ...],
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    **facts: Any,
) -> DataSet:
    """Return a data set of images [N, C, H, W] and classes [N] of each split, arrays or tensors.

    ``facts`` are further fields of the data set.
    """
    sources = [
        Memory(
            torch.as_tensor(images).contiguous(),
            torch.as_tensor(labels, dtype=torch.int64),
            f"{request.text} ({split})",
        )
        for split, (images, labels) in (("train", train), ("test", test))
    ]
    return DataSet(
        name=request.name,
        text=request.text,
        class_names=class_names,
        train=sources[0],
        test=sources[1],
        shape=tuple(sources[0].images.shape[1:]),
        fingerprint=memory_fingerprint(*sources),
        **facts,
    )


def memory_fingerprint(*sources: Memory) -> str:
    """Return a checksum of all images and labels."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        for tensor in (source.images, source.labels):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def facts_fingerprint(facts: Iterable[object]) -> str:
    """Return a checksum of names, counts and sizes, for files that are too many to read."""
    digest = hashlib.blake2b(digest_size=16)
    for fact in facts:
        digest.update(repr(fact).encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()
