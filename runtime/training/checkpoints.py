"""Checkpoints on disk: written atomically, verified when read, never pickled.

A checkpoint is a folder of safetensors and a ``state.json`` with the size and SHA-256 of each file
and of itself (``danetc.runtime.system.files``). It is written beside its place, flushed to the disk,
and renamed:

======================= ============================================================
``last``                the newest
``previous``            the one before it, in case ``last`` is damaged
``best``                the one with the highest test accuracy of its phase
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
from typing import Any

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
PATIENCE = 60.0
"""Seconds that a message waits for a checkpoint in progress in order to name it."""
Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True, order=True)
class Position:
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
    that were there stay.
    """

    def __init__(self, folder: Path, notice: Notice, written: Callable[[Path], None]) -> None:
        self.folder = folder
        self.failure: str | None = None  # of the last attempt
        self._failing = False
        self._kept: Position | None = None
        self._notice = notice
        self._written = written
        self._thread: threading.Thread | None = None

    def write(self, snapshot: Snapshot, *names: str) -> bool:
        """Write a checkpoint under each name; return True on success."""
        self.wait()
        self._attempt(snapshot, names)
        self._report(names)
        return self.failure is None

    def write_later(self, snapshot: Snapshot, *names: str) -> None:
        """Write a checkpoint in the background, after the one that is being written."""
        self.wait()
        self._thread = threading.Thread(
            target=self._attempt, args=(snapshot, names), name="checkpoint"
        )
        self._thread.names = names  # type: ignore[attr-defined]
        self._thread.start()

    def wait(self) -> None:
        """Wait until the checkpoint in progress is on disk."""
        if self._thread is not None:
            self._thread.join()
            names = self._thread.names  # type: ignore[attr-defined]
            self._thread = None
            self._report(names)

    def last_written(self) -> Position | None:
        """Return the position of the newest complete checkpoint.

        Waits up to PATIENCE seconds for the one in progress. Safe to call from any thread.
        """
        thread = self._thread
        if thread is not None:
            thread.join(PATIENCE)
        return self._kept

    def latest(self) -> Snapshot | None:
        """Return the newest intact checkpoint, or None if there are none.

        Damaged ones are skipped with a notice. Raises CheckpointError if all are damaged.
        """
        damaged: list[str] = []
        found: list[tuple[Position, Path]] = []
        for path in self._all():
            try:
                found.append((_position(_read_state(path)), path))
            except CheckpointError as error:
                damaged.append(str(error))
        for _, path in sorted(found, key=lambda item: (item[0], item[1].name == LAST))[::-1]:
            try:
                snapshot = read_checkpoint(path)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                self._notice(f"{message}; it is passed over")
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

    def read(self, name: str) -> Snapshot:
        """Read a checkpoint by its name. Raises CheckpointError."""
        return read_checkpoint(self.folder / name)

    def sweep(self) -> None:
        """Remove checkpoints that were incomplete when their process died."""
        for path in self.folder.glob(".*.tmp-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(".*.old-*"):
            place = self.folder / path.name[1:].rpartition(".old-")[0]
            if place.exists():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.rename(place)

    # ----------------------------------------------------------------------------------------------

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )

    def _attempt(self, snapshot: Snapshot, names: Sequence[str]) -> None:
        self.failure = None
        try:
            for name in names:
                self._put(snapshot, name)
            self._kept = snapshot.position
        except OSError as error:
            self.failure = explain_os_error(error, "free some space; the run continues")
        except Exception as error:  # in a thread, where it would be lost
            self.failure = f"{type(error).__name__}: {error}"

    def _report(self, names: Sequence[str]) -> None:
        again, self._failing = self._failing, self.failure is not None
        if self.failure is None:
            for name in names:
                self._written(self.folder / name)
            return
        if again:  # report a full disk once
            return
        there = f"that of {self._kept} stays" if self._kept is not None else "there is none yet"
        self._notice(f"no checkpoint was written: {self.failure}; {there}")

    def _put(self, snapshot: Snapshot, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / name
        new = self.folder / f".{name}.tmp-{os.getpid()}"
        shutil.rmtree(new, ignore_errors=True)
        try:
            _write(snapshot, new, place)
            if name == LAST:
                self._make_room_for_last(place)
                new.rename(place)
            else:
                old = self.folder / f".{name}.old-{os.getpid()}"
                if place.exists():
                    place.rename(old)
                new.rename(place)
                shutil.rmtree(old, ignore_errors=True)
            flush_folder(self.folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def _make_room_for_last(self, place: Path) -> None:
        if not place.exists():
            return
        previous, gone = self.folder / PREVIOUS, self.folder / f".{PREVIOUS}.tmp-{os.getpid()}"
        if previous.exists():  # renamed first: half removed, it would look damaged
            shutil.rmtree(gone, ignore_errors=True)
            previous.rename(gone)
        place.rename(previous)
        shutil.rmtree(gone, ignore_errors=True)


# -- one checkpoint --------------------------------------------------------------------------------


def _write(snapshot: Snapshot, folder: Path, place: Path) -> None:
    """Write a checkpoint to a new folder. Errors name the files as they will be in ``place``."""
    with naming(place):
        folder.mkdir()
    files = {}
    for stem, tensors in snapshot.tensors.items():
        data = tensor_file(tensors)
        files[f"{stem}.safetensors"] = {
            "bytes": sum(len(piece) for piece in data),
            "sha256": digest(data),
        }
        with naming(place / f"{stem}.safetensors"):
            write_flushed(folder / f"{stem}.safetensors", data)
    position = snapshot.position
    record = {
        "format": FORMAT,
        "position": {"phase": position.phase, "epoch": position.epoch, "step": position.step},
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

    record = _read_state(folder)
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, known in record["files"].items():
        try:
            data = read_file(within(folder, name))
            if len(data) != known["bytes"]:
                raise DamagedError(folder / name, f"it has {len(data)} bytes, not {known['bytes']}")
            if digest(data) != known["sha256"]:
                raise DamagedError(folder / name, "it is not as it was written (SHA-256)")
            tensors[name.removesuffix(".safetensors")] = load(data)
        except DamagedError as error:
            raise CheckpointError(str(error)) from error
        except SafetensorError as error:
            raise CheckpointError(f"{folder / name} is damaged: {error}") from error
    return Snapshot(_position(record), tensors, record["state"])


def position_on_disk(folder: Path) -> Position | None:
    """Return the position of a checkpoint; None if it is missing or damaged."""
    try:
        return _position(_read_state(folder))
    except CheckpointError:
        return None


def _read_state(folder: Path) -> dict[str, Any]:
    """Read and verify state.json. Raises CheckpointError."""
    try:
        record = read_record(within(folder.parent, folder.name, STATE))
    except DamagedError as error:
        raise CheckpointError(str(error)) from error
    form, files = record.get("format"), record.get("files")
    if type(form) is int and form > FORMAT:
        raise CheckpointError(f"{folder} was written by a newer danetc")
    described = (
        type(form) is int
        and _is_position(record.get("position"))
        and isinstance(record.get("state"), dict)
        and isinstance(files, dict)
        and "model.safetensors" in files
        and all(
            isinstance(each, dict) and {"bytes", "sha256"} <= {*each} for each in files.values()
        )
    )
    if not described:
        raise CheckpointError(f"{folder / STATE} is damaged: it does not describe a checkpoint")
    return record


def _is_position(record: object) -> bool:
    return (
        isinstance(record, dict)
        and record.keys() == {"phase", "epoch", "step"}
        and all(type(each) is int and each >= 0 for each in record.values())
    )


def _position(record: Mapping[str, Any]) -> Position:
    return Position(**record["position"])
