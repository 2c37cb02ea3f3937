"""Locks on folders, for one process at a time.

The operating system releases a lock (``filelock``) when its process ends; forked processes do not hold it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from danetc.dsl.errors import UserError
from danetc.runtime.system.files import naming
from danetc.runtime.system.torchrun import under_torchrun

LOCK = ".lock"
"""Name of the file that a process holds in the directory where it trains."""


@contextmanager
def locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Lock a directory until the end, or until the yielded function is called.

    Raises UserError if another process trains there.
    """
    held = FileLock(folder / LOCK)
    try:
        with naming(folder / LOCK):
            held.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process is training in {folder}") from None
    try:
        yield held.release
    finally:
        held.release()


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
