"""Convolutions on maps of a few pixels as products: held to torch's in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.runtime.layers import pointwise, small_maps
from danetc.runtime.layers.packed import PackedConv2d
from danetc.runtime.layers.small_maps import Window

OPTIONS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 2, "padding": 1, "dilation": 2},
    {"kernel_size": (3, 1), "stride": (1, 2), "padding": (2, 0), "dilation": (2, 1)},
)
SHAPES = ((2, 4, 4), (5, 4, 6), (1, 5, 3))
PIXELS = ((2, 1, 1), (1, 2, 2), (3, 1, 2))
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of few weights, and in place of products of pixels."""
    monkeypatch.setattr(pointwise, "is_product", lambda *_: False)
    for name in ("GRADIENT_WEIGHTS", "FEW_WEIGHTS", "INPUT_WEIGHTS"):
        monkeypatch.setattr(small_maps, name, 1)


def spikes(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)).double()


def window_of(layer: nn.Conv2d) -> Window:
    assert not isinstance(layer.padding, str)
    return Window.of(layer.weight, layer.stride, layer.padding, layer.dilation)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES + PIXELS)
@pytest.mark.parametrize("options", OPTIONS)
def test_products_are_the_convolution_and_its_gradient(
    options: dict[str, Any], shape: tuple[int, int, int], layout: torch.memory_format
) -> None:
    images, height, width = shape
    layer = nn.Conv2d(3, 4, **options).double().to(memory_format=layout)
    x = torch.randn(images, 3, height, width, dtype=torch.float64).to(memory_format=layout)
    wanted = layer(x.requires_grad_())
    grad = torch.randn_like(wanted)
    wanted_gradient, wanted_dx = torch.autograd.grad(wanted, [layer.weight, x], grad)
    window = window_of(layer)
    assert window.outputs(x.shape) == wanted.shape[-2:]
    gradient = small_maps.weight_gradient(x, grad, layer.weight, window)
    torch.testing.assert_close(gradient, wanted_gradient)
    assert gradient.stride() == wanted_gradient.stride()
    dx = small_maps.input_gradient(x.shape, grad, layer.weight, window)
    torch.testing.assert_close(dx, wanted_dx)
    assert dx.is_contiguous(memory_format=layout)


INPUT, WEIGHT = 1, 3
"""Places of their gradients behind the output."""


@pytest.mark.parametrize("size", [(4, 4), (2, 2), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_training_step_takes_it(
    options: dict[str, Any],
    layout: torch.memory_format,
    dtype: torch.dtype,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights' gradient is another one, in its last bits, and in float32 the input's, of maps of up to
    four pixels: not the output."""
    layer = PackedConv2d(16, 24, low=0, high=1, unit=1.0, **options).to(memory_format=layout)
    x = spikes(3, 16, *size).float().requires_grad_()

    def step(dtype: torch.dtype = dtype) -> list[Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = layer(x)
        grads = torch.autograd.grad(out.square().sum(), [x, layer.bias, layer.weight])
        return [out.detach(), *grads]

    calls: list[str] = []

    def noted(name: str) -> Callable[..., Tensor]:
        function: Callable[..., Tensor] = getattr(small_maps, name)

        def call(*values: Any) -> Tensor:
            assert values[-1] == window_of(layer)
            calls.append(name)
            return function(*values)

        return call

    for name in ("weight_gradient", "input_gradient"):
        monkeypatch.setattr(small_maps, name, noted(name))
    found = step()
    few = found[0][0, 0].numel() <= small_maps.FEW and dtype == torch.float32
    assert calls == ["input_gradient"] * few + ["weight_gradient"]
    for name in ("is_gradient_faster", "is_input_gradient_faster"):
        monkeypatch.setattr(small_maps, name, lambda *_: False)
    wanted = step()
    # Torch's own in bfloat16 reads, of maps one pixel wide and with a stride of 2, what nobody has written.
    wanted[WEIGHT] = step(torch.float32)[WEIGHT]
    assert len(calls) == 1 + few
    for place, (mine, other) in enumerate(zip(found, wanted, strict=True)):
        assert mine.dtype == other.dtype
        assert mine.stride() == other.stride()
        product = place == WEIGHT or (place == INPUT and few)
        least = float(other.abs().max()) * (1e-6 if dtype == torch.float32 else 3e-2)
        torch.testing.assert_close(mine, other, rtol=0, atol=least * product)


def test_where_a_product_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    wide = torch.empty(512, 512, 3, 3)
    narrow = torch.empty(32, 32, 3, 3)
    single, more = torch.empty(16, 512, 2, 2), torch.empty(16, 512, 8, 8)
    for grad, weight, wanted in (
        (single, wide, True),
        (single, narrow, False),
        (more, wide, False),
        (single.double(), wide, False),
        (single.to("meta"), wide, False),
        (single[:0], wide, False),
    ):
        assert small_maps.is_gradient_faster(grad, weight, 1) is wanted
    assert not small_maps.is_gradient_faster(single, wide, 2)
    for grad, weight, wanted in (
        (single, wide, True),
        (single, narrow, False),
        (more, wide, False),
        (torch.empty(64, 512, 2, 2), wide, False),
        (single.bfloat16(), wide.bfloat16(), False),
        (single.to("meta"), wide, False),
        (single[:0], wide, False),
    ):
        assert small_maps.is_input_gradient_faster(grad, weight, 1) is wanted
    assert not small_maps.is_input_gradient_faster(single, wide, 2)
