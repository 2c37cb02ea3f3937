"""Folders that one process at a time works in.

The lock is the operating system's (``filelock``): it goes with the process that has it, however that
ends, and what it has forked does not keep it. Which process has it stands in a file beside, since
Windows lets nobody read a file that is locked.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from danetc.runtime.system.files import naming, write_flushed
from danetc.runtime.system.torchrun import under_torchrun

OWNER = ".owner"
"""Behind the name of a lock, the file that says which process has it."""


class LockHeld(Exception):
    """Another process has the lock. Says which."""


@contextmanager
def locked(lock: Path) -> Iterator[Callable[[], None]]:
    """Hold a lock; what is given releases it early. Raises LockHeld where another process has it."""
    held = FileLock(lock)
    owner = lock.with_name(lock.name + OWNER)
    try:
        with naming(lock):
            held.acquire(timeout=0)
    except Timeout:
        raise LockHeld(_text(owner) or "unknown") from None

    def release() -> None:
        if held.is_locked:
            owner.unlink(missing_ok=True)
            held.release()

    try:
        with naming(owner):
            owner.unlink(missing_ok=True)  # it may be a link
            write_flushed(owner, f"process {os.getpid()}\n".encode())
        yield release
    finally:
        release()


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait for a lock, and hold it. In a folder that can only be read there is none, and no need."""
    held = FileLock(lock)
    try:
        with naming(lock):
            held.acquire()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        yield
        return
    try:
        yield
    finally:
        held.release()


@contextmanager
def in_turn(what: str) -> Iterator[None]:
    """Of the processes that torchrun has started on a machine, one at a time does ``what``."""
    if not under_torchrun():
        yield
        return
    name = hashlib.sha256(f"{Path.home()}\0{Path.cwd()}\0{what}".encode()).hexdigest()[:16]
    with alone(Path(tempfile.gettempdir()) / f"danetc-{name}.lock"):
        yield


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
