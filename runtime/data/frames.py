"""Frames of events [T, C, H, W] in npy or npz files, a folder for each class."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.dsl.files import open_regular
from danetc.runtime.data.class_files import class_files, files_fingerprint, held_out
from danetc.runtime.data.files import FilesBelow, Strings
from danetc.runtime.data.source import DataSet, Source
from danetc.runtime.sources.folders import RECORDINGS as WHAT
from danetc.runtime.sources.folders import ClassFolders, class_folders
from danetc.runtime.sources.request import DataRequest, Policy
from danetc.runtime.system.errors import DataError, UnreadableError

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


def _only_frames(arrays: Any, where: str) -> Any:
    """The array of an npz file that holds frames."""
    keys = list(arrays.files)
    if KEY not in keys and len(keys) != 1:
        raise UnreadableError(
            f"{where} holds no array `{KEY}` (but {', '.join(keys) or 'nothing'}), and "
            "not just one array"
        )
    return arrays[KEY if KEY in keys else keys[0]]


def read_frames(where: str) -> Tensor:
    """The frames of a file. Raises UnreadableError; nothing is unpickled."""
    try:
        with open_regular(where) as stream:
            loaded = np.load(stream, allow_pickle=False)
            frames = loaded if isinstance(loaded, np.ndarray) else _only_frames(loaded, where)
    except UnreadableError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        if "pickled" in reason or "allow_pickle" in reason:
            reason = "it is no array of numbers (what is pickled is not read)"
        raise UnreadableError(f"{where} cannot be read: {reason}") from error
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
    test = class_files(found.test, found.classes, WHAT)
    shape = _first_shape(found.train, train[0], request.policy)
    sides: tuple[Source, Source] = (
        FrameFiles(*train, request.policy, found.train, shape),
        FrameFiles(*test, request.policy, found.test, shape),
    )
    if found.share is not None:
        sides = held_out(FrameFiles(*train, request.policy, found.train, shape), found.share)
    return DataSet(
        name=request.name,
        text=request.text,
        class_names=found.classes,
        train=sides[0],
        test=sides[1],
        shape=shape,
        fingerprint=files_fingerprint(
            found.classes, (found.train, *train), (found.test, *test), share=found.share
        ),
        events=True,
    )


def _first_shape(root: Path, names: Strings, policy: Policy) -> tuple[int, ...]:
    """Of the first recording that can be read (the first of all, where the policy is to stop)."""
    for name in names:
        try:
            return tuple(read_frames(str(root / name)).shape)
        except UnreadableError:
            if policy == "stop":
                raise
    raise DataError(f"none of the {len(names)} recordings in {root} can be read")
