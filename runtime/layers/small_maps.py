"""Convolutions on maps of a few pixels as one matrix product.

On a CPU, oneDNN takes up to 20 times as long for the gradient of a wide layer's weights (docs/decisions.md has the
figures). Results differ by the order of sums alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from danetc.runtime.kernels.torch_internals import has_values
from danetc.runtime.layers import pointwise
from danetc.runtime.layers.layouts import laid_out


class Window(NamedTuple):
    """Kernel, stride, padding and dilation of a convolution without groups, vertically and horizontally."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @staticmethod
    def of(
        weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
    ) -> Window:
        """Return the window of a convolution with a weight [O, C, KH, KW]."""
        return Window(*map(tuple, (weight.shape[2:], stride, padding, dilation)))  # type: ignore[arg-type]

    def outputs(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return height and width of the output for [..., H, W]."""
        down, across = (
            (size + 2 * border - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, border, dilation in zip(shape[-2:], *self, strict=True)
        )
        return down, across


_PLAIN = Window((1, 1), (1, 1), (0, 0), (1, 1))


# -- sizes for which a product is faster -----------------------------------------------------------

GRADIENT_WEIGHTS, GRADIENT_OUTPUTS = 2**17, 256
"""Weights' gradient: least number of weights, and most output pixels of all images."""
FEW, FEW_WEIGHTS, FEW_OUTPUTS = 4, 2**15, 1024
"""The same for maps of at most ``FEW`` pixels."""
INPUT_WEIGHTS, INPUT_OUTPUTS = 2**17, 128
"""Input's gradient, for maps of at most ``FEW`` pixels in float32."""


def is_gradient_faster(grad: Tensor, weight: Tensor, groups: int) -> bool:
    """True if a product is faster for the weights' gradient, given that of an output [N, O, H, W]. (Not for fake
    tensors, which must not be cached.)"""
    are_few = grad.shape[2:].numel() <= FEW
    least, most = (FEW_WEIGHTS, FEW_OUTPUTS) if are_few else (GRADIENT_WEIGHTS, GRADIENT_OUTPUTS)
    is_wide = groups == 1 and weight.numel() >= least
    return is_wide and grad.dtype in (torch.float32, torch.bfloat16) and _is_small(grad, most)


def is_input_gradient_faster(grad: Tensor, weight: Tensor, groups: int) -> bool:
    """True if a product is faster for the input's gradient, given that of an output [N, O, H, W]."""
    is_wide = groups == 1 and weight.numel() >= INPUT_WEIGHTS
    are_few = is_wide and grad.shape[2:].numel() <= FEW
    is_single = grad.dtype == weight.dtype == torch.float32
    return are_few and is_single and _is_small(grad, INPUT_OUTPUTS)


def _is_small(grad: Tensor, most: int) -> bool:
    """True for a real tensor on a CPU with at most so many pixels, and not none."""
    images, _, height, width = grad.shape
    return grad.is_cpu and has_values(grad) and 0 < images * height * width <= most


# -- products --------------------------------------------------------------------------------------


def as_matrix(weight: Tensor) -> Tensor:
    """Reshape a weight [O, C, KH, KW] to [O, KH * KW * C]."""
    return weight.movedim(1, -1).reshape(weight.shape[0], -1)


def weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Return the gradient of a convolution's weights, in their layout.

    Takes the input [N, C, H, W], the gradient of the output [N, O, HO, WO] and the weight [O, C, KH, KW], whose values
    do not matter.
    """
    outputs, channels = weight.shape[:2]
    if window == _PLAIN:  # a 1x1 convolution
        return pointwise.weight_gradient(laid_out(x, last=True), grad, weight)
    if weight.stride(-1) == 1:  # else channels come last
        by_channel = grad.transpose(0, 1).reshape(outputs, -1)
        return (by_channel @ _columns(x, window).t()).view(weight.shape)
    by_pixel = grad.movedim(1, -1).reshape(-1, outputs)
    product = by_pixel.t() @ _rows(x, window)
    return product.view(outputs, *window.kernel, channels).movedim(-1, 1)


def input_gradient(shape: Sequence[int], grad: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Return the gradient of a convolution's input [N, C, H, W], in the layout of the weight [O, C, KH, KW], given that
    of the output [N, O, HO, WO]."""
    images, channels, height, width = shape
    outputs, pixels = weight.shape[0], images * height * width
    table = reads((images, height, width), window)
    last = weight.stride(-1) != 1
    place = _only_place((images, height, width), window)
    if place is not None:
        weight = weight.flatten(2)[..., place].unsqueeze(-1).unsqueeze(-1)
        table = table[place : place + 1]
    by_pixel = grad.movedim(1, -1).reshape(-1, outputs)
    if last or place is not None:
        parts = (by_pixel @ as_matrix(weight)).view(-1, channels)
    else:
        whole = by_pixel @ weight.flatten(1)
        parts = whole.view(len(whole), channels, -1).transpose(1, 2).reshape(-1, channels)
    summed = grad.new_zeros(pixels + 1, channels).index_add_(0, table.t().reshape(-1), parts)
    dx = summed[:-1].view(images, height, width, channels).movedim(-1, 1)
    return dx if last else dx.clone(memory_format=torch.contiguous_format)


@lru_cache(maxsize=256)
def _only_place(shape: tuple[int, int, int], window: Window) -> int | None:
    """Return the place of the kernel that reads pixels if there is only one, as for a padded map of one pixel."""
    found = (reads(shape, window) < shape[0] * shape[1] * shape[2]).any(1).nonzero().flatten()
    return int(found) if len(found) == 1 else None


def _columns(x: Tensor, window: Window) -> Tensor:
    """Return the inputs of each output, [C * KH * KW, N * HO * WO]."""
    images, channels, height, width = x.shape
    places = reads((images, height, width), window)
    if x.element_size() < 4:  # index_select is faster along rows in half precision
        chosen = _bordered_rows(x).index_select(0, places.view(-1)).t()
    else:
        values = x.new_zeros(channels, images * height * width + 1)
        values[:, :-1].view(channels, images, height, width).copy_(x.transpose(0, 1))
        chosen = values.index_select(1, places.view(-1))
    return chosen.reshape(-1, places.shape[1])


def _rows(x: Tensor, window: Window) -> Tensor:
    """Return the inputs of each output, [N * HO * WO, KH * KW * C]."""
    places = reads((x.shape[0], *x.shape[2:]), window)
    return _bordered_rows(x).index_select(0, places.t().reshape(-1)).view(places.shape[1], -1)


def _bordered_rows(x: Tensor) -> Tensor:
    """Return the pixels [N * H * W, C] and a row of zeros."""
    images, channels, height, width = x.shape
    values = x.new_zeros(images * height * width + 1, channels)
    values[:-1].view(images, height, width, channels).copy_(x.movedim(1, -1))
    return values


@lru_cache(maxsize=256)
def reads(shape: tuple[int, int, int], window: Window) -> Tensor:
    """Return the index of the pixel that each place of the kernel reads for each output, [KH * KW, N * HO * WO]; N * H * W
    is the border."""
    images, height, width = shape
    pixels = images * height * width
    with torch.inference_mode(False):  # cached for all calls
        places = torch.arange(pixels, dtype=torch.float64, device="cpu")
        down, across = window.padding
        bordered = F.pad(
            places.view(images, 1, height, width), (across, across, down, down), value=pixels
        )
        read = F.unfold(bordered, window.kernel, dilation=window.dilation, stride=window.stride)
        return read.transpose(0, 1).flatten(1).to(torch.int64).contiguous()
