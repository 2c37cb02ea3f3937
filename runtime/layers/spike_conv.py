"""Convolutions of spikes and counts in 8-bit integers, for inference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.torch_internals import InternalUse
from danetc.runtime.layers.inference import InferenceConv2d
from danetc.runtime.layers.laid_out import form
from danetc.runtime.layers.small_maps import Window

DIGITS = (65536, 256, 1)
"""Weights of the three digits of a weight: -128 to 127 each, -127 to 127 for the first."""
LARGEST = 127 * sum(DIGITS)
SMALLEST = 1e-28
"""Least value taken for the largest weight of a channel; float32 represents a ten-millionth of it."""
LEAST_CHANNELS, LEAST_PRODUCTS = 64, 30_000_000
"""Least input channels of a group, and least products of a call, for which integers are faster."""


class _Digits(NamedTuple):
    """One digit of each weight, laid out, its unit in each output channel, and zeros."""

    weight: Tensor
    unit: Tensor
    zeros: Tensor


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
        if not (multiplies_integers() and self._pays(x)):
            return super().convolve(x)
        whole = x if self.unit == 1.0 else (x / self.unit).round_()
        numbers = whole.to(torch.uint8, memory_format=torch.channels_last)
        if not torch.allclose(numbers.float(), x / self.unit, atol=1e-5):  # a hook has changed it
            return super().convolve(x)
        first, *others = form(self, "digits", partial(self._digits, x.shape))
        out = self._convolved(numbers, first, self.bias)
        for digits in others:
            out += self._convolved(numbers, digits, None)
        return out

    def _pays(self, x: Tensor) -> bool:
        """True if integers are faster."""
        window = Window.of(self.weight, self.stride, self.padding, self.dilation)  # type: ignore[arg-type]
        height, width = window.outputs(x.shape)
        pixels = height * width
        return pixels > 1 and x.shape[0] * pixels * self.weight.numel() >= LEAST_PRODUCTS

    def _convolved(self, numbers: Tensor, digits: _Digits, bias: Tensor | None) -> Tensor:
        out: Tensor = internals.find("ops.onednn.qconv2d_pointwise").default(
            numbers, 1.0, 0, digits.weight, digits.unit, digits.zeros, bias, self.stride,
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
            found.append(_Digits(laid_out, scale, zeros))
        return tuple(reversed(found))


def suits(kind: Kind, channels: int, pixels: int) -> bool:
    """True if numbers fit in bytes, their sums in 32-bit integers, and integers are faster for a kernel of so many
    channels and pixels."""
    are_bytes = kind.is_integer and kind.low >= 0 and kind.high < 256
    return (
        are_bytes
        and channels * pixels * kind.high * 128 < 2**31
        and channels >= LEAST_CHANNELS
        and pixels > 1
    )


@lru_cache(maxsize=1)
def multiplies_integers() -> bool:
    """True if this processor multiplies matrices of 8-bit integers, and torch supports that."""
    if not internals.has(InternalUse.INTEGERS):
        return False
    return bool(internals.find("cpu._is_amx_tile_supported")())
