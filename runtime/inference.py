"""Models for inference alone: compiled regions that keep nothing, and a model that cannot train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Self

import torch
from danetc.runtime.leaf import Leaf
from danetc.runtime.model import Model
from danetc.runtime.neuron import Neuron
from danetc.runtime.region import Term, region_kernel
from torch import Tensor, nn

Norm = nn.BatchNorm2d | nn.BatchNorm1d


class InferenceNeuron(Leaf, Neuron):
    """A neuron with the sum before it as one kernel, without a backward pass.

    Its inputs are the terms of the sum, from the left; ``norms`` has for each of them the norm that
    could not be folded, or None: in the kernel it is a factor and an offset for each channel. The
    norms stand elsewhere in the model and are not registered again here.
    """

    def __init__(self, program: str, steps: int, rank: int, norms: Sequence[Norm | None]) -> None:
        super().__init__(program, steps, rank)
        self._norms = tuple(norms)

    def forward(self, *inputs: Tensor) -> Tensor:
        static = [x.dim() == self.rank + 1 for x in inputs]
        varying = [x for x, same in zip(inputs, static, strict=True) if not same]
        shape = varying[0].shape if varying else (self.steps, *inputs[0].shape)
        terms = tuple(
            Term(norm is not None, same) for norm, same in zip(self._norms, static, strict=True)
        )
        last = self.rank == 3 and all(map(_channels_last, inputs))
        affine = [_affine(norm) for norm in self._norms if norm is not None]
        scales, shifts = (
            [pair[i] if last else pair[i].unsqueeze(1) for pair in affine] for i in (0, 1)
        )
        (out,) = region_kernel(self.program, terms, shape[0]).forward(
            *(self._flat(x, last) for x in inputs), *scales, *shifts, *self.params()
        )
        if last:
            return out.view(*shape[:2], *shape[3:], shape[2]).movedim(-1, 2)
        return out.view(shape)

    def _flat(self, x: Tensor, last: bool) -> Tensor:
        """[T, N, C, L] or [T, N, L, C] of a varying value, one dimension less of a static one."""
        if last:
            return x.movedim(-3, -1).flatten(-3, -2)
        return x.flatten(-2).contiguous() if self.rank == 3 else x.unsqueeze(-1).contiguous()

    def current(self, *inputs: Tensor) -> Tensor:
        """The sum of the terms of one step, each [N, ...]."""
        parts = [
            x if norm is None else norm(x) for x, norm in zip(inputs, self._norms, strict=True)
        ]
        return reduce(add, parts)


def _affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """What a norm does in inference: a factor and an offset for each channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps) * norm.weight
    return scale, norm.bias - norm.running_mean * scale


def _channels_last(x: Tensor) -> bool:
    """Whether the channels of [..., C, H, W] lie side by side in memory, and in no other way."""
    return x.movedim(-3, -1).is_contiguous() and not x.is_contiguous()


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of the norms of a network, by their qualified names.

    ``folded`` ones are part of the layers before them, ``moved`` ones stand before an addition in
    place of behind it, ``kept`` ones stand where they stood.
    """

    folded: tuple[str, ...]
    moved: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.folded)} norms folded, {len(self.moved)} moved before an addition, "
            f"{len(self.kept)} kept"
        )


class InferenceModel(Model):
    """A model that is always in eval mode and gives no gradients. ``norms`` says what was folded.

    Takes and gives what the model it was made from does. Runs under ``torch.no_grad``; under
    ``torch.inference_mode`` where the caller enters it.
    """

    norms: Folded

    def train(self, mode: bool = True) -> Self:
        """Raises RuntimeError for ``mode=True``."""
        if mode:
            raise RuntimeError(
                "a folded model is for inference: its norms are part of its convolutions. "
                "Train the model it was made from, and fold that again"
            )
        return super().train(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            if any(isinstance(x, Tensor) and x.requires_grad for x in args):
                raise RuntimeError(
                    "a folded model gives no gradients: take them of the model it was made from"
                )
            with torch.no_grad():
                return super().__call__(*args, **kwargs)
        return super().__call__(*args, **kwargs)
