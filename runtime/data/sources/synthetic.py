"""``synthetic``: random images that can be learned, generated to try networks and recipes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.request import DataRequest, DataSource
from danetc.runtime.system.errors import DataError

MAX_BYTES = 8 << 30
FIELDS = 4
OPTIONS: Mapping[str, tuple[int, int, int]] = {
    "classes": (10, 2, 100_000),
    "size": (32, 1, 10_000),
    "channels": (3, 1, 1_000),
    "count": (512, 2, 100_000_000),
    "test": (0, 0, 100_000_000),
    "frames": (0, 0, 10_000),
    "noise": (50, 0, 100),
    "seed": (0, 0, 2**32 - 1),
}
"""Default, least and largest value of each option. 0 ``test`` images are a quarter of ``count``; with ``frames``,
samples are frames of events; ``noise`` is the percentage of an image that does not depend on its class."""


def _look(request: DataRequest) -> dict[str, int]:
    """Return the options of ``synthetic:classes=10,size=32``."""
    found = {name: default for name, (default, _, _) in OPTIONS.items()}
    for part in filter(None, request.place.split(",")):
        key, _, value = (item.strip() for item in part.partition("="))
        if key not in OPTIONS:
            raise DataError(
                f"synthetic data have no option `{key}`; {instead(key, [*OPTIONS, 'val'])}"
            )
        _, low, high = OPTIONS[key]
        if not value.isdecimal() or not low <= int(value) <= high:
            raise DataError(
                f"the option `{key}` of synthetic data is `{value}`; "
                f"it must be a whole number from {low} to {high}"
            )
        found[key] = int(value)
    found["test"] = found["test"] or max(1, found["count"] // 4)
    need = (found["count"] + found["test"] + found["classes"]) * prod(_shape(found))
    if need > MAX_BYTES:
        raise DataError(
            f"synthetic data of {need / 2**30:.1f} GiB do not fit the limit of "
            f"{MAX_BYTES >> 30} GiB of memory; lower count, size or frames"
        )
    return found


def _shape(options: Mapping[str, int]) -> tuple[int, ...]:
    image = (options["channels"], options["size"], options["size"])
    return (options["frames"], *image) if options["frames"] else image


def _open(request: DataRequest, options: dict[str, int]) -> Any:
    """Return images of a random pattern for each class, with noise; the classes take turns."""
    import torch

    from danetc.runtime.data.own import own_set
    from danetc.runtime.system.seeds import derive

    classes, share, frames = options["classes"], options["noise"], options["frames"]
    shape = _shape(options)

    def noise(purpose: str, *size: int) -> Any:
        generator = torch.Generator().manual_seed(derive(f"synthetic {purpose}", options["seed"]))
        return torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)

    # The pattern consists of a few large fields, so that a shift changes only some of the values.
    few = min(FIELDS, options["size"])
    places = torch.arange(options["size"]) * few // options["size"]
    patterns = noise("pattern", classes, *shape[:-2], few, few)[..., places, :][..., places]

    def split(purpose: str, count: int) -> tuple[Any, Any]:
        labels = torch.arange(count) % classes
        images = noise(purpose, count, *shape)
        for start in range(0, count, 1024):  # in parts: 32-bit integers need 4 times the memory
            some = images[start : start + 1024].to(torch.int32)
            own = patterns[labels[start : start + 1024]].to(torch.int32)
            mixed = (share * some + (100 - share) * own).div_(100, rounding_mode="floor")
            if frames:  # events are few: one for each of the brightest 10 to 20 % of the values
                mixed = (mixed >= 224 - share).to(torch.int32)
            images[start : start + 1024] = mixed.to(torch.uint8)
        return images, labels

    width = len(str(classes - 1))
    names = tuple(f"class{number:0{width}}" for number in range(classes))
    splits = {"train": split("train", options["count"]), "test": split("test", options["test"])}
    return own_set(request, {**splits, "class_names": names}, request.name, last=False)


SOURCE = DataSource(
    "synthetic[:classes=10,size=32,count=512,...]", "random images that can be learnt", _look, _open
)
