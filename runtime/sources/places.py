"""Folders that someone named: whether they are there, and what a misspelt one may mean."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Literal

from danetc.dsl.diagnostics.diagnostic import closest
from danetc.runtime.system.errors import DataError

_MANY = 10_000
"""Entries of a folder among which a misspelt one is looked for."""


def existing(directory: str, kind: str, what: str) -> Path:
    """The folder of ``kind:directory``. Raises DataError where it is missing or empty."""
    path = _found(directory, "folder", f"{kind}:DIR", what)
    if not any(path.iterdir()):
        raise DataError(f"the folder {path} is empty; {kind}:DIR takes one that holds {what}")
    return path


def existing_file(text: str, kind: str, what: str) -> Path:
    """The file of ``kind:FILE``. Raises DataError where it is missing or a folder."""
    return _found(text, "file", f"{kind}:FILE", what)


def _found(text: str, called: Literal["file", "folder"], form: str, what: str) -> Path:
    kind, _, place = form.rpartition(":")
    if not text:
        raise DataError(f"`{kind}` needs a {called}: {form}, where {place} holds {what}")
    path = Path(text).expanduser()
    takes = f"{form} takes one that holds {what}"
    if not path.exists():
        raise DataError(f"there is no {called} {path}; {near(path) or takes}")
    if not (path.is_dir() if called == "folder" else path.is_file()):
        raise DataError(f"{path} is no {called}; {takes}")
    return path


def near(path: Path) -> str | None:
    """``did you mean ...`` for a path that is not there: by what stands where it goes wrong."""
    missing = path.absolute()
    while not missing.parent.exists() and missing != missing.parent:
        missing = missing.parent
    try:
        with os.scandir(missing.parent) as entries:
            names = [each.name for each in islice(entries, _MANY)]
    except OSError:
        return None
    close = closest(missing.name, names)
    if close is None:
        return None
    there = missing.with_name(close)
    whole = there / path.absolute().relative_to(missing)
    found = whole if whole.exists() else there
    return f"did you mean `{found if path.is_absolute() else os.path.relpath(found)}`?"
