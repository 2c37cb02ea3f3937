"""The options of ``synthetic`` data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.system.errors import DataError

MAX_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
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

    @property
    def tests(self) -> int:
        """The images for testing."""
        return self.test or max(1, self.count // 4)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image, or of frames."""
        image = (self.channels, self.size, self.size)
        return (self.frames, *image) if self.frames else image


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


def parse_options(text: str) -> SyntheticOptions:
    """``classes=10,size=32`` as options. Raises DataError for what is none or out of its range."""
    given: dict[str, int] = {}
    known = [item.name for item in fields(SyntheticOptions)]
    for part in filter(None, text.split(",")):
        key, _, value = (item.strip() for item in part.partition("="))
        if key not in known:
            hint = instead(key, known)
            raise DataError(f"synthetic data have no option `{key}`; {hint}")
        low, high = LIMITS[key]
        if not value.isdecimal() or not low <= int(value) <= high:
            raise DataError(
                f"the option `{key}` of synthetic data is `{value}`; "
                f"it must be a whole number from {low} to {high}"
            )
        given[key] = int(value)
    options = SyntheticOptions(**given)
    need = (options.count + options.tests + options.classes) * prod(options.shape)
    if need > MAX_BYTES:
        raise DataError(
            f"synthetic data of {need / 2**30:.1f} GiB would be kept in memory, where at most "
            f"{MAX_BYTES >> 30} GiB are taken; lower count, size or frames"
        )
    return options
