"""A map-style Dataset that somebody else wrote: torch's, tonic's, one of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from danetc.runtime.data.arrays import Learned, Reading, classes_of_pixels, images_of, learned_of
from danetc.runtime.data.recordings import Cutting, is_recording
from danetc.runtime.data.source import Selected, evenly, facts_fingerprint
from danetc.runtime.sources.request import DataRequest, Policy
from danetc.runtime.sources.target import Target
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import drawn_anew
from danetc.runtime.system.user_code import where_it_failed

PROBES = 8
"""Samples that are read to see what they are, evenly spread."""
_SEED = 0


@dataclass(frozen=True, slots=True)
class SampleForm:
    """How samples become tensors: images by their layout, recordings by being cut."""

    layout: str | None = None
    cutting: Cutting = Cutting(None, None)

    def image(self, sample: Any, where: str) -> Tensor:
        """A sample as an image [C, H, W], or as frames of events [T, C, H, W]. Raises DataError."""
        if is_recording(sample):
            return self.cutting.cut(sample, where)
        array = _array(sample)
        if array is None:
            raise DataError(
                f"{where} is an object of type {type(sample).__name__}; a sample is a pair of an "
                "image (a tensor, an array or one of PIL) and its label"
            )
        layout = self.layout
        if layout is None and isinstance(sample, Image.Image):
            layout = "hwc"
        if array.ndim == 1:
            array = array[:, None, None]
        images, _ = images_of(array[None], where, layout)
        return images[0]


def _array(value: Any) -> np.ndarray | None:
    """Numbers as an array; None for what is none."""
    match value:
        case Tensor():
            return value.detach().cpu().numpy()
        case np.ndarray() | np.generic():
            return np.asarray(value)
        case Image.Image():
            kept = value if value.mode in ("L", "RGB", "1", "P", "I", "F") else value.convert("RGB")
            return np.asarray(kept.convert("RGB") if kept.mode == "P" else kept)
        case bool() | int() | float() | str():
            return np.asarray(value)
        case list() | tuple():
            try:
                found = np.asarray(value)
            except ValueError:
                return None
            return found if found.dtype.kind in "buif" else None
    return None


@dataclass(frozen=True, eq=False)
class Own:
    """The samples of ``dataset``: what its ``[index]`` gives, an image and a label.

    What it draws at random is seeded for each sample, by torch, numpy and random. An error of its
    code is told with the place in that code.
    """

    dataset: Any
    labels: Tensor
    target: Target
    names: tuple[str, ...]
    name: str
    form: SampleForm
    on_unreadable: Policy = "stop"
    draws: bool = field(default=True, init=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        where = self.where(index)
        sample, label = read(self.dataset, index, where)
        image = self.form.image(sample, where)
        if self.target == "pixels":
            return image, mask_of(label, where)
        return image, self.labels[index] if self.target == "numbers" else int(self.labels[index])

    def where(self, index: int) -> str:
        return f"sample {index} of {self.name}"

    def select(self, indices: Tensor, labels: Tensor) -> Selected:
        return Selected(self, indices, labels)


def read(dataset: Any, index: int, where: str) -> tuple[Any, Any]:
    """An image and a label of another's Dataset. Raises DataError, with the place in its code."""
    try:
        sample = dataset[index]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{where} cannot be read: {where_it_failed(error)}") from error
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        what = (
            f"{len(sample)} values" if isinstance(sample, tuple | list) else type(sample).__name__
        )
        raise DataError(f"{where} is {what}, not a pair of an image and its label")
    return sample[0], sample[1]


def mask_of(label: Any, where: str) -> Tensor:
    """The classes of an image's pixels [H, W]. Raises DataError."""
    indices = isinstance(label, Image.Image) and label.mode == "P"
    array = np.asarray(label) if indices else _array(label)
    if array is not None and array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array is None or array.ndim != 2 or array.dtype.kind not in "bui":
        raise DataError(f"the label of {where} is no map [H, W] of the classes of its pixels")
    return classes_of_pixels(torch.from_numpy(np.ascontiguousarray(array.astype(np.int64))), where)


# -- what is known of a Dataset before it is read --------------------------------------------------


@contextmanager
def seeded() -> Iterator[Callable[[int], None]]:
    """Reading outside of an epoch: what is drawn is always the same, and global states are kept."""
    with drawn_anew() as seed:
        yield lambda index: seed(_SEED, 0, index)


@dataclass(frozen=True, eq=False)
class Opened:
    """A source; the ``shape`` of its samples where all that were looked at have the same; whether they
    are frames of events; and what to say of it.
    """

    own: Own
    shape: tuple[int, ...] | None
    events: bool
    notices: tuple[str, ...]


