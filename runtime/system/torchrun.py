"""What torchrun says of this process, in its environment. Never imports torch."""

from __future__ import annotations

import os


def under_torchrun() -> bool:
    """Whether torchrun (or who sets the same environment) has started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this is rank 0, the one of all processes that prints; so is one that is alone."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """The number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def processes_here() -> int:
    """How many processes torchrun has started on this machine."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
