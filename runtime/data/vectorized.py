"""Vectorized steps of an augmentation: for a batch of equal images at once, with the draws of each.

A sample's draws are made one by one from its own seed, in the order in which torchvision's transforms
make them; what they say is then done to all images in one operation. The bits are those of the
transforms called on one image after the other, at a third of the time for small images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from danetc.runtime.system.seeds import kept_random_state

Size = tuple[int, int]


class VectorizedStep(Protocol):
    """A step. ``draw`` is for one image of a size; ``apply`` takes images [N, ..., H, W] and what
    was drawn for each, [N, ...], int64.
    """

    def draw(self, size: Size) -> Sequence[int]: ...

    def after(self, size: Size) -> Size:
        """The size of an image after this step. Raises ValueError where it cannot be applied."""

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DeterministicStep:
    """A step that draws nothing and does the same to every image: moves values (to an image of
    ``size``, if that is another), or changes each by itself.
    """

    step: nn.Module
    size: int | None = None

    def draw(self, size: Size) -> Sequence[int]:
        return ()

    def after(self, size: Size) -> Size:
        return size if self.size is None else (self.size, self.size)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        result: Tensor = self.step(images)
        return result


@dataclass(frozen=True)
class VectorizedCrop:
    """``v2.RandomCrop``: a window at a random place of the image and ``padding`` zeros around it."""

    size: int
    padding: int

    def _places(self, extent: int) -> int:
        return extent + 2 * self.padding - self.size + 1

    def draw(self, size: Size) -> Sequence[int]:
        counts = [self._places(extent) for extent in size]
        return [int(torch.randint(0, count, size=())) if count > 1 else 0 for count in counts]

    def after(self, size: Size) -> Size:
        if min(map(self._places, size)) < 1:
            raise ValueError(f"a window of {self.size} does not fit in the image")
        return self.size, self.size

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        padded = F.pad(images.flatten(1, -3), [self.padding] * 4)
        windows = padded.unfold(-2, self.size, 1).unfold(-2, self.size, 1)  # [N, C, H', W', h, w]
        chosen = windows[torch.arange(len(images)), :, drawn[:, 0], drawn[:, 1]]
        return chosen.reshape(*images.shape[:-2], self.size, self.size)


@dataclass(frozen=True)
class VectorizedFlip:
    """``v2.RandomHorizontalFlip``."""

    p: float

    def draw(self, size: Size) -> Sequence[int]:
        return (int(not torch.rand(1) >= self.p),)

    def after(self, size: Size) -> Size:
        return size

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        chosen = drawn[:, 0].bool().view(-1, *[1] * (images.dim() - 1))
        return torch.where(chosen, images.flip(-1), images)


def apply_vectorized(
    steps: Sequence[VectorizedStep], images: Tensor, seeds: Sequence[int]
) -> Tensor:
    """Images [N, ..., H, W] through all steps, each with the draws of its seed.

    Without seeds nothing is drawn: the steps must be such.
    """
    drawn: list[list[Sequence[int]]] = [[] for _ in steps]
    sizes: list[Size] = [(images.shape[-2], images.shape[-1])]
    for step in steps:
        sizes.append(step.after(sizes[-1]))
    with kept_random_state() as generator:
        for seed in seeds:
            generator.manual_seed(seed)
            for number, step in enumerate(steps):
                drawn[number].append(step.draw(sizes[number]))
    for step, rows in zip(steps, drawn, strict=True):
        images = step.apply(images, torch.tensor(rows, dtype=torch.int64))
    return images
