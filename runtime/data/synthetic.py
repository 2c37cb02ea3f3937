"""``synthetic``: images that can be learned, made on the spot, for trials of the machinery."""

from __future__ import annotations

import torch

from danetc.runtime.data.source import DataSet, Memory, memory_fingerprint
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.sources.synthetic import SyntheticOptions, parse_options
from danetc.runtime.system.seeds import derive

FIELDS = 4


def open_source(request: DataRequest) -> DataSet:
    """Images of a random pattern of fields for each class, with noise; classes in turn.

    The argument is options, ``classes=10,size=32,count=512``. The same options give the same images.
    Raises DataError for what is no option or out of its range.
    """
    options = parse_options(request.argument)
    shape = options.shape
    patterns = _patterns(options, shape)
    train = _split(options, "train", options.count, patterns)
    test = _split(options, "test", options.tests, patterns)
    width = len(str(options.classes - 1))
    return DataSet(
        name="synthetic",
        text=request.text,
        class_names=tuple(f"class{number:0{width}}" for number in range(options.classes)),
        train=train,
        test=test,
        shape=shape,
        fingerprint=memory_fingerprint(train, test),
        events=options.frames > 0,
    )


def _noise(
    options: SyntheticOptions, purpose: str, count: int, shape: tuple[int, ...]
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(derive(f"synthetic {purpose}", options.seed))
    return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)


def _patterns(options: SyntheticOptions, shape: tuple[int, ...]) -> torch.Tensor:
    """A pattern for each class: ``FIELDS`` x ``FIELDS`` fields, which a shifted window keeps."""
    few = min(FIELDS, options.size)
    fields = _noise(options, "pattern", options.classes, (*shape[:-2], few, few))
    places = torch.arange(options.size) * few // options.size
    return fields[..., places, :][..., places]


def _split(options: SyntheticOptions, purpose: str, count: int, patterns: torch.Tensor) -> Memory:
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
