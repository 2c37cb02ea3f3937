"""JSON files that commands leave for each other, checked when they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from danetc.errors import UserError
from danetc.runtime.system.files import read_record, within


def record_in(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file. Raises UserError if it was changed after danetc wrote it."""
    return read_record(within(path.parent, path.name))


def record_if_any(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, None if it does not exist. Raises as ``record_in`` does."""
    return record_in(path) if os.path.lexists(path) else None


def epochs_in(path: Path) -> list[dict[str, Any]]:
    """Return the figures of a run's epochs so far, from its training.json if there is one.

    Raises UserError.
    """
    epochs = (record_if_any(path) or {"epochs": []}).get("epochs")
    if not isinstance(epochs, list) or not all(isinstance(each, dict) for each in epochs):
        raise UserError(f"{path} is damaged: it has no list of epochs")
    return epochs
