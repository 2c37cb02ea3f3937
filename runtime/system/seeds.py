"""Random numbers as pure functions of what they are for.

Nothing here goes on from one draw to the next, so a run that begins in the middle draws what a whole
one would have drawn there, and any process can do any part of the work.
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
    """A seed of 63 bits for a purpose and its numbers: the same in every process and version.

    (torch's CPU generator takes the lower 32 bits of it.)
    """
    key = ":".join((purpose, *map(str, numbers)))
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Of the augmentation of sample ``index`` in ``epoch``."""
    return derive("sample", seed, epoch, index)


def mix_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Of the mixing of images (mixup, cutmix) in a process's batch ``step`` of ``epoch``."""
    return derive("mix", seed, epoch, step, rank)


def epoch_order(length: int, seed: int, epoch: int) -> Tensor:
    """The order [length], int64, in which an epoch sees the samples."""
    generator = torch.Generator().manual_seed(derive("order", seed, epoch))
    return torch.randperm(length, generator=generator)


@contextmanager
def kept_random_state() -> Iterator[torch.Generator]:
    """torch's CPU generator, to be seeded at will: afterwards it is as it was.

    ``torch.manual_seed`` would also seed every accelerator, which takes longer than most
    augmentations and would disturb a dropout there.
    """
    generator = torch.default_generator
    before = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(before)


@contextmanager
def drawn_anew() -> Iterator[Callable[[int, int, int], None]]:
    """What seeds torch's CPU generator, numpy's and that of ``random`` for a sample (its seed, epoch
    and index), for code of others that draws from any of them. Afterwards all are as they were.
    """
    others = random.getstate(), np.random.get_state()
    with kept_random_state() as generator:

        def seed(number: int, epoch: int, index: int) -> None:
            found = sample_seed(number, epoch, index)
            generator.manual_seed(found)
            random.seed(found)
            np.random.seed(found % 2**32)

        try:
            yield seed
        finally:
            random.setstate(others[0])
            np.random.set_state(others[1])
