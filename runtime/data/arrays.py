"""Arrays as images, or frames of events, and what is to be learned of each: classes or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.data.source import DataSet, Memory, Source, memory_fingerprint
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.sources.target import IGNORED, Target
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import derive

CHANNELS = (1, 2, 3)
"""Numbers of channels by which an array's layout is guessed where nobody says it."""
_MOST_CLASSES = 100_000
_VOID = 255
"""The class that files of masks give to pixels of no class."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How arrays are read: options of a source, where given."""

    layout: str | None = None
    targets: str | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Learned:
    """What is to be learned of N samples: ``labels`` as ``Source`` has them, and ``names``, where
    the labels themselves were names of classes.
    """

    target: Target
    labels: Tensor
    names: tuple[str, ...] = ()


def images_of(x: np.ndarray, where: str, layout: str | None = None) -> tuple[Tensor, bool]:
    """Images [N, C, H, W], and False; or frames of events [N, T, C, H, W], and True.

    Takes [N, F] (features, as F x 1 x 1), [N, H, W] (grey), four dimensions (images) and five
    (events), channels first or last. Bytes stay bytes; other whole numbers from 0 to 255 become
    bytes where they are images, and floats where they count events. Raises DataError.
    """
    shape = list(x.shape)
    if not 2 <= x.ndim <= 5 or 0 in shape:
        raise DataError(
            f"{where} is an array of {shape}; give images [N, C, H, W] or [N, H, W, C], grey ones "
            "[N, H, W], features [N, F], or frames of events [N, T, C, H, W]"
        )
    events = x.ndim == 5
    if x.ndim == 2:
        x = x[:, :, None, None]
    elif x.ndim == 3:
        x = x[:, None]
    elif (layout or _layout(x)) == "hwc":
        x = np.moveaxis(x, -1, -3)
    return _numbers(x, where, events=events), events


def _layout(x: np.ndarray) -> str:
    """Channels are last where they can be, and cannot be first."""
    last = x.shape[-1] in CHANNELS and x.shape[-3] not in CHANNELS
    return "hwc" if last else "chw"


def _numbers(x: np.ndarray, where: str, *, events: bool) -> Tensor:
    if x.dtype.kind not in "buif":
        raise DataError(f"{where} has values of type {x.dtype}, which are no numbers")
    if x.dtype.kind in "ui" and x.dtype != np.uint8 and not events:
        low, high = int(x.min()), int(x.max())
        if low < 0 or high > 255:
            raise DataError(
                f"{where} holds whole numbers from {low} to {high}, and images are bytes from 0 to "
                "255, or floats; divide them by their largest value before you save them"
            )
        x = x.astype(np.uint8)
    with np.errstate(over="ignore"):  # said below
        kept = x if x.dtype == np.uint8 else x.astype(np.float32)
    if kept.dtype == np.float32 and not np.isfinite(kept).all():
        raise DataError(f"{where} has values that are not finite, or too large for float32")
    return torch.from_numpy(np.ascontiguousarray(kept))


def learned_of(y: np.ndarray, where: str, asked: Reading) -> Learned:
    """What labels say: names or whole numbers [N] (or [N, 1], or rows [N, K] with a single 1) are
    classes, whole numbers [N, H, W] those of pixels (255: of none), floats [N] or [N, D] numbers.

    Raises DataError.
    """
    if y.size == 0 or y.ndim == 0:
        raise DataError(
            f"{where} is an array of {list(y.shape)}; labels are [N] classes or numbers, [N, H, W] "
            "classes of pixels, or [N, D] numbers, and N is at least 1"
        )
    if y.ndim >= 2 and y.shape[1] == 1 and not (y.dtype.kind == "f" and y.ndim == 2):
        y = y[:, 0]
    if y.dtype.kind in "US":
        return _named(y, where, asked)
    if y.dtype.kind not in "buif":
        raise DataError(f"{where} has labels of type {y.dtype}, which are no numbers and no names")
    whole = y.dtype.kind in "bui"
    if asked.targets == "numbers" or (not whole and asked.targets is None):
        return _as_numbers(y, where)
    if not whole:
        if not np.array_equal(y, np.round(y)):
            raise DataError(f"{where} holds {float(y.flat[0]):g}, ..., which are no classes")
        y = y.astype(np.int64)
    if y.ndim == 2:
        y = _one_hot(y, where)
    if y.ndim not in (1, 3):
        raise DataError(
            f"{where} is an array of {list(y.shape)}; labels are [N] classes, [N, H, W] classes of "
            "pixels, or [N, D] floats"
        )
    labels = torch.from_numpy(np.ascontiguousarray(y.astype(np.int64)))
    if y.ndim == 3:
        return Learned("pixels", classes_of_pixels(labels, where))
    _check_classes(labels, where)
    return Learned("classes", labels)


