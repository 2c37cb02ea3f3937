"""Where compiled kernels are kept on disk: a folder that belongs to the user alone.

What is read from there is run (libraries, and files that torch unpickles), so nobody else may be
able to write it. The folder is ``kernels`` in the user's cache folder (``~/.cache/danetc`` on Linux,
``~/Library/Caches/danetc`` on macOS, ``%LOCALAPPDATA%\\danetc\\Cache`` on Windows), or in the one that
``DANETC_CACHE_DIR`` names. One that another user owns or could write to is not used: kernels are
then made in a private folder that goes with the process.

====================== ===========================================================
``<digest>``           a kernel, by all that may make its code differ
``inductor``           what Inductor keeps: sources, libraries, traces, headers
``triton``             what Triton keeps
``native``             libraries of our own C++ (``kernels.native``)
====================== ===========================================================
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs

from danetc.runtime.kernels import torch_internals as internals

VARIABLE = "DANETC_CACHE_DIR"
"""The environment variable that names another folder than the user's cache folder."""

_INDUCTOR, _TRITON = "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"
_LOCK = threading.RLock()  # what is set while kernels are made is the whole process's


class NotPrivate(Exception):
    """A folder that somebody else could have written to, or that cannot be written to; says why."""


def kernel_folder() -> Path:
    """The folder of kernels, made if it is not there. Where it must not or cannot be used, that is
    said once, and it is a new one that is removed when the process ends."""
    return _folder(os.environ.get(VARIABLE) or None)


@lru_cache(maxsize=8)
def _folder(given: str | None) -> Path:
    root = Path(given) if given else platformdirs.user_cache_path("danetc", appauthor=False)
    try:
        return private_folder(root.absolute() / "kernels")
    except NotPrivate as error:
        internals.notice(
            f"compiled kernels are not kept, and the next process makes its own: {error}; name "
            f"another folder with {VARIABLE}"
        )
        return _temporary()


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="danetc-kernels-"))  # with mode 0700
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in what it has forked
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def private_folder(folder: Path) -> Path:
    """``folder``, which nobody but this user and root can write to, made with mode 0700 where it is
    not there. Folders above it may be links; the path that is given back has none.

    Raises NotPrivate. Where files have no owners (Windows) it is taken as it is: the user's own
    cache folder is private there.
    """
    try:
        above = folder.parent.resolve()
        _make(above)
        folder = above / folder.name
        _make(folder)
        if hasattr(os, "geteuid"):
            _check(folder, os.geteuid())
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, on older Pythons
        place = getattr(error, "filename", None) or folder
        raise NotPrivate(f"{place}: {getattr(error, 'strerror', None) or error}") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise NotPrivate(f"{folder} cannot be written to")
    return folder


def _make(folder: Path) -> None:
    """Make a folder and those above it, each for the user alone."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def _check(folder: Path, user: int) -> None:
    """Raise NotPrivate unless the folder is ``user``'s own, and each above it in safe hands."""
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise NotPrivate(f"{folder} is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        raise NotPrivate(f"{folder} is no folder")
    if status.st_uid != user:
        raise NotPrivate(f"{folder} belongs to another user ({status.st_uid}, not {user})")
    if status.st_mode & 0o022:
        raise NotPrivate(
            f"{folder} can be written to by others (mode {status.st_mode & 0o777:04o}), so it "
            "may hold what they have put there; remove it, and it is made anew"
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    for place in folder.parents:  # who can write there can put another folder in this one's place
        status = place.stat()
        sticky = bool(status.st_mode & stat.S_ISVTX)
        own_group = status.st_gid == status.st_uid == user  # the group that a user has alone
        others = status.st_mode & (0o002 if own_group else 0o022)
        if status.st_uid not in (0, user) or (others and not sticky):
            raise NotPrivate(f"another user than you could replace {place} or what is in it")


@contextmanager
def making_kernels() -> Iterator[dict[str, Any]]:
    """Have Inductor and Triton keep what they make in our folder, for as long as this is entered;
    what is compiled by others, before and after, stays where they want it. Gives settings for
    Inductor. One thread at a time."""
    folder = kernel_folder()
    with _LOCK, ExitStack() as stack:
        for variable, name in ((_INDUCTOR, "inductor"), (_TRITON, "triton")):
            stack.enter_context(_environment(variable, str(folder / name)))
        yield stack.enter_context(internals.headers_in(folder / "inductor" / "headers"))


@contextmanager
def _environment(variable: str, value: str) -> Iterator[None]:
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before
