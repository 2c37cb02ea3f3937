"""Folded models, for inference alone, and their convolutions, also of spikes and counts in 8-bit integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.torch_internals import InternalUse
from danetc.runtime.layers import sparse
from danetc.runtime.layers.laid_out import form, is_laid_out
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.layers.small_maps import Window
from danetc.runtime.model.built import Model
from danetc.runtime.model.stepping import States

DIGITS = (65536, 256, 1)
"""Weights of the three digits of a weight: -128 to 127 each, -127 to 127 for the first."""
LARGEST = 127 * sum(DIGITS)
SMALLEST = 1e-28
"""Least value taken for the largest weight of a channel; float32 represents a ten-millionth of it."""
LEAST_CHANNELS, LEAST_PRODUCTS = 64, 30_000_000
"""Least input channels of a group, and least products of a call, for which integers are faster."""


class InferenceConv2d(Leaf, nn.Conv2d):
    """A convolution whose weight is laid out once, as the CPU's convolutions read it.

    With many channels and few pixels, laying it out takes longer than the convolution. For few spikes it reads only the
    weights that they need (``sparse``). The output has channels last in memory. Outside float32 on a CPU, and traced, it
    is a plain convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.padding, str) or not _has_packing(x, self):
            return super().forward(x)
        if not internals.has_values(x):
            return super().forward(x.contiguous(memory_format=torch.channels_last))
        by_spike = sparse.convolved(self, x)
        return self.convolve(x) if by_spike is None else by_spike

    def convolve(self, x: Tensor) -> Tensor:
        """As ``forward``, of real tensors with all weights."""
        lay_out = internals.find("ops.mkldnn._reorder_convolution_weight").default
        run = internals.find("ops.mkldnn._convolution_pointwise").default
        options = self.stride, self.dilation, self.groups
        packed = form(self, "convolution", lambda weight: lay_out(weight, self.padding, *options))
        out: Tensor = run(x, packed, self.bias, self.padding, *options, "none", [], "")
        return out


def _has_packing(x: Tensor, layer: nn.Conv2d) -> bool:
    """True if the weight is laid out for ``x``, a fake tensor as if it were real."""
    known = internals.is_known(x) and is_laid_out(x, layer)
    can = known and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return can and internals.has(InternalUse.PACKED_WEIGHTS)


_Digits = tuple[Tensor, Tensor, Tensor]
"""One digit of each weight, laid out, its unit in each output channel, and zeros."""


