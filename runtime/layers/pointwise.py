"""1x1 convolutions as matrix products.

With channels last, the pixels of all images are the rows of one matrix; otherwise each image is a matrix. On a CPU,
products take 0.1 to 1.0 times as long as oneDNN for the sizes that are chosen here, with a few exceptions, unless the
processor is from AMD (docs/decisions.md has the figures). Results differ only by the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from danetc.runtime.layers.layouts import laid_out, layout_of, strides_of
from danetc.runtime.system.machine import is_amd

IS_FAST = not is_amd()
"""False if MKL multiplies matrices more slowly on this processor than oneDNN convolves."""

MOST = 2**13
"""Most pixels of all images with channels last."""
LEAST, LEAST_OF_HALF = 16, 64
"""Least pixels of each image otherwise, in full and in half precision."""


def is_product(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int] | str, groups: int
) -> bool:
    """True if a product is faster for a convolution of images [N, C, H, W]."""
    channels = weight.shape[1]
    if not (
        IS_FAST
        and weight.numel() == weight.shape[0] * channels
        and tuple(stride) == (1, 1)
        and tuple(padding) == (0, 0)
        and groups == 1
        and x.is_cpu
        and x.numel()
        and x.shape[1] == channels
    ):
        return False
    known = layout_of(x)
    if known.is_last:
        return x.numel() <= MOST * channels
    least = LEAST if x.element_size() > 2 else LEAST_OF_HALF
    return known.is_first and x.shape[2:].numel() >= least


def is_gradient_product(x: Tensor, weight: Tensor) -> bool:
    """True if a product is faster for the weights' gradient, which is a sum over the images."""
    outputs, channels = weight.shape[:2]
    are_few = outputs * channels <= x.shape[2:].numel() * (outputs + channels)
    return are_few or layout_of(x).is_last


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution of images [N, C, H, W] by a weight [O, C, 1, 1], in the layout of the images."""
    matrix = weight.flatten(1)
    if layout_of(x).is_last:
        return _images(torch.nn.functional.linear(_rows(x), matrix, bias), x.shape)
    maps, by_image = x.flatten(2), matrix.expand(len(x), -1, -1)
    if bias is None:
        out = torch.bmm(by_image, maps)
    else:
        out = torch.baddbmm(bias.unsqueeze(1), by_image, maps)
    return out.view(len(x), -1, *x.shape[2:])


def input_gradient(grad: Tensor, weight: Tensor, last: bool) -> Tensor:
    """Return the gradient of images [N, C, H, W], with channels ``last`` or not, given that of the output."""
    matrix = weight.flatten(1)
    grad = laid_out(grad, last)
    if last:
        return _images(torch.mm(_rows(grad), matrix), grad.shape)
    found = torch.bmm(matrix.t().expand(len(grad), -1, -1), grad.flatten(2))
    return found.view(len(grad), -1, *grad.shape[2:])


def weight_gradient(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of a weight [O, C, 1, 1], whose values do not matter, in its layout."""
    last = layout_of(x).is_last
    grad = laid_out(grad, last)
    if last:
        found = torch.mm(_rows(grad).t(), _rows(x))
    else:
        found = torch.bmm(grad.flatten(2), x.flatten(2).transpose(1, 2)).sum(0)
    return found.as_strided(weight.shape, weight.stride())


def _rows(x: Tensor) -> Tensor:
    """The pixels, [N * H * W, C]."""
    channels = x.shape[1]
    return x.as_strided((x.numel() // channels, channels), (channels, 1))


def _images(rows: Tensor, shape: torch.Size) -> Tensor:
    """The inverse, with the pixels of ``shape``."""
    size = torch.Size((shape[0], rows.shape[1], *shape[2:]))
    return rows.as_strided(size, strides_of(size))
