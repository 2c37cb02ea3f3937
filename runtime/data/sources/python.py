"""Data from Python: ``python:MODULE:NAME``, what a user's code returns, and ``memory``, what a program passes."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from danetc.runtime.data.request import DataRequest, DataSource
from danetc.runtime.system.errors import DataError

_PLACE = re.compile(r"(?P<home>[A-Za-z_][\w.]*|.+\.py):(?P<name>[A-Za-z_][\w.]*)")
_USAGE = "python:MODULE:NAME or python:FILE.py:NAME"


def _look(request: DataRequest) -> str:
    """Return ``MODULE:NAME`` after a check, by files alone, that the module exists."""
    match = _PLACE.fullmatch(request.place)
    if match is None:
        raise DataError(
            f"`python` needs a module or a file, and the name in it that gives the data: {_USAGE}; "
            f"not `{request.place}`"
        )
    home = match["home"]
    if not _exists(home):
        what = "file" if home.endswith(".py") else "module"
        raise DataError(f"there is no {what} `{home}` in {os.getcwd()}; it takes {_USAGE}")
    return request.place


def names_code(text: str) -> bool:
    """True if ``text`` is ``MODULE:NAME``, and there is such a module, none of Python's own."""
    match = _PLACE.fullmatch(text.partition(",")[0])
    home = "" if match is None else match["home"]
    return home.partition(".")[0] not in {"", *sys.stdlib_module_names} and _exists(home)


def _exists(home: str) -> bool:
    """True if a file, or a module or its package, is found. None is imported, which runs its code."""
    if home.endswith(".py"):
        return Path(home).expanduser().is_file()
    first = home.partition(".")[0]
    path = Path(first)
    if path.is_dir() or path.with_suffix(".py").is_file() or first in sys.modules:
        return True
    try:
        return importlib.util.find_spec(first) is not None
    except (ImportError, ValueError):
        return False


def _open(request: DataRequest, place: str) -> Any:
    """Return a data set of what the code gives, with the SHA-256 of its file in the fingerprint.

    Errors of the code, also of its Datasets, are DataErrors that name its line.
    """
    from danetc.runtime.data.dataset import facts_fingerprint
    from danetc.runtime.data.own import blamed, own_set, returned
    from danetc.runtime.system.files import file_digest
    from danetc.runtime.system.locks import in_turn
    from danetc.runtime.system.seeds import drawn_anew
    from danetc.runtime.system.user_code import found_at

    with blamed(f"`{place}`"):
        code = found_at(place)
        with in_turn(request.text):  # later processes can use the cache that the first one wrote
            with drawn_anew() as seed:
                seed(0)
                splits = returned(code, request)
            data = own_set(request, splits, place)
    module = sys.modules.get(getattr(code, "__module__", None) or type(code).__module__)
    if (file := getattr(module, "__file__", None)) is None:
        return data
    facts = (data.fingerprint, file_digest(Path(file)))
    return replace(data, fingerprint=facts_fingerprint(facts))


PYTHON = DataSource(
    "python:MODULE:NAME",
    "Python function that returns training and test data, as Datasets or arrays; also written "
    "MODULE:NAME or FILE.py:NAME",
    _look,
    _open,
    ("train", "test", "classes", "size", "by"),
)


NAME = "memory"
GONE = (
    "the data were in the memory of a Python program, which has to pass the same again; arrays can also be "
    "saved with numpy.savez, for --data FILE.npz"
)


class InMemory(str):
    """Data that a Python program passes, by their splits (see ``splits_of`` in ``own``).

    As a text it is what a run records, ``memory`` and the shares that are held out: ``memory,test=0.2``.
    """

    splits: Mapping[str, Any]
    notices: tuple[str, ...] = ()


def in_memory(data: Any, test: float | None = None) -> str:
    """Return ``data`` as a text: names and paths as they are, arrays and Datasets as ``InMemory``.

    Without test samples, a share ``test`` is held out, or both splits have all. Raises DataError.
    """
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    from danetc.runtime.data.own import splits_of  # late: imports torch

    splits = splits_of(data, "`data` is a name such as 'digits',")
    if "train" not in splits and (test is not None or "test" not in splits):
        raise DataError("`data` has no samples to train on")
    notices: tuple[str, ...] = ()
    if test is not None and "test" not in splits:
        splits["test"] = test
        notices = (
            f"{test:.0%} of the samples are held out to test on; data={{'train': ..., 'test': ...}} sets "
            "another share, or other samples",
        )
    splits.setdefault("train", splits.get("test"))
    shares = {key: each for key, each in splits.items() if isinstance(each, Real)}
    found = InMemory(",".join([NAME, *(f"{key}={share}" for key, share in shares.items())]))
    found.splits = {key: each for key, each in splits.items() if key not in shares}
    found.notices = notices
    return found


def _open_memory(request: DataRequest, data: InMemory) -> Any:
    from danetc.runtime.data.own import blamed, own_set

    with blamed("`data`"):
        found = own_set(request, data.splits, "the data")
    return replace(found, notices=data.notices)


MEMORY = DataSource(
    NAME, "data that a Python program passes", lambda request: None, _open_memory, ("test",)
)
