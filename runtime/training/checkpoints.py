"""Checkpoints on disk, which are written atomically and verified when they are read.

A checkpoint is a folder of safetensors files and a ``state.json`` with the SHA-256 of each file and
of itself (``danetc.runtime.system.files``). It is written to a temporary folder, flushed to the
disk, and renamed. Nothing is pickled.

======================= ============================================================
``last``                the newest
``previous``            the one before it, in case ``last`` is damaged
``best``                the one with the highest accuracy of its phase (``Epoch.quality``)
``epoch-0010``          every k epochs, counted over all phases
``phase-NAME``          the end of a phase that has a next one
``.NAME.tmp-PID``       one that was incomplete when its process died
======================= ============================================================
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from danetc.runtime.model.weight_files import tensor_file
from danetc.runtime.system.errors import CheckpointError
from danetc.runtime.system.files import (
    DamagedError,
    digest,
    explain_os_error,
    flush_folder,
    naming,
    read_file,
    read_record,
    seal_record,
    within,
    write_flushed,
)

FORMAT = 1
"""Version of the format; increased when an older danetc cannot read a new checkpoint."""
STATE = "state.json"
LAST, PREVIOUS, BEST = "last", "previous", "best"
Notice = Callable[[str], None]


class Position(NamedTuple):
    """Progress of a run: the phase (from 0), its complete epochs, and steps of the current one.

    Between the last step of an epoch and its evaluation, ``step`` is the number of its steps.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0

    def __str__(self) -> str:
        return f"phase {self.phase + 1}, epoch {self.epoch + 1}, step {self.step}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An independent copy of a run at a position, on the CPU.

    ``tensors`` are by file (``model``, ``optimizer``, ``ema``, ``rank-0`` ...) and name; ``state``
    is JSON data.
    """

    position: Position
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


class Checkpoints:
    """Checkpoints of a run, on rank 0.

    A disk that fails does not end a training: the failure goes to ``notice``, and the checkpoints
    that were there stay. ``written`` is called with the path of each new one.
    """

    def __init__(self, folder: Path, notice: Notice, written: Callable[[Path], None]) -> None:
        self.folder = folder
        self._notice, self._written = notice, written
        self._thread: threading.Thread | None = None
        self._names: Sequence[str] = ()
        self._failure: str | None = None  # of the last attempt
        self._failing = False  # the user has been told
        self._kept: Position | None = None

    def write(self, snapshot: Snapshot, *names: str) -> bool:
        """Write a checkpoint under each of the names. Return True on success."""
        self.write_later(snapshot, *names)
        self.wait()
        return self._failure is None

    def write_later(self, snapshot: Snapshot, *names: str) -> None:
        """Write a checkpoint in the background, after the one that is being written."""
        self.wait()
        self._names = names
        self._thread = threading.Thread(target=self._attempt, args=(snapshot,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until the checkpoint in progress is on disk."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if self._failure is None:
            for name in self._names:
                self._written(self.folder / name)
        elif not self._failing:  # so that a full disk is reported once
            there = f"that of {self._kept} stays" if self._kept is not None else "there is none yet"
            self._notice(f"no checkpoint was written: {self._failure}; {there}")
        self._failing = self._failure is not None

    def last_written(self) -> Position | None:
        """Return the position of the newest complete checkpoint, after the one in progress."""
        if self._thread is not None:
            self._thread.join()
        return self._kept

    def latest(self) -> Snapshot | None:
        """Return the newest intact checkpoint, or None if there are none.

        Removes those that were incomplete when their process died. A damaged checkpoint is skipped
        with a notice. Raises CheckpointError if all are damaged.
        """
        for path in self.folder.glob(".*.old-*"):  # the process died before it was replaced
            place = self.folder / path.name[1:].rpartition(".old-")[0]
            if not place.exists():
                path.rename(place)
        for path in [*self.folder.glob(".*.tmp-*"), *self.folder.glob(".*.old-*")]:
            shutil.rmtree(path, ignore_errors=True)
        damaged: list[str] = []
        found: list[tuple[Position, bool, Path]] = []
        for path in sorted(self.folder.glob("[!.]*")):
            if path.is_dir():
                try:
                    found.append((_read_state(path)[0], path.name == LAST, path))
                except CheckpointError as error:
                    damaged.append(str(error))
        for *_, path in sorted(found, reverse=True):
            try:
                snapshot = read_checkpoint(path)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                self._notice(f"{message}; it is skipped")
            if damaged:
                self._notice(f"taking {path}: {snapshot.position}")
            self._kept = snapshot.position
            return snapshot
        if damaged:
            raise CheckpointError(
                "\n".join(damaged) + f"\nno checkpoint in {self.folder} is whole; --fresh begins "
                "the run anew"
            )
        return None

    def _attempt(self, snapshot: Snapshot) -> None:
        self._failure = None
        try:
            for name in self._names:
                self._put(snapshot, name)
            self._kept = snapshot.position
        except OSError as error:
            self._failure = explain_os_error(error, "free some space; the run continues")
        except Exception as error:  # in a thread, where it would be lost
            self._failure = f"{type(error).__name__}: {error}"

    def _put(self, snapshot: Snapshot, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        place, process = self.folder / name, os.getpid()
        new, old = self.folder / f".{name}.tmp-{process}", self.folder / f".{name}.old-{process}"
        try:
            shutil.rmtree(new, ignore_errors=True)
            _write(snapshot, new, place)
            if name == LAST and place.exists():
                previous = self.folder / PREVIOUS
                old = self.folder / f".{PREVIOUS}.tmp-{process}"
                if previous.exists():  # a partly removed checkpoint would look damaged
                    previous.rename(old)
                place.rename(previous)
            elif place.exists():
                place.rename(old)
            new.rename(place)
            shutil.rmtree(old, ignore_errors=True)
            flush_folder(self.folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


# -- one checkpoint --------------------------------------------------------------------------------


def _write(snapshot: Snapshot, folder: Path, place: Path) -> None:
    """Write a checkpoint to a new folder. Errors name the files as they will be in ``place``."""
    with naming(place):
        folder.mkdir()
    files = {}
    for stem, tensors in snapshot.tensors.items():
        name, data = f"{stem}.safetensors", tensor_file(tensors)
        files[name] = {"sha256": digest(data)}
        with naming(place / name):
            write_flushed(folder / name, data)
    record = {
        "format": FORMAT,
        "position": snapshot.position._asdict(),
        "files": files,
        "state": snapshot.state,
    }
    with naming(place / STATE):
        write_flushed(folder / STATE, seal_record(record))
    flush_folder(folder)


def read_checkpoint(folder: Path) -> Snapshot:
    """Read and verify a checkpoint. Raises CheckpointError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    position, record = _read_state(folder)
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, known in record["files"].items():
        try:
            data = read_file(within(folder, name))
            if digest(data) != known["sha256"]:
                raise DamagedError(folder / name, "it is not as it was written (SHA-256)")
            tensors[name.removesuffix(".safetensors")] = load(data)
        except DamagedError as error:
            raise CheckpointError(str(error)) from error
        except SafetensorError as error:
            raise CheckpointError(f"{folder / name} is damaged: {error}") from error
    return Snapshot(position, tensors, record["state"])


def _read_state(folder: Path) -> tuple[Position, dict[str, Any]]:
    """Read the state of a checkpoint and verify it. Raises CheckpointError."""
    try:
        record = read_record(within(folder.parent, folder.name, STATE))
    except DamagedError as error:
        raise CheckpointError(str(error)) from error
    try:
        newer = record["format"] > FORMAT
        position, files = Position(**record["position"]), record["files"]
        known = all(isinstance(each["sha256"], str) for each in files.values())
        counted = all(type(each) is int and each >= 0 for each in position)
        stated = isinstance(record["state"], dict) and "model.safetensors" in files
        whole = known and counted and stated
    except (KeyError, TypeError, AttributeError):
        newer = whole = False
    if newer:
        raise CheckpointError(f"{folder} was written by a newer danetc")
    if not whole:
        raise CheckpointError(f"{folder / STATE} is damaged: it does not describe a checkpoint")
    return position, record
