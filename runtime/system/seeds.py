"""Random numbers that depend only on a seed and on their purpose.

No draw depends on earlier ones, so that a resumed run draws the same numbers, and any process can do any part of the
work.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def derive(purpose: str, *numbers: int) -> int:
    """Return a seed of 63 bits for a purpose and its numbers, the same in every process and version."""
    key = ":".join((purpose, *map(str, numbers)))
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1


def epoch_order(length: int, seed: int, epoch: int) -> Tensor:
    """Return the order [length], int64, of the samples in an epoch."""
    generator = torch.Generator().manual_seed(derive("order", seed, epoch))
    return torch.randperm(length, generator=generator)


@contextmanager
def kept_random_state() -> Iterator[torch.Generator]:
    """Yield torch's CPU generator and restore its state afterwards.

    (``torch.manual_seed`` would also seed every accelerator, which is slow and would disturb a dropout there.)
    """
    generator = torch.default_generator
    before = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(before)


@contextmanager
def drawn_anew() -> Iterator[Callable[..., None]]:
    """Yield a function that seeds torch's CPU generator, numpy and ``random`` for a sample, for user code that draws from
    any of them. Outside of epochs, only its index is given. Restores their states afterwards."""
    others = random.getstate(), np.random.get_state()
    with kept_random_state() as generator:

        def seed(index: int, epoch: int = 0, number: int = 0) -> None:
            found = derive("sample", number, epoch, index)
            generator.manual_seed(found)
            random.seed(found)
            np.random.seed(found % 2**32)

        try:
            yield seed
        finally:
            random.setstate(others[0])
            np.random.set_state(others[1])
