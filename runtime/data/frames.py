"""Frames of events [T, C, H, W], or events themselves, in npy or npz files, a folder for each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.data.class_files import class_files, class_folder_set
from danetc.runtime.data.files import Files, FilesBelow, Strings, read_numpy
from danetc.runtime.data.recordings import Cutting, cutting, is_recording
from danetc.runtime.data.source import DataSet
from danetc.runtime.sources.folders import RECORDINGS as WHAT
from danetc.runtime.sources.folders import ClassFolders, class_folders
from danetc.runtime.sources.request import DataRequest, Policy
from danetc.runtime.system.errors import DataError, UnreadableError

EVENTS = ("t", "x", "y", "p")  # of an npz file, as SpikingJelly has them
KEY = "frames"  # of an npz file; SpikingJelly's name, too


@dataclass(frozen=True, eq=False)
class FrameFiles(FilesBelow):
    """Frames [T, C, H, W], uint8 or float32, all of ``shape``, read from below ``root``."""

    shape: tuple[int, ...]

    def read(self, index: int) -> Tensor:
        where = self.where(index)
        frames = read_frames(where)
        if tuple(frames.shape) != self.shape:
            raise DataError(
                f"{where} has frames [T, C, H, W] of {list(frames.shape)}, but those of the first "
                f"recording are {list(self.shape)}; all must have the same T and size"
            )
        return frames


@dataclass(frozen=True, eq=False)
class RecordingFiles(FilesBelow):
    """Files of events, which are counted in frames [T, 2, H, W] when they are read."""

    cutting: Cutting

    def read(self, index: int) -> Tensor:
        where = self.where(index)
        events = _loaded(where)
        if not _holds_events(events):
            raise UnreadableError(f"{where} holds no events (t, x, y, p), but others do")
        return self.cutting.cut(events, where)


def _holds_events(loaded: Any) -> bool:
    """Whether a file holds the events of a recording, not frames."""
    return isinstance(loaded, dict) or is_recording(loaded)


def _loaded(where: str) -> Any:
    """An array of a file; of events, as SpikingJelly keeps them, a dictionary of t, x, y and p. Raises
    UnreadableError; nothing is unpickled.
    """

    def wanted(names: Sequence[str]) -> Sequence[str]:
        if {*EVENTS} <= {*names}:
            return EVENTS
        if KEY not in names and len(names) != 1:
            raise UnreadableError(
                f"{where} holds no array `{KEY}` (but {', '.join(names) or 'nothing'}), and "
                "not just one array"
            )
        return [KEY if KEY in names else names[0]]

    loaded = read_numpy(where, wanted)
    if isinstance(loaded, dict) and len(loaded) == 1:
        return loaded.popitem()[1]
    return loaded


def read_frames(where: str) -> Tensor:
    """The frames of a file. Raises UnreadableError."""
    frames = _loaded(where)
    if _holds_events(frames):
        raise UnreadableError(f"{where} holds events, but others hold frames")
    if frames.ndim != 4 or not frames.size:
        raise UnreadableError(
            f"{where} has an array of {list(frames.shape)}, where frames [T, C, H, W] are needed"
        )
    if frames.dtype.kind not in "buif":
        raise UnreadableError(f"{where} has values of type {frames.dtype}, which are no numbers")
    kept = frames if frames.dtype == np.uint8 else frames.astype(np.float32)
    if kept.dtype == np.float32 and not np.isfinite(kept).all():
        raise UnreadableError(f"{where} has values that are not finite")
    return torch.from_numpy(np.ascontiguousarray(kept))


def open_frames(request: DataRequest) -> DataSet:
    """DIR/train/CLASS/*.npz and DIR/val/CLASS/*.npz (or test; or .npy), frames of one shape.

    An npz file has them under ``frames``, or as its only array. Raises DataError where the
    folders are not so.
    """
    return frame_folders(request, class_folders(request.argument, request.name, WHAT))


def frame_folders(request: DataRequest, found: ClassFolders) -> DataSet:
    """A data set of two folders of class folders with files of frames. Raises DataError."""
    train = class_files(found.train, found.classes, WHAT)
    shape, make = _maker(request, found, train[0])
    return class_folder_set(
        request, found, train, WHAT, make, name=request.name, shape=shape, events=True
    )


Maker = Callable[[Strings, Tensor, Path], Files]


def _maker(
    request: DataRequest, found: ClassFolders, names: Strings
) -> tuple[tuple[int, ...], Maker]:
    """The shape of samples, and what makes a source of files: of frames, or of events."""
    policy, cut = request.policy, cutting(found.asked, request.frames)
    first, where = _first(found.train, names, policy)
    if not _holds_events(first):
        shape = tuple(read_frames(where).shape)
        return shape, lambda names, labels, root: FrameFiles(names, labels, policy, root, shape)
    return (
        cut.shape(first, where),
        lambda names, labels, root: RecordingFiles(names, labels, policy, root, cut),
    )


def _first(root: Path, names: Strings, policy: Policy) -> tuple[Any, str]:
    """What the first file holds that can be read (the first of all, where the policy is to stop)."""
    for name in names:
        where = str(root / name)
        try:
            loaded = _loaded(where)
            return loaded if _holds_events(loaded) else read_frames(where), where
        except UnreadableError:
            if policy == "stop":
                raise
    raise DataError(f"none of the {len(names)} recordings in {root} can be read")
