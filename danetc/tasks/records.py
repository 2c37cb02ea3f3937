"""JSON files that commands leave for each other, checked when they are read."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from danetc.errors import UserError
from danetc.runtime.system.files import DamagedError, OutsideError, read_record, within


def inside(folder: Path, *names: str) -> Path:
    """Return the path of a file of a directory. Raises UserError if it leads out of the directory."""
    try:
        return within(folder, *names)
    except DamagedError as error:
        raise damaged(error) from error


def record_in(path: Path, allow_changed: Collection[str] = ()) -> dict[str, Any]:
    """Return the content of a JSON file.

    Raises UserError if it was changed after danetc wrote it, unless ``allow_changed`` has its name.
    """
    try:
        return read_record(within(path.parent, path.name), changed=path.name in allow_changed)
    except DamagedError as error:
        raise damaged(error) from error


def record_if_any(path: Path, allow_changed: Collection[str] = ()) -> dict[str, Any] | None:
    """Return the content of a JSON file, None if it does not exist. Raises as ``record_in`` does."""
    return record_in(path, allow_changed) if os.path.lexists(path) else None


def epochs_in(path: Path, allow_changed: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the figures of a run's epochs so far, from its training.json if there is one.

    Raises UserError.
    """
    epochs = (record_if_any(path, allow_changed) or {"epochs": []}).get("epochs")
    if not isinstance(epochs, list) or not all(isinstance(each, dict) for each in epochs):
        raise UserError(f"{path} is damaged: it has no list of epochs")
    return epochs


def damaged(error: DamagedError, *, needed: bool = True) -> UserError:
    """Return the error for a damaged file, or a missing one that is not ``needed``.

    It says how a file that was changed on purpose is accepted.
    """
    there = error.path.is_file()
    if isinstance(error, OutsideError) or (needed and not there):
        return UserError(str(error))
    name, done = error.path.name, "changed" if there else "removed"
    return UserError(
        f"{error}; if somebody has {done} it on purpose, say so with --allow-changed {name} "
        f"(in Python allow_changed=[{name!r}])"
    )