def classes_of_pixels(mask: Tensor, where: str) -> Tensor:
    """Classes [..., H, W], int64, 255 as the class that counts for nothing. Raises DataError."""
    mask = mask.to(torch.int64)
    mask = mask.masked_fill(mask == _VOID, IGNORED)
    if ((mask < 0) & (mask != IGNORED)).any():
        raise DataError(f"{where} has classes below 0; they count from 0, and 255 is none")
    return mask


def _named(y: np.ndarray, where: str, asked: Reading) -> Learned:
    if y.ndim != 1:
        raise DataError(
            f"{where} is an array of {list(y.shape)} names; labels are one for each sample"
        )
    texts = texts_of(y, where)
    names = asked.classes or tuple(sorted(set(texts)))
    table = {name: number for number, name in enumerate(names)}
    strange = next((text for text in texts if text not in table), None)
    if strange is not None:
        raise DataError(f"{where} has the class `{strange}`, which is none of {', '.join(names)}")
    return Learned("classes", torch.tensor([table[text] for text in texts]), names)


def texts_of(y: np.ndarray, where: str) -> list[str]:
    """The texts of an array of bytes or characters. Raises DataError."""
    try:
        return [str(each) for each in (y.astype(str) if y.dtype.kind == "S" else y)]
    except (ValueError, SystemError) as error:  # SystemError: a character above the last of Unicode
        raise DataError(f"{where} holds names that are no text (ASCII or Unicode)") from error


def _as_numbers(y: np.ndarray, where: str) -> Learned:
    if y.ndim > 2:
        raise DataError(
            f"{where} is an array of {list(y.shape)} of real numbers; a regression learns [N] or "
            "[N, D], and whole numbers [N, H, W] are classes of pixels"
        )
    rows = torch.from_numpy(np.ascontiguousarray(y.astype(np.float32))).reshape(len(y), -1)
    if not rows.isfinite().all():
        raise DataError(f"{where} has values that are not finite, or too large for float32")
    return Learned("numbers", rows)


def _one_hot(y: np.ndarray, where: str) -> np.ndarray:
    if ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all():
        return np.asarray(y.argmax(1))
    raise DataError(
        f"{where} is an array of {list(y.shape)}; several classes of one sample are not learned: "
        "give one class for each, or floats (or targets=numbers) for a regression"
    )


def _check_classes(labels: Tensor, where: str) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= _MOST_CLASSES:
        raise DataError(
            f"{where} has labels from {low} to {high}; classes count from 0 (for a regression say "
            "targets=numbers)"
        )


def hold_out(learned: Learned, share: float) -> tuple[Tensor, Tensor]:
    """Indices to train and to test on: that share of each class, of pixels and numbers of all.

    They depend on the labels and the share alone. Raises DataError where nothing is left.
    """
    generator = torch.Generator().manual_seed(derive("hold out"))
    groups = [torch.arange(len(learned.labels))]
    if learned.target == "classes":
        groups = [(learned.labels == each).nonzero().flatten() for each in learned.labels.unique()]
    tested = []
    for group in groups:
        order = torch.randperm(len(group), generator=generator)
        tested.append(group[order[: round(share * len(group))]])
    test = torch.cat(tested).sort().values
    kept = torch.ones(len(learned.labels), dtype=torch.bool)
    kept[test] = False
    train = kept.nonzero().flatten()
    if not len(test) or not len(train):
        raise DataError(
            f"a share of {share:g} of {len(learned.labels)} samples leaves none to "
            f"{'train' if len(test) else 'test'} on"
        )
    return train, test


