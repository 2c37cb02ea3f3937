"""Settings of a run that are not part of the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Settings of a phase that are not part of the recipe.

    ``trial`` of ``trials`` and ``phase`` of ``phases`` count from 0. A checkpoint is due after
    ``checkpoint_steps`` steps (0: never) or ``checkpoint_minutes`` minutes, whichever comes first,
    and after every epoch; one is kept permanently every ``keep_every`` epochs (0: none).
    ``train_output`` names the trained output if there are several. ``backend`` and
    ``channels_last`` describe the built model, for the record of its evaluations. With ``cuda_graphs``,
    steps are recorded as CUDA graphs. If the model is ``watched`` by a callback, a step is reported before
    the next one begins.
    """

    seed: int = 0
    phase: int = 0
    phases: int = 1
    trial: int = 0
    trials: int = 1
    workers: int = 0
    sync_norm: bool = False
    train_output: str | None = None
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 5.0
    keep_every: int = 0
    deterministic: bool = True
    backend: str = "eager"
    channels_last: bool = False
    cuda_graphs: bool = False
    watched: bool = False


PRECISIONS = {"float32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Autocast type of each ``precision`` of a recipe."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context of a forward pass in this precision."""
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextmanager
def determinism(device: torch.device, wanted: bool) -> Iterator[None]:
    """On a GPU, select deterministic kernels if ``wanted``, else the fastest.

    New memory is not filled with NaN, which torch does in deterministic mode by default: that finds
    errors, but takes as long as a kernel.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    cudnn.benchmark, cudnn.deterministic = not wanted, wanted
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory = flags
