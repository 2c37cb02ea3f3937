"""What this process may use of the machine, and how it ends. The same on every system."""

from __future__ import annotations

import signal

import psutil


def usable_cores() -> int:
    """The cores that this process may use: fewer than there are where it is bound to some."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return len(process.cpu_affinity())
    return psutil.cpu_count() or 1


def free_memory() -> int:
    """Bytes that a process could have without others losing theirs."""
    return int(psutil.virtual_memory().available)


def end_by(signum: int) -> None:
    """Have this process get a signal, as from outside; its handlers run in the main thread.

    (``os.kill`` knows no signals on Windows: it ends a process at once.)
    """
    signal.raise_signal(signum)
