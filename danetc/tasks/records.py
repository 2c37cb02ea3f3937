"""The JSON files that commands leave for each other, checked as they are read."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from danetc.errors import UserError
from danetc.runtime.system.files import DamagedError, OutsideError, read_record, within


def inside(folder: Path, *names: str) -> Path:
    """Return the path of what belongs to a directory. Raises UserError where it leads out of it."""
    try:
        return within(folder, *names)
    except DamagedError as error:
        raise damaged(error) from error


def record_in(path: Path, allow_changed: Collection[str] = ()) -> dict[str, Any]:
    """What stands in a file of JSON. Raises UserError where it is not as it was written, unless its
    name is among those that ``allow_changed`` admits.
    """
    try:
        return read_record(within(path.parent, path.name), changed=path.name in allow_changed)
    except DamagedError as error:
        raise damaged(error) from error


def record_if_any(path: Path, allow_changed: Collection[str] = ()) -> dict[str, Any] | None:
    """What stands in a file of JSON; None where there is none. Raises as ``record_in`` does."""
    return record_in(path, allow_changed) if os.path.lexists(path) else None


def epochs_in(path: Path, allow_changed: Collection[str] = ()) -> list[dict[str, Any]]:
    """The figures of a run's epochs so far, from its training.json; none where there is no file.

    Raises UserError.
    """
    record = record_if_any(path, allow_changed) or {"epochs": []}
    epochs = record.get("epochs")
    if not isinstance(epochs, list) or not all(isinstance(each, dict) for each in epochs):
        raise UserError(f"{path} is damaged: it has no list of epochs")
    return epochs


def damaged(error: DamagedError, *, needed: bool = True) -> UserError:
    """A damaged file as an error that says how a changed one is admitted; and a missing one, unless
    it is ``needed``.
    """
    if isinstance(error, OutsideError):
        return UserError(str(error))
    name = error.path.name
    there = error.path.is_file()
    if needed and not there:
        return UserError(str(error))
    done = "changed" if there else "removed"
    return UserError(
        f"{error}; if somebody has {done} it on purpose, say so with --allow-changed {name} "
        f"(in Python allow_changed=[{name!r}])"
    )
