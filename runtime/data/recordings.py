"""Events of a recording, counted in frames.

An event has a time, a column, a row and a polarity: t, x, y, p, as SpikingJelly and tonic call them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.system.errors import DataError


def is_recording(sample: object) -> bool:
    """Whether a sample is an array of events with fields, as tonic has them."""
    return isinstance(sample, np.ndarray) and {"t", "x", "p"} <= {*(sample.dtype.names or ())}


def row_of(events: Any) -> np.ndarray:
    """The rows of events [M]; 0 for those of a line, as of a cochlea."""
    known = events.dtype.names if isinstance(events, np.ndarray) else tuple(events)
    return np.asarray(events["y"] if "y" in known else np.zeros(len(events["x"]), np.int64))


def frames_of(events: Any, frames: int, size: tuple[int, int], where: str) -> Tensor:
    """Events (``events["x"]`` and so on, [M] each) as counts [T, 2, H, W], float32.

    Each of ``frames`` holds equally many events, the last one the rest, as SpikingJelly's
    ``split_by="number"`` has it. ``size`` is (H, W). Raises DataError for events outside of it.
    """
    x, y = (np.asarray(each).astype(np.int64) for each in (events["x"], row_of(events)))
    p = np.asarray(events["p"]).astype(np.int64) > 0
    height, width = size
    if len(x) < frames:
        raise DataError(f"{where} has {len(x)} events, too few for {frames} frames")
    if x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height:
        raise DataError(
            f"{where} has events at x to {x.max()} and y to {y.max()}, outside of {height}x{width}; "
            "the size is height x width"
        )
    each = len(x) // frames
    number = np.minimum(np.arange(len(x)) // each, frames - 1)
    cells = ((number * 2 + p) * height + y) * width + x
    counts = np.bincount(cells, minlength=frames * 2 * height * width)
    return torch.from_numpy(counts.astype(np.float32)).reshape(frames, 2, height, width)
