"""The folder of compiled kernels, which only the user can write to.

Its files are executed (libraries, and files that torch unpickles). The folder is ``kernels`` in the
user's cache folder (``~/.cache/danetc`` on Linux, ``~/Library/Caches/danetc`` on macOS,
``%LOCALAPPDATA%\\danetc\\Cache`` on Windows), or in the folder ``DANETC_CACHE_DIR``. If another
user owns it or could write to it, a private folder is used, which is deleted when the process ends.

=============== ==============================================
``native``      libraries of our own C++ (``kernels.native``)
``<digest>``    code of a kernel for a GPU (``kernels.compiled``)
``inductor``    Inductor's own files
``triton``      Triton's own files
``<node>.lock`` held by the process that compiles on a machine
=============== ==============================================
"""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from danetc.runtime.kernels.announcing import say
from danetc.runtime.kernels.torch_internals import notice
from danetc.runtime.system.locks import alone

VARIABLE = "DANETC_CACHE_DIR"
"""Environment variable with the folder to use instead of the user's cache folder."""

_INDUCTOR, _TRITON = "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"
_LIBDEVICE = "TRITON_LIBDEVICE_PATH"
PATIENCE = 600.0
"""Maximum number of seconds to wait for another process that compiles."""
_LOCK = threading.RLock()  # environment variables belong to the whole process


class NotPrivate(Exception):
    """Raised if another user could write to a folder, or if this process cannot."""


def kernel_folder() -> Path:
    """Return the folder of kernels. If it is unsafe, print a notice and return a temporary folder."""
    return _folder(os.environ.get(VARIABLE) or None)


@lru_cache(maxsize=8)
def _folder(given: str | None) -> Path:
    root = Path(given) if given else platformdirs.user_cache_path("danetc", appauthor=False)
    try:
        return private_folder(root.absolute() / "kernels")
    except NotPrivate as error:
        notice(
            f"compiled kernels are not stored, so the next process compiles them again: {error}; "
            f"set {VARIABLE} to another folder"
        )
        return _temporary()


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="danetc-kernels-"))  # mode 0700
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a forked process
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def private_folder(folder: Path) -> Path:
    """Create ``folder`` with mode 0700 if necessary and return its path without links.

    Raises NotPrivate if anybody except this user and root could write to it. On Windows, where
    files have no owner, the user's cache folder is private.
    """
    try:
        above = folder.parent.resolve()
        _make(above)
        folder = above / folder.name
        _make(folder)
        if hasattr(os, "geteuid"):
            _check(folder, os.geteuid())
    except (OSError, RuntimeError) as error:  # RuntimeError: a cycle of links, in older Pythons
        place = getattr(error, "filename", None) or folder
        raise NotPrivate(f"{place}: {getattr(error, 'strerror', None) or error}") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise NotPrivate(f"{folder} cannot be written to")
    return folder


def _make(folder: Path) -> None:
    """Create a folder and its parents with mode 0700."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def _check(folder: Path, user: int) -> None:
    """Raise NotPrivate unless ``user`` owns the folder and nobody else can replace it."""
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise NotPrivate(f"{folder} is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        raise NotPrivate(f"{folder} is not a folder")
    if status.st_uid != user:
        raise NotPrivate(f"{folder} belongs to another user ({status.st_uid}, not {user})")
    if status.st_mode & 0o022:
        raise NotPrivate(
            f"{folder} can be written to by others (mode {status.st_mode & 0o777:04o}), so it "
            "may hold files of theirs; remove it, and danetc creates it again"
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    for place in folder.parents:  # whoever can write to a parent can replace the folder
        status = place.stat()
        sticky = bool(status.st_mode & stat.S_ISVTX)
        own_group = status.st_gid == status.st_uid == user  # a group with this user only
        others = status.st_mode & (0o002 if own_group else 0o022)
        if status.st_uid not in (0, user) or (others and not sticky):
            raise NotPrivate(f"another user could replace {place} or its content")


@contextmanager
def making_kernels() -> Iterator[None]:
    """Within the context, Inductor and Triton write to our folder. Only one thread at a time can enter it.

    Outside of it, kernels of other code go to the folder that the user chose."""
    folder, triton = kernel_folder(), find_spec("triton")
    variables = {_INDUCTOR: folder / "inductor", _TRITON: folder / "triton"}
    if triton is not None and triton.origin and _LIBDEVICE not in os.environ:
        # without fused multiply-adds, Inductor would search a CUDA toolkit and warn if there is none
        variables[_LIBDEVICE] = Path(triton.origin).parent / "backends/nvidia/lib/libdevice.10.bc"
    with _LOCK, ExitStack() as stack:
        for variable, path in variables.items():
            stack.enter_context(_environment(variable, str(path)))
        yield


@contextmanager
def one_process() -> Iterator[None]:
    """Let only one process of this machine compile. The others wait, and then find its files."""
    lock = kernel_folder() / f"{platform.node()}.lock"
    waiting = partial(say, "note: another process compiles kernels; waiting for it")
    with alone(lock, PATIENCE, waiting) as reason:
        if reason is not None:
            notice(f"{reason}: this one compiles its own kernels")
        yield


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
