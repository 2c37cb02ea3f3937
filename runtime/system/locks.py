"""Locks on folders, for one process at a time.

The operating system releases a lock (``filelock``) when its process ends; forked processes do not hold it. A separate
file names the owner, since Windows does not allow reading a locked file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from danetc.runtime.system.files import naming, write_flushed
from danetc.runtime.system.torchrun import under_torchrun

OWNER = ".owner"
"""Suffix of the file that names the owner of a lock."""


class LockHeld(Exception):
    """Another process, which the message names, has the lock."""


@contextmanager
def locked(lock: Path) -> Iterator[Callable[[], None]]:
    """Hold a lock; yields a function that releases it early. Raises LockHeld if another process has it."""
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
            owner.unlink(missing_ok=True)  # possibly a link
            write_flushed(owner, f"process {os.getpid()}\n".encode())
        yield release
    finally:
        release()


@contextmanager
def alone(
    lock: Path, patience: float = -1, waiting: Callable[[], object] = lambda: None
) -> Iterator[str | None]:
    """Hold a lock, or yield the reason why this process goes on without it.

    ``waiting`` is called if another process has the lock, which is then waited for up to ``patience``
    seconds (-1: without limit). A folder that is read-only or full, or a file system may have no locks.
    """
    held, reason = FileLock(lock), None
    with ExitStack() as stack:
        try:
            try:
                stack.enter_context(held.acquire(timeout=0))
            except Timeout:
                waiting()
                stack.enter_context(held.acquire(timeout=patience))
        except Timeout:
            reason = f"another process has held {lock} for {patience / 60:.0f} minutes"
        except (OSError, NotImplementedError) as error:
            reason = f"{lock} cannot be locked ({error})"
        yield reason


@contextmanager
def in_turn(what: str) -> Iterator[None]:
    """Let the processes of torchrun on a machine do ``what`` one at a time."""
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