def open_own(
    dataset: Any, request: DataRequest, name: str, form: SampleForm, asked: Reading
) -> Opened:
    """A Dataset as a source. Raises DataError."""
    try:
        count = len(dataset)
    except TypeError as error:
        raise DataError(
            f"{name} has no length: samples are read in random order, which a stream does not allow; "
            "give a Dataset with `__len__` and `__getitem__`"
        ) from error
    if not count:
        raise DataError(f"{name} has no samples")
    probes = evenly(count, PROBES)
    shapes, labels = [], {}
    with seeded() as seed:
        for index in probes:
            seed(index)
            where = f"sample {index} of {name}"
            sample, labels[index] = read(dataset, index, where)
            shapes.append(tuple(form.image(sample, where).shape))
    known = _labels_known(dataset, count, labels)
    notices: tuple[str, ...] = ()
    if known is None:
        known = _read_all(dataset, count, name)
        if count > 1000:
            notices = (
                f"all {count:,} samples of {name} were read once for their labels; an attribute "
                "`targets` of the Dataset spares that",
            )
    learned, names = _learned(known, f"the labels of {name}", asked)
    own = Own(dataset, learned.labels, learned.target, names, name, form, request.policy)
    shape = shapes[0] if len({*shapes}) == 1 else None
    return Opened(own, shape, len(shapes[0]) == 4, notices)


def _labels_known(dataset: Any, count: int, seen: dict[int, Any]) -> list[Any] | None:
    """All labels by an attribute of the Dataset, where it agrees with those that were seen."""
    inner, indices = dataset, range(count)
    if isinstance(dataset, torch.utils.data.Subset):
        inner, indices = dataset.dataset, dataset.indices  # type: ignore[assignment]
    for attribute in ("targets", "labels"):
        found = getattr(inner, attribute, None)
        try:
            values = list(found)[:] if found is not None and len(found) == len(inner) else None
        except TypeError:
            continue
        if values is None:
            continue
        own = [values[index] for index in indices]
        if all(_same(own[index], label) for index, label in seen.items()):
            return own
    return None


def _same(one: Any, other: Any) -> bool:
    """Whether two labels are one class."""
    first, second = _array(one), _array(other)
    if first is None or second is None or first.size != 1 or second.size != 1:
        return False
    return first.dtype.kind in "bui" and second.dtype.kind in "bui" and int(first) == int(second)


def _read_all(dataset: Any, count: int, name: str) -> list[Any]:
    found = []
    with seeded() as seed:
        for index in range(count):
            seed(index)
            label = read(dataset, index, f"sample {index} of {name}")[1]
            array = _array(label)
            if array is not None and array.ndim >= 2:
                found.append(_largest(mask_of(label, f"sample {index} of {name}")))
            else:
                found.append(label)
    return found


@dataclass(frozen=True, slots=True)
class _Mask:
    """A map of classes was read, of which this is the largest."""

    largest: int


def _largest(mask: Tensor) -> _Mask:
    return _Mask(int(mask.max()))


def _learned(labels: Sequence[Any], where: str, asked: Reading) -> tuple[Learned, tuple[str, ...]]:
    """What labels say, and names of the classes as far as the labels tell: of pixels, so many."""
    masks = [each for each in labels if isinstance(each, _Mask)]
    if masks:
        if len(masks) < len(labels):
            raise DataError(f"{where} are maps of classes for some samples, and not for others")
        count = max(2, 1 + max(each.largest for each in masks))
        names = asked.classes or tuple(map(str, range(count)))
        if len(names) < count:
            raise DataError(f"{where} go up to {count - 1}, and `classes` names {len(names)}")
        return Learned("pixels", torch.zeros(len(labels), dtype=torch.int64)), names
    arrays = [_array(each) for each in labels]
    if any(each is None for each in arrays):
        strange = next(each for each, array in zip(labels, arrays, strict=True) if array is None)
        raise DataError(
            f"{where} are of type {type(strange).__name__}; give whole numbers or floats"
        )
    if len({each.shape for each in arrays if each is not None}) > 1:
        raise DataError(f"{where} are of several shapes; all must have as many numbers")
    learned = learned_of(np.stack([each for each in arrays if each is not None]), where, asked)
    return learned, learned.names


def digest_of(own: Own) -> list[object]:
    """Facts that tell a Dataset from another: its labels, and the values of some samples."""
    count = len(own)
    facts: list[object] = [count, own.target, own.labels.numpy().tobytes()]
    with seeded() as seed:
        for index in evenly(count, PROBES):
            seed(index)
            image, label = own[index]
            facts += [tuple(image.shape), image.numpy().tobytes()]
            facts.append(label if isinstance(label, int) else label.numpy().tobytes())
    return [facts_fingerprint(facts)]
