"""Environment variables of torchrun. Never imports torch."""

from __future__ import annotations

import os


def under_torchrun() -> bool:
    """True if torchrun, or a similar launcher, has started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """True for rank 0, the process that prints, and for a single process."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """Return the rank of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def processes_here() -> int:
    """Return the number of processes that torchrun has started on this machine."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
