"""Convolutions of which each output reads its own pixel alone, as products of matrices.

With channels last the pixels are the rows of a matrix as they lie in memory. On a CPU a product takes 0.1 to
1.0 of what oneDNN takes for a 1x1 convolution and its gradients, since nothing is laid out anew
(docs/decisions.md has the figures). It gives the same but for the order of its sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from danetc.runtime.layers.layouts import is_dense_last, laid_out, strides_of

MOST = 2**13
"""Pixels of all images up to which it is so with several threads; with one it always is."""


def is_product(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int] | str, groups: int
) -> bool:
    """Whether a convolution of values [..., C, H, W] is better one."""
    channels = weight.shape[1]
    return (
        weight.numel() == weight.shape[0] * channels
        and tuple(stride) == (1, 1)
        and tuple(padding) == (0, 0)
        and groups == 1
        and x.is_cpu
        and 0 < x.numel() <= MOST * channels
        and x.shape[-3] == channels
        and is_dense_last(x)
    )


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[..., O, H, W] with channels last, of such values [..., C, H, W] and a weight [O, C, 1, 1]."""
    matrix = weight.flatten(1).t()
    rows = _rows(x)
    out = torch.mm(rows, matrix) if bias is None else torch.addmm(bias, rows, matrix)
    return _values(out, x.shape)


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """That of [..., C, H, W], of the gradient of the output [..., O, H, W]."""
    return _values(torch.mm(_rows(laid_out(grad, True)), weight.flatten(1)), grad.shape)


def weight_gradient(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """That of a weight [O, C, 1, 1], whose values do not count, in its layout."""
    product = torch.mm(_rows(laid_out(grad, True)).t(), _rows(x))
    return product.as_strided(weight.shape, weight.stride())


def bias_gradient(grad: Tensor) -> Tensor:
    return _rows(laid_out(grad, True)).sum(0)


def _rows(x: Tensor) -> Tensor:
    """The pixels, [N, C]."""
    channels = x.shape[-3]
    return x.as_strided((x.numel() // channels, channels), (channels, 1))


def _values(rows: Tensor, shape: torch.Size) -> Tensor:
    """The other way round, of pixels that lie as those of a ``shape`` with other channels do."""
    size = torch.Size((*shape[:-3], rows.shape[1], *shape[-2:]))
    return rows.as_strided(size, strides_of(size))
