"""Events of a recording, counted in frames.

An event has a time, a column, a row and a polarity: t, x, y, p, as SpikingJelly and tonic call them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.sources.options import Placed, parse_size
from danetc.runtime.system.errors import DataError

_LARGEST = 2**53
"""Bound of floating-point numbers that stand for whole ones: a float64 holds all of those below."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a recording becomes frames [T, P, H, W].

    ``frames`` is T and ``size`` (H, W), None where they are not known. With one polarity events are
    counted whatever theirs is. By ``number`` each frame holds equally many events, by ``time`` it
    takes equally long.
    """

    frames: int | None
    size: tuple[int, int] | None
    polarities: int = 2
    by: str = "number"

    def cut(self, events: Any, where: str) -> Tensor:
        """Counts of the events (``events["x"]`` and so on, [M] each), float32. Raises DataError."""
        frames, _, height, width = self.shape(events, where)
        x, y = (column(events, name, where).astype(np.int64) for name in "xy")
        if len(x) < (frames if self.by == "number" else 1):
            raise DataError(f"{where} has {len(x)} events, too few for {frames} frames")
        if x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height:
            raise DataError(
                f"{where} has events at x to {x.max()} and y to {y.max()}, outside of "
                f"{height}x{width}; the size is height x width"
            )
        cells = self._frame_of(events, frames, where)
        if self.polarities == 2:
            cells = cells * 2 + (column(events, "p", where).astype(np.int64) > 0)
        cells = (cells * height + y) * width + x
        counts = np.bincount(cells, minlength=frames * self.polarities * height * width)
        shape = frames, self.polarities, height, width
        return torch.from_numpy(counts.astype(np.float32)).reshape(shape)

    def shape(self, events: Any, where: str) -> tuple[int, int, int, int]:
        """That of the frames. Raises DataError where T or the size is not known."""
        if self.frames is None:
            raise DataError(
                f"{where} is a recording, and how many frames to make of one is not known; set steps "
                "in the recipe or the network"
            )
        if self.size is None:
            y, x = (int(column(events, name, where).max(initial=0)) + 1 for name in "yx")
            raise DataError(
                f"{where} is a recording, and its size is not known; say it: ,size=HxW (this one "
                f"needs {y}x{x} at least)"
            )
        return self.frames, self.polarities, *self.size

    def _frame_of(self, events: Any, frames: int, where: str) -> np.ndarray:
        """The frame [M] of each event, from 0.

        Frames begin where SpikingJelly's do (``split_by``), the last one taking the rest.
        """
        count = len(events["x"])
        if self.by == "number":
            return np.minimum(np.arange(count) // (count // frames), frames - 1)
        times = column(events, "t", where)
        whole = times.dtype.kind in "bui"
        times = times.astype(np.int64 if whole else np.float64)
        times -= times.min()
        each = max(1, times.max() // frames) if whole else (times.max() or 1.0) / frames
        return np.minimum((times // each).astype(np.int64), frames - 1)


def cutting(asked: Placed, frames: int | None, dataset: Any = None) -> Cutting:
    """As the options ``size`` and ``by`` say, or as tonic's Datasets have their ``sensor_size``: width,
    height and polarities; those in a cache have them too.
    """
    text, by = asked.get("size"), asked.get("by") or "number"
    found = getattr(dataset, "sensor_size", None)
    if found is None:
        found = getattr(getattr(dataset, "dataset", None), "sensor_size", None)
    if text is not None or found is None:
        return Cutting(frames, None if text is None else parse_size(text), by=by)
    width, height, polarities = (int(each) for each in found)
    return Cutting(frames, (height, width), 1 if polarities == 1 else 2, by)


def is_recording(sample: object) -> bool:
    """Whether a sample is an array of events with fields, as tonic has them."""
    return isinstance(sample, np.ndarray) and {"t", "x", "p"} <= {*(sample.dtype.names or ())}


def column(events: Any, name: str, where: str) -> np.ndarray:
    """Return ``t``, ``x``, ``y`` or ``p`` of the events [M]; without ``y``, as of a cochlea, rows are 0.

    Raises DataError unless it holds one finite number for each event.
    """
    x = np.asarray(events["x"])
    known = events.dtype.names if isinstance(events, np.ndarray) else tuple(events)
    if name == "y" and "y" not in known:
        return np.zeros(x.shape, np.int64)
    found = np.asarray(events[name])
    if found.ndim != 1 or found.shape != x.shape or found.dtype.kind not in "buif":
        raise DataError(
            f"`{name}` of {where} is an array of {list(found.shape)} of {found.dtype}; a recording "
            f"has one number for each event in t, x, y and p (`x` has the shape {list(x.shape)})"
        )
    if found.dtype.kind == "f" and not (np.abs(found) < _LARGEST).all():
        raise DataError(f"`{name}` of {where} has values that are not finite or above 2^53")
    return found