class SpikeConv2d(InferenceConv2d):
    """A convolution of integers from 0 to ``high``, times ``unit``.

    If the processor multiplies matrices of 8-bit integers (AMX), weights are rounded to 24 bits of the largest of
    their output channel, the precision of float32, and their three bytes are convolved separately. Sums of integers
    are exact, so that outputs are as accurate as in float32 and do not depend on the batch. Otherwise, and for small
    layers, it is its parent.
    """

    def __init__(self, *args: Any, high: int, unit: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.high, self.unit = high, unit

    def convolve(self, x: Tensor) -> Tensor:
        if not multiplies_integers():
            return super().convolve(x)
        window = Window.of(self.weight, self.stride, self.padding, self.dilation)  # type: ignore[arg-type]
        height, width = window.outputs(x.shape)
        pixels = height * width
        if pixels <= 1 or len(x) * pixels * self.weight.numel() < LEAST_PRODUCTS:
            return super().convolve(x)
        numbers = sparse.as_bytes(x, self.unit)
        if numbers is None:  # a hook has changed them
            return super().convolve(x)
        first, *others = form(self, "digits", partial(self._digits, x.shape))
        out = self._convolved(numbers, first, self.bias)
        for digits in others:
            out += self._convolved(numbers, digits, None)
        return out

    def _convolved(self, numbers: Tensor, digits: _Digits, bias: Tensor | None) -> Tensor:
        out: Tensor = internals.find("ops.onednn.qconv2d_pointwise").default(
            numbers, 1.0, 0, *digits, bias, self.stride,
            self.padding, self.dilation, self.groups, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return out

    def _digits(self, shape: Sequence[int], weights: Tensor) -> tuple[_Digits, ...]:
        weight = weights.double()
        largest = weight.abs().amax((1, 2, 3)).clamp(min=SMALLEST)
        unit = (largest / LARGEST * self.unit).float()
        rest = (weight * self.unit / unit.double().view(-1, 1, 1, 1)).round()
        rest = rest.clamp(-LARGEST, LARGEST)
        zeros, found = torch.zeros(len(unit), dtype=torch.int32), []
        for count in reversed(DIGITS):
            digit = (rest + 128).remainder(256) - 128 if count < DIGITS[0] else rest
            rest = (rest - digit) / 256
            scale = unit * count
            laid_out = internals.find("ops.onednn.qconv_prepack").default(
                digit.to(torch.int8), scale, 1.0, 0, self.stride, self.padding, self.dilation,
                self.groups, [*shape],
            )  # fmt: skip
            found.append((laid_out, scale, zeros))
        return tuple(reversed(found))


def suits(kind: Kind, channels: int, pixels: int) -> bool:
    """True if numbers fit in bytes, their sums in 32-bit integers, and integers are faster for a kernel of so many
    channels and pixels."""
    are_bytes = kind.is_integer and kind.low >= 0 and kind.high < 256
    are_enough = channels >= LEAST_CHANNELS and pixels > 1
    return are_bytes and are_enough and channels * pixels * kind.high * 128 < 2**31


@lru_cache(maxsize=1)
def multiplies_integers() -> bool:
    """True if this processor multiplies matrices of 8-bit integers, and torch supports that."""
    has_check = internals.has(InternalUse.INTEGERS)
    return has_check and bool(internals.find("cpu._is_amx_tile_supported")())


# -- models ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Folded:
    """Qualified names of the norms that were folded into the layers before them, moved before an addition, or kept."""

    folded: tuple[str, ...]
    moved: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.folded)} norms folded, {len(self.moved)} moved before an addition, "
            f"{len(self.kept)} kept"
        )


@dataclass(frozen=True, slots=True)
class FoldedFactors:
    """Qualified names of the learnt factors of channels that were folded into their readers, and the reasons for those
    that were kept."""

    folded: tuple[str, ...]
    kept: Mapping[str, str]

    def __str__(self) -> str:
        reasons = "".join(f"\n{name} stays: {why}" for name, why in self.kept.items())
        return f"{len(self.folded)} learnt factors folded, {len(self.kept)} kept{reasons}"


class InferenceModel(Model):
    """A model that is always in eval mode and has no gradients; ``norms`` and ``factors`` list what was folded.

    Inputs and outputs are those of the model that it was made from. Runs under ``torch.no_grad``.
    """

    norms: Folded
    factors: FoldedFactors

    def train(self, mode: bool = True) -> Self:
        """Raises RuntimeError for ``mode=True``."""
        if mode:
            raise RuntimeError(
                "a folded model is for inference: its norms are part of its convolutions. "
                "Train the model from which it was made, and fold that model again"
            )
        return super().train(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _no_gradients(args):
            return super().__call__(*args, **kwargs)

    def stream(
        self, x: Tensor | Sequence[Tensor], states: States | None = None
    ) -> tuple[Any, States]:
        with _no_gradients(x if isinstance(x, tuple | list) else (x,)):
            return super().stream(x, states)


def _no_gradients(inputs: Sequence[Any]) -> torch.no_grad:
    """Return ``torch.no_grad()``. Raises RuntimeError if gradients are required."""
    wanted = any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
    if wanted and torch.is_grad_enabled():
        raise RuntimeError(
            "a folded model has no gradients: compute them with the model from which it was made"
        )
    return torch.no_grad()
