"""``python:MODULE:CALLABLE``: where the code is, looked at without running it."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from danetc.runtime.sources.options import Placed, class_list, placed
from danetc.runtime.sources.places import near
from danetc.runtime.system.errors import DataError

KNOWN = ("train", "test", "classes", "targets", "layout", "size", "by")
PLACE = re.compile(r"(?P<home>[A-Za-z_][\w.]*|.+\.py):(?P<name>[A-Za-z_][\w.]*)")
USAGE = "python:MODULE:NAME or python:FILE.py:NAME"


def python_place(text: str) -> Placed:
    """The code of ``python:MODULE:NAME``, which is there as far as files tell. Raises DataError."""
    found = placed(text, "python", KNOWN)
    match = PLACE.fullmatch(found.place)
    if match is None:
        raise DataError(
            f"`python` needs a module or a file, and what of it gives the data: {USAGE}; not "
            f"`{found.place}`"
        )
    home = match["home"]
    class_list(found.get("classes"))
    if home.endswith(".py"):
        if not Path(home).expanduser().is_file():
            hint = near(Path(home).expanduser()) or f"it takes {USAGE}"
            raise DataError(f"there is no file {home}; {hint}")
    elif not _is_module(home):
        hint = near(Path(*home.split(".")).with_suffix(".py")) or f"it takes {USAGE}"
        raise DataError(
            f"there is no module `{home}` in {os.getcwd()} or among the installed ones; {hint}"
        )
    return found


def names_code(text: str) -> bool:
    """Whether ``MODULE:NAME`` stands without ``python:`` before it, and there is such a module."""
    match = PLACE.fullmatch(text.partition(",")[0])
    if match is None:
        return False
    home = match["home"]
    return Path(home).is_file() if home.endswith(".py") else _is_module(home)


def _is_module(name: str) -> bool:
    """Whether a module, or the package it is in, can be found. (None is imported: a package's own
    code says where its modules are.)"""
    first = name.partition(".")[0]
    place = Path(first)
    if place.is_dir() or place.with_suffix(".py").is_file() or first in sys.modules:
        return True
    try:
        return importlib.util.find_spec(first) is not None
    except (ImportError, ValueError):
        return False
