"""Convolutions that read only the weights of inputs that are not 0.

For one step of one image, a wide layer mostly waits for its weights, 9 MB for 512 channels; a hundred spikes need a
tenth of them (docs/decisions.md has the figures). Results differ by the order of sums alone, which does not depend on
the batch.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

import torch
from torch import Tensor, nn

from danetc.runtime.kernels import compiled
from danetc.runtime.kernels.native import library, source
from danetc.runtime.kernels.torch_internals import is_known
from danetc.runtime.layers.laid_out import form
from danetc.runtime.layers.small_maps import Window, as_matrix, reads

CHANNELS = 16
"""Least channels of the input."""
POSITIONS = 1024
"""Most output pixels of all images."""
VALUES = 2**17
"""Most values of the input."""
PER_READING, ONCE = 0.18, 0.8
"""Shares of the additions of a product, and of the weights, up to which this is faster. They give the
maximum number of rows of weights that a thread adds."""


def convolved(layer: nn.Conv2d, x: Tensor) -> Tensor | None:
    """Return a layer's output for images [N, C, H, W], with channels last in memory; None if torch is as fast. The
    layer's weight may be laid out for ``x`` (``is_laid_out``)."""
    weight, bias = layer.weight, layer.bias
    if bias is not None and not (
        is_known(bias) and bias.dtype is torch.float32 and bias.is_contiguous()
    ):
        return None
    if (
        x.dim() != 4
        or not CHANNELS <= x.shape[1] == weight.shape[1]
        or x.numel() > VALUES
        or not compiled.COMPILE
        or isinstance(layer.padding, str)
        or layer.padding_mode != "zeros"
    ):
        return None
    images, channels, height, width = x.shape
    window = Window.of(weight, layer.stride, layer.padding, layer.dilation)
    table, size, readings, places_read = _plan((images, height, width), window)
    places, positions = table.shape
    native = _native()
    if native is None or not 0 < positions <= POSITIONS:
        return None
    outputs, pixels = weight.shape[0], images * height * width
    x = x.contiguous(memory_format=torch.channels_last)
    # The contributions of an input to all outputs are a row, [KH * KW * C, O].
    rows: Tensor = form(layer, "rows", lambda weight: as_matrix(weight).t().contiguous())
    out = x.new_empty(images, *size, outputs)
    found = torch.empty(pixels * (channels + 1) + 3, dtype=torch.int32, device=x.device)
    begins = found.data_ptr() + (pixels * channels + 1) * found.itemsize
    most = (readings * PER_READING + places_read * ONCE) * channels / torch.get_num_threads()
    is_done = native.convolve(
        x.data_ptr(), rows.data_ptr(), None if bias is None else bias.data_ptr(),
        table.data_ptr(), out.data_ptr(), found.data_ptr(), begins, pixels, channels, outputs,
        places, positions, int(most),
    )  # fmt: skip
    return out.movedim(-1, 1) if is_done else None


@lru_cache(maxsize=256)
def _plan(shape: tuple[int, int, int], window: Window) -> tuple[Tensor, tuple[int, int], int, int]:
    """Return the pixels that each place of the kernel reads for each output (``reads``), the size of the output, the number
    of such readings, and of places with any."""
    size = window.outputs(shape[1:])
    if min(*shape, *size) <= 0:
        return torch.empty(0, 0), size, 0, 0
    table = reads(shape, window)
    is_pixel = table < shape[0] * shape[1] * shape[2]
    return table, size, int(is_pixel.sum()), int(is_pixel.any(1).sum())


def as_bytes(x: Tensor, unit: float) -> Tensor | None:
    """Return ``x / unit`` as bytes, with channels last in memory; None if it is not whole numbers from 0 to 255."""
    x, native = x.contiguous(memory_format=torch.channels_last), _native()
    found = torch.empty_like(x, dtype=torch.uint8)
    places = x.data_ptr(), found.data_ptr()
    return found if native and native.as_bytes(*places, x.numel(), unit) else None


@lru_cache(maxsize=1)
def _native() -> ctypes.CDLL | None:
    native = library("the convolution of spikes", source("sparse.cpp"))
    if native is not None:
        native.convolve.argtypes = [ctypes.c_void_p] * 7 + [ctypes.c_int64] * 6
        native.as_bytes.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int64, ctypes.c_float]
    return native
