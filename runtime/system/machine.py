"""What this process may use of the machine, and how it ends. The same on every system."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

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


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees: a training step asks for all of it again.

    As it stands glibc gives the most of it back at the end of a step, and the system makes each page
    anew, which takes 5 to 8 % of the step. The peak is the same. Elsewhere, and where the environment says what
    glibc's allocator is to do, nothing changes.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(threshold, 2**31 - 1)


def end_by(signum: int) -> None:
    """Have this process get a signal, as from outside; its handlers run in the main thread.

    (``os.kill`` knows no signals on Windows: it ends a process at once.)
    """
    signal.raise_signal(signum)
