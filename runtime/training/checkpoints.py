"""Checkpoints on disk, which are written atomically and verified when they are read.

A checkpoint is a folder of safetensors files and a ``state.json``, each with its own SHA-256. It is
written to a temporary folder, flushed to the disk, and renamed. Nothing is pickled.

- ``last``: the newest
- ``previous``: the one before it, in case ``last`` is damaged
- ``best``: the one with the highest accuracy of its phase (``Epoch.quality``)
- ``epoch-0010``: every k epochs, counted over all phases
- ``phase-NAME``: the end of a phase that has a next one
- ``.NAME.tmp-PID``: one that was incomplete when its process died
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from danetc.dsl.errors import UserError
from danetc.runtime.model.weight_files import read_tensors, tensor_file
from danetc.runtime.system import files

FORMAT = 3
"""Version of the format of checkpoints."""
STATE = "state.json"
LAST, PREVIOUS, BEST = "last", "previous", "best"


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

    ``tensors`` are by file (``model``, ``optimizer``, ``ema``, ``rank-0`` ...) and name.
    """

    position: Position
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


class Checkpoints:
    """Checkpoints of a run, on rank 0.

    A disk that fails does not end a training: the failure goes to ``notice``, and the checkpoints
    that were there stay. ``written`` is called with the path of each new one.
    """

    def __init__(
        self, folder: Path, notice: Callable[[str], None], written: Callable[[Path], None]
    ) -> None:
        self.folder = folder
        self._notice, self._written = notice, written
        self.saved: Position | None = None
        """Position of the newest complete checkpoint."""
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[list[Path]] | None = None
        self._failing = False  # the user has been told

    def write_later(self, snapshot: Snapshot, *names: str) -> None:
        """Write a checkpoint in the background, after the one that is being written."""
        self.wait()
        self._writing = self._pool.submit(lambda: [self._put(snapshot, name) for name in names])
        self._position = snapshot.position

    def wait(self) -> bool:
        """Wait until the checkpoint in progress is on disk. Return True unless it has failed."""
        writing, self._writing = self._writing, None
        if writing is None:
            return True
        error = writing.exception()
        if error is None:
            self.saved, self._failing = self._position, False
            for path in writing.result():
                self._written(path)
            return True
        failure = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError):
            failure = files.explain_os_error(error, "free some space; the run continues")
        if not self._failing:  # so that a full disk is reported once
            there = f"that of {self.saved} stays" if self.saved is not None else "there is none yet"
            self._notice(f"no checkpoint was written: {failure}; {there}")
        self._failing = True
        return False

    def latest(self) -> Snapshot | None:
        """Return the newest intact checkpoint, or None if there are none.

        Removes those that were incomplete when their process died. A damaged checkpoint is skipped
        with a notice. Raises UserError if all are damaged.
        """
        for path in self.folder.glob(".*.old-*"):  # the process died before it was replaced
            place = self.folder / path.name[1:].rpartition(".old-")[0]
            if not place.exists():
                path.rename(place)
        for path in [*self.folder.glob(".*.tmp-*"), *self.folder.glob(".*.old-*")]:
            shutil.rmtree(path, ignore_errors=True)
        damaged: list[str] = []
        found: list[tuple[Position, bool, Path]] = []
        for path in sorted(self.folder.glob("[!.]*/")):
            try:
                found.append((_read_state(path)[0], path.name == LAST, path))
            except UserError as error:
                damaged.append(str(error))
        for *_, path in sorted(found, reverse=True):
            try:
                snapshot = read_checkpoint(path)
            except UserError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                self._notice(f"{message}; it is skipped")
            if damaged:
                self._notice(f"taking {path}: {snapshot.position}")
            self.saved = snapshot.position
            return snapshot
        if damaged:
            raise UserError(
                "\n".join(damaged) + f"\nno checkpoint in {self.folder} is whole; --fresh begins "
                "the run anew"
            )
        return None

    def _put(self, snapshot: Snapshot, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        place, aside = self.folder / name, self.folder / (PREVIOUS if name == LAST else name)
        new = self.folder / f".{name}.tmp-{os.getpid()}"
        old = self.folder / f".{aside.name}.old-{os.getpid()}"
        try:
            shutil.rmtree(new, ignore_errors=True)
            with files.naming(place):  # errors name files as they will be there
                new.mkdir()
            contents: dict[str, files.Content] = {
                f"{stem}.safetensors": tensor_file(found)
                for stem, found in snapshot.tensors.items()
            }
            record = {
                "format": FORMAT,
                "position": snapshot.position._asdict(),
                "files": list(contents),
                "state": snapshot.state,
            }
            contents[STATE] = files.seal_record(record)
            for file, content in contents.items():
                with files.naming(place / file):
                    files.write_flushed(new / file, content)
            files.flush_folder(new)
            if place.exists():
                if aside.exists():  # after an interrupted removal, it would look damaged
                    aside.rename(old)
                if name == LAST:
                    place.rename(aside)
            new.rename(place)
            shutil.rmtree(old, ignore_errors=True)
            files.flush_folder(self.folder)
            return place
        finally:  # if it failed
            shutil.rmtree(new, ignore_errors=True)


def read_checkpoint(folder: Path) -> Snapshot:
    """Read a checkpoint. Raises UserError if it is damaged, or of another version of danetc."""
    position, record = _read_state(folder)
    tensors = {
        name.removesuffix(".safetensors"): read_tensors(files.within(folder, name))
        for name in record["files"]
    }
    return Snapshot(position, tensors, record["state"])


def _read_state(folder: Path) -> tuple[Position, dict[str, Any]]:
    """Read the state of a checkpoint. Raises UserError as ``read_checkpoint``."""
    path = files.within(folder.parent, folder.name, STATE)
    record = files.read_record(path)
    try:
        other = record["format"] != FORMAT
        position, names = Position(**record["position"]), record["files"]
        counted = all(type(each) is int and each >= 0 for each in position)
        listed = all(isinstance(name, str) for name in names) and "model.safetensors" in names
        whole = counted and listed and isinstance(record["state"], dict)
    except (KeyError, TypeError):
        other = whole = False
    if other:
        raise UserError(f"{folder} was written by another version of danetc")
    if not whole:
        raise files.DamagedError(path, "it does not describe a checkpoint")
    return position, record
