"""Folders that one process at a time works in.

The lock is the operating system's (``filelock``): it goes with the process that has it, however that
ends, and what it has forked does not keep it. Which process has it stands in a file beside, since
Windows lets nobody read a file that is locked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from danetc.runtime.system.files import naming

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
            owner.write_text(f"process {os.getpid()}\n", encoding="utf-8")
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


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