def held_out(source: Source, share: float, target: Target = "classes") -> tuple[Source, Source]:
    """Samples to train and to test on: that share of each class, of pixels and numbers of all.

    Raises DataError where nothing is left.
    """
    train, test = hold_out(Learned(target, source.labels), share)
    return source.select(train, source.labels[train]), source.select(test, source.labels[test])


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """The images and labels of a split, and what each is called."""

    x: np.ndarray
    y: np.ndarray
    names: tuple[str, str]


def array_set(
    request: DataRequest,
    train: ArraySplit,
    test: ArraySplit | float,
    asked: Reading,
    *,
    name: str,
    notices: Sequence[str] = (),
) -> DataSet:
    """A data set of arrays; ``test`` may be the share of ``train`` that is held out.

    Raises DataError where they do not go together.
    """
    sides = [_side(train, asked)]
    if isinstance(test, ArraySplit):
        sides.append(_side(test, asked))
    else:
        images, learned, events = sides[0]
        parts = hold_out(learned, test)
        sides = [
            (images[part], Learned(learned.target, learned.labels[part], learned.names), events)
            for part in parts
        ]
    (x, seen, events), (other_x, other, other_events) = sides
    if (x.shape[1:], events, seen.target) != (other_x.shape[1:], other_events, other.target):
        assert isinstance(test, ArraySplit)  # those of one array are alike
        raise DataError(
            f"samples to train on are {_facts(x, seen)} ({', '.join(train.names)}) and those to test "
            f"on {_facts(other_x, other)} ({', '.join(test.names)}); both must be alike"
        )
    names = class_names(asked, seen, other, name)
    sources = (
        Memory(x, seen.labels, f"{name} (train)"),
        Memory(other_x, other.labels, f"{name} (test)"),
    )
    return DataSet(
        name=name,
        text=request.text,
        class_names=names,
        train=sources[0],
        test=sources[1],
        shape=tuple(x.shape[1:]),
        fingerprint=memory_fingerprint(*sources),
        events=events,
        target=seen.target,
        notices=tuple(notices),
    )


def _side(part: ArraySplit, asked: Reading) -> tuple[Tensor, Learned, bool]:
    images, events = images_of(part.x, part.names[0], asked.layout)
    learned = learned_of(part.y, part.names[1], asked)
    if len(images) != len(learned.labels):
        raise DataError(
            f"{part.names[0]} has {len(images)} samples and {part.names[1]} {len(learned.labels)} "
            "labels; each sample has one"
        )
    return images, learned, events


def _facts(x: Tensor, learned: Learned) -> str:
    return f"[{', '.join(map(str, x.shape[1:]))}] with {learned.target}"


def class_names(asked: Reading, train: Learned, test: Learned, name: str) -> tuple[str, ...]:
    """Those of the classes, or of the numbers: as asked for, as the labels have them, or counted.

    Raises DataError where there are fewer than the labels need.
    """
    if train.names or test.names:
        if train.names != test.names:
            raise DataError(
                f"{name} has the classes {', '.join(train.names) or 'without names'} to train on and "
                f"{', '.join(test.names) or 'without names'} to test on; name all of them: "
                ",classes=A;B;C"
            )
        return train.names
    if train.target == "numbers":
        sizes = {each.labels.shape[1] for each in (train, test)}
        if len(sizes) > 1:
            raise DataError(f"{name} has {sizes} numbers for a sample; all must have as many")
        count = sizes.pop()
    else:
        count = 1 + max(int(each.labels.max()) for each in (train, test))
        if count < 1:
            raise DataError(f"{name} has no pixel of a class")
        count = max(2, count)
    if not asked.classes:
        word = "number " if train.target == "numbers" else ""
        return tuple(f"{word}{number}" for number in range(count))
    few = len(asked.classes) < count or (train.target == "numbers" and len(asked.classes) > count)
    if few:
        raise DataError(
            f"{name} has labels up to {count - 1}, and `classes` names {len(asked.classes)}"
        )
    return asked.classes
