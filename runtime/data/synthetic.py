"""``synthetic``: images that can be learned, made on the spot, for trials of the machinery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from danetc.dsl.diagnostics import did_you_mean
from danetc.runtime.data.source import DataSet, Memory, memory_fingerprint
from danetc.runtime.errors import DataError
from danetc.runtime.seeds import derive

MAX_BYTES = 8 << 30
FIELDS = 4


@dataclass(frozen=True, slots=True)
class Options:
    """``count`` are the images for training, ``test`` those for testing (a quarter of count if not
    given), ``frames`` above 0 makes them frames of events, ``noise`` from 0 to 100 is the share of
    an image that does not depend on its class, in percent.
    """

    classes: int = 10
    size: int = 32
    channels: int = 3
    count: int = 512
    test: int = 0
    frames: int = 0
    noise: int = 50
    seed: int = 0


LIMITS: Mapping[str, tuple[int, int]] = {
    "classes": (2, 100_000),
    "size": (1, 10_000),
    "channels": (1, 1_000),
    "count": (2, 100_000_000),
    "test": (0, 100_000_000),
    "frames": (0, 10_000),
    "noise": (0, 100),
    "seed": (0, 2**32 - 1),
}


def open_synthetic(text: str) -> DataSet:
    """Images of a random pattern of fields for each class, with noise; classes in turn.

    ``text`` are options, ``classes=10,size=32,count=512``. The same options give the same images.
    Raises DataError for what is no option or out of its range.
    """
    options = _parse(text)
    test_count = options.test or max(1, options.count // 4)
    frames = (options.frames,) if options.frames else ()
    shape = (*frames, options.channels, options.size, options.size)
    need = (options.count + test_count + options.classes) * torch.Size(shape).numel()
    if need > MAX_BYTES:
        raise DataError(
            f"synthetic data of {need / 2**30:.1f} GiB would be kept in memory, where at most "
            f"{MAX_BYTES >> 30} GiB are taken; lower count, size or frames"
        )
    patterns = _patterns(options, shape)
    train = _split(options, "train", options.count, patterns)
    test = _split(options, "test", test_count, patterns)
    width = len(str(options.classes - 1))
    return DataSet(
        name="synthetic",
        text="synthetic" + (f":{text}" if text else ""),
        class_names=tuple(f"class{number:0{width}}" for number in range(options.classes)),
        train=train,
        test=test,
        shape=shape,
        fingerprint=memory_fingerprint(train, test),
        events=options.frames > 0,
    )


def _noise(options: Options, purpose: str, count: int, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(derive(f"synthetic {purpose}", options.seed))
    return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)


def _patterns(options: Options, shape: tuple[int, ...]) -> torch.Tensor:
    """A pattern for each class: ``FIELDS`` x ``FIELDS`` fields, which a shifted window keeps."""
    few = min(FIELDS, options.size)
    fields = _noise(options, "pattern", options.classes, (*shape[:-2], few, few))
    places = torch.arange(options.size) * few // options.size
    return fields[..., places, :][..., places]


def _split(options: Options, purpose: str, count: int, patterns: torch.Tensor) -> Memory:
    labels = torch.arange(count) % options.classes
    images = _noise(options, purpose, count, tuple(patterns.shape[1:]))
    share = options.noise
    for start in range(0, count, 1024):  # in parts: as integers of 32 bits they are 4 times as big
        some = images[start : start + 1024].to(torch.int32)
        own = patterns[labels[start : start + 1024]].to(torch.int32)
        mixed = (share * some + (100 - share) * own).div_(100, rounding_mode="floor")
        if options.frames:  # events are few: the brightest values are one each, some 10 to 20 %
            mixed = (mixed >= 224 - share).to(torch.int32)
        images[start : start + 1024] = mixed.to(torch.uint8)
    return Memory(images, labels, f"synthetic ({purpose})")


def _parse(text: str) -> Options:
    given: dict[str, int] = {}
    known = [item.name for item in fields(Options)]
    for part in filter(None, text.split(",")):
        key, _, value = (item.strip() for item in part.partition("="))
        if key not in known:
            hint = did_you_mean(key, known) or f"there is {', '.join(known)}"
            raise DataError(f"synthetic data have no option `{key}`; {hint}")
        low, high = LIMITS[key]
        if not value.isdecimal() or not low <= int(value) <= high:
            raise DataError(
                f"the option `{key}` of synthetic data is `{value}`; "
                f"it must be a whole number from {low} to {high}"
            )
        given[key] = int(value)
    return Options(**given)
