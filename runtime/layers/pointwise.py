"""Convolutions of which each output reads its own pixel alone, as products of matrices.

With channels last the pixels of all images are the rows of one matrix as they lie in memory; with channels
before the pixels each image is a matrix. On a CPU a product takes 0.1 to 1.0 of what oneDNN takes for a 1x1
convolution and its gradients, where the rules here choose it and but for a few sizes (docs/decisions.md has the
figures). It gives the same but for the order of its sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from danetc.runtime.layers.layouts import is_dense_last, laid_out, layout_of, strides_of

MOST = 2**13
"""With channels last: up to how many pixels of all images, for several threads; for one it always is faster."""
LEAST, LEAST_OF_HALF = 16, 64
"""Else from how many pixels of each, in full and in half precision."""


def is_product(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int] | str, groups: int
) -> bool:
    """Whether a convolution of images [N, C, H, W] is better one."""
    channels = weight.shape[1]
    if not (
        weight.numel() == weight.shape[0] * channels
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
    """Whether the weights' gradient is too: of each image there is one, which are summed then."""
    outputs, channels = weight.shape[:2]
    are_few = outputs * channels <= x.shape[2:].numel() * (outputs + channels)
    return are_few or is_dense_last(x)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[N, O, H, W], laid out as such images [N, C, H, W], by a weight [O, C, 1, 1]."""
    matrix = weight.flatten(1)
    if is_dense_last(x):
        rows = _rows(x)
        by_pixel = matrix.t()
        out = torch.mm(rows, by_pixel) if bias is None else torch.addmm(bias, rows, by_pixel)
        return _images(out, x.shape)
    maps, by_image = x.flatten(2), matrix.expand(len(x), -1, -1)
    if bias is None:
        out = torch.bmm(by_image, maps)
    else:
        out = torch.baddbmm(bias.unsqueeze(1), by_image, maps)
    return out.view(len(x), -1, *x.shape[2:])


def input_gradient(grad: Tensor, weight: Tensor, last: bool) -> Tensor:
    """That of images [N, C, H, W], with channels ``last`` or not, of the gradient of the output."""
    matrix = weight.flatten(1)
    grad = laid_out(grad, last)
    if last:
        return _images(torch.mm(_rows(grad), matrix), grad.shape)
    found = torch.bmm(matrix.t().expand(len(grad), -1, -1), grad.flatten(2))
    return found.view(len(grad), -1, *grad.shape[2:])


def weight_gradient(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """That of a weight [O, C, 1, 1], whose values do not count, in its layout."""
    last = is_dense_last(x)
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
    """The other way round, with the pixels of a ``shape`` of other channels."""
    size = torch.Size((shape[0], rows.shape[1], *shape[2:]))
    return rows.as_strided(size, strides_of(size))
