"""Resources of this process, on every operating system."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

import psutil


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return len(process.cpu_affinity())
    return psutil.cpu_count() or 1


def free_memory() -> int:
    """Bytes that a process could have without others losing theirs."""
    return int(psutil.virtual_memory().available)


def is_amd() -> bool:
    """Return True if the processor is from AMD."""
    if sys.platform != "linux":
        return "AuthenticAMD" in platform.processor()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return "AuthenticAMD" in file.read(200)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of glibc's malloc.h


def keep_freed_memory() -> None:
    """Make glibc keep freed memory, which the next training step needs again.

    Otherwise it returns most of it at the end of a step, and mapping the pages again takes 5 to 8 % of the step. The peak
    is the same. No effect without glibc, or if the environment configures its allocator.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(threshold, 2**31 - 1)
