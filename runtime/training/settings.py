"""How a phase is run, apart from what its recipe says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a phase is run, apart from what the phase says.

    ``trial`` of ``trials`` and ``phase`` of ``phases`` count from 0. A checkpoint is due after
    ``checkpoint_steps`` steps (0: never) or ``checkpoint_minutes`` minutes, whichever comes first,
    and at the end of every epoch; every ``keep_every`` epochs one is kept for good (0: none).
    ``train_output`` names the output that the loss is of, where there are several. ``backend`` and
    ``channels_last`` are how the model was built, for the record of its tests.
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


PRECISIONS = {"float32": None, "mixed": torch.float16, "bf16": torch.bfloat16}
"""The type of numbers that each ``precision`` of a recipe computes with, beside float32."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """What a forward pass of this precision runs under."""
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextmanager
def determinism(device: torch.device, wanted: bool) -> Iterator[None]:
    """On a GPU, kernels that give the same bits each time where there are such, or the fastest."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    benchmark, chosen = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = not wanted, wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=True)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, chosen
