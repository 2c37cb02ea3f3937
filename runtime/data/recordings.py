"""Recordings of event cameras, as frames that count their events: t, x, y, p (time, column, row, polarity), as in
SpikingJelly and tonic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.data.request import DataRequest
from danetc.runtime.system.errors import DataError


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a recording becomes frames [T, P, H, W].

    ``frames`` is T and ``size`` is (H, W), None if unknown. All frames have the same ``number`` of events, or
    the same duration (``time``).
    """

    frames: int | None
    size: tuple[int, int] | None
    polarities: int = 2
    by: str = "number"

    def cut(self, events: Any, where: str) -> Tensor:
        """Return the counts of the events (``events["x"]`` and so on, [M] each), float32. Frames begin where those
        of SpikingJelly do (``split_by``); the last one takes the rest."""
        frames = self.frames
        if frames is None:
            raise DataError(
                f"{where} is a recording, and its number of frames is unknown; set steps in the "
                "recipe or the network"
            )
        x, y = (column(events, name, where).astype(np.int64) for name in "xy")
        if self.size is None:
            raise DataError(
                f"{where} is a recording, and its size is unknown; add ,size=HxW (this one needs "
                f"{y.max(initial=0) + 1}x{x.max(initial=0) + 1} at least)"
            )
        height, width = self.size
        if len(x) < (frames if self.by == "number" else 1):
            raise DataError(f"{where} has {len(x)} events, too few for {frames} frames")
        if x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height:
            raise DataError(
                f"{where} has events at x to {x.max()} and y to {y.max()}, outside of "
                f"{height}x{width}; the size is height x width"
            )
        if self.by == "number":
            frame_of = np.arange(len(x)) // (len(x) // frames)
        else:
            times = column(events, "t", where)
            whole = times.dtype.kind in "bui"
            times = times.astype(np.int64 if whole else np.float64)
            times -= times.min()
            each = max(1, times.max() // frames) if whole else (times.max() or 1.0) / frames
            frame_of = (times // each).astype(np.int64)
        cells = np.minimum(frame_of, frames - 1)
        if self.polarities == 2:
            cells = cells * 2 + (column(events, "p", where).astype(np.int64) > 0)
        cells = (cells * height + y) * width + x
        counts = np.bincount(cells, minlength=frames * self.polarities * height * width)
        shape = frames, self.polarities, height, width
        return torch.from_numpy(counts.astype(np.float32)).reshape(shape)


def cutting(request: DataRequest, dataset: Any = None) -> Cutting:
    """Return the cutting by the options, or by the ``sensor_size`` (width, height, polarities) of a Dataset."""
    by = request.options.get("by") or "number"
    inner = getattr(dataset, "dataset", None)  # in a cache of tonic
    sensor = getattr(dataset, "sensor_size", getattr(inner, "sensor_size", None))
    if size := request.options.get("size"):
        sensor = *reversed(size.split("x")), 2
    if sensor is None:
        return Cutting(request.frames, None, by=by)
    width, height, polarities = map(int, sensor)
    return Cutting(request.frames, (height, width), 1 if polarities == 1 else 2, by)


def is_recording(sample: object) -> bool:
    """True for events by their columns: an array with fields, as in tonic, or a dictionary."""
    if isinstance(sample, np.ndarray):
        return {"t", "x", "p"} <= {*(sample.dtype.names or ())}
    return isinstance(sample, dict) and {"t", "x", "p"} <= sample.keys()


def column(events: Any, name: str, where: str) -> np.ndarray:
    """Return ``t``, ``x``, ``y`` or ``p`` of the events [M]. Without ``y``, as in a cochlea, rows are 0.

    Raises DataError unless there is one finite number for each event.
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
    if found.dtype.kind == "f" and not (np.abs(found) < 2**53).all():
        raise DataError(f"`{name}` of {where} has values that are not finite or above 2^53")
    return found
