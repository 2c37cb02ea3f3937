"""Loading of users' Python code, and messages on its errors."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.dsl.errors import UserError

_OWN = f"{Path(__file__).absolute().parents[2]}{os.sep}"
"""Folder of danetc's own files."""


class UserCodeError(UserError):
    """User code does not exist or raises an error; the message says where."""


@lru_cache(maxsize=64)
def loaded(path: Path, changed: int) -> Any:
    """Return the module of a file that was ``changed`` at that time; executes it once."""
    spec: Any = importlib.util.spec_from_file_location(f"danetc_user_{path.stem}_{changed}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle read ``sys.modules``
    spec.loader.exec_module(module)
    return module


def found_at(place: str) -> Any:
    """Return the object ``MODULE:NAME`` or ``FILE.py:NAME``, relative to the working directory.

    Raises UserCodeError if it does not exist or its module raises an error.
    """
    home, _, name = place.rpartition(":")
    is_file, file = home.endswith(".py"), Path(home).expanduser().absolute()
    if is_file and not file.is_file():
        raise UserCodeError(f"there is no file {file}")
    try:
        if is_file:
            module = loaded(file, file.stat().st_mtime_ns)
        else:
            if os.getcwd() not in sys.path:  # the working directory comes first
                sys.path.insert(0, os.getcwd())
            importlib.invalidate_caches()
            module = importlib.import_module(home)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{home}.".startswith(f"{missing}."):
            raise UserCodeError(
                f"there is no module `{home}` in {os.getcwd()} or among the installed ones"
            ) from error
        raise UserCodeError(where_it_failed(error)) from error
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        known = [key for key in vars(module) if not key.startswith("_")]
        raise UserCodeError(f"{home} has no `{name}`; {instead(name, known, 'it has')}")
    return found


def function_at(
    what: str, place: str, takes: Sequence[str], numbers: Mapping[str, float]
) -> Callable[..., Any]:
    """Return the function ``FILE.py:NAME`` of the arguments ``takes``, with ``numbers`` given by name.

    Raises UserCodeError, which says ``what`` it is, if there is none or if it does not accept them.
    """
    try:
        function: Callable[..., Any] = found_at(place)
        inspect.signature(function).bind(*takes, **numbers)
    except UserCodeError as error:
        raise UserCodeError(f"{what} `{place}`: {error}") from error
    except (TypeError, ValueError) as error:
        given = ", ".join([*takes, *numbers])
        raise UserCodeError(f"{what} `{place}` cannot be called with ({given}): {error}") from error
    return partial(function, **numbers)


def where_it_failed(error: BaseException) -> str:
    """Return ``FILE, line 3, in make: ValueError: ...`` for the innermost line of user code, or else of a library."""
    if isinstance(error, SyntaxError) and error.filename:
        line = f" (`{error.text.strip()}`)" if error.text else ""
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}{line}"
    called = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in called if not frame.filename.startswith(("<", _OWN))]
    own = [frame for frame in frames if not _of_library(frame.filename)]
    return _place((own or frames)[-1], error) if frames else _what(error)


def failure_of_user(error: BaseException) -> str | None:
    """As ``where_it_failed``, for user code that danetc has called; None if the traceback has none."""
    called, found = False, None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(_OWN):
            called = called or frame.filename != f"{_OWN}main.py"  # which calls commands alone
        elif called and not frame.filename.startswith("<") and not _of_library(frame.filename):
            found = frame
    return None if found is None else _place(found, error)


def _place(frame: traceback.FrameSummary, error: BaseException) -> str:
    line = f" (`{frame.line}`)" if frame.line else ""
    return f"{frame.filename}, line {frame.lineno}, in {frame.name}: {_what(error)}{line}"


def _what(error: BaseException) -> str:
    try:
        text = str(error) or "without a message"
    except Exception:
        text = "with a message that cannot be shown"
    return f"{type(error).__name__}: {text}"


def _of_library(filename: str) -> bool:
    parts = Path(filename).parts
    return "site-packages" in parts or "dist-packages" in parts or filename.startswith(_STANDARD)


_STANDARD = str(Path(os.__file__).parent) + os.sep
