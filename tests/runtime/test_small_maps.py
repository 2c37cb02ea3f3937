"""Convolutions as matrix products, on maps of a few pixels and of single pixels, against torch in float64."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.runtime.layers import pointwise, small_maps
from danetc.runtime.layers.layouts import layout_of
from danetc.runtime.layers.packed import PackedConv2d
from danetc.runtime.layers.small_maps import Window
from danetc.runtime.system.machine import is_amd
from tests.runtime.conftest import laid

OPTIONS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 2, "padding": 1, "dilation": 2},
    {"kernel_size": (3, 1), "stride": (1, 2), "padding": (2, 0), "dilation": (2, 1)},
)
SHAPES = ((2, 4, 4), (5, 4, 6), (1, 5, 3), (2, 1, 1), (1, 2, 2), (3, 1, 2))
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def spikes(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)).double()


def noted(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *names: str) -> list[str]:
    """The names of the functions that are called from now on."""
    calls: list[str] = []
    for name in names:
        real = getattr(module, name)

        def call(*args: Any, name: str = name, real: Any = real) -> Tensor:
            calls.append(name)
            return real(*args)  # type: ignore[no-any-return]

        monkeypatch.setattr(module, name, call)
    return calls


# -- maps of a few pixels --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_products_are_the_convolution_and_its_gradient(
    options: dict[str, Any], shape: tuple[int, int, int], layout: torch.memory_format
) -> None:
    images, height, width = shape
    layer: Any = nn.Conv2d(3, 4, **options).double().to(memory_format=layout)
    x = torch.randn(images, 3, height, width, dtype=torch.float64).to(memory_format=layout)
    wanted = layer(x.requires_grad_())
    grad = torch.randn_like(wanted)
    wanted_gradient, wanted_dx = torch.autograd.grad(wanted, [layer.weight, x], grad)
    window = Window.of(layer.weight, layer.stride, layer.padding, layer.dilation)
    assert window.outputs(x.shape) == wanted.shape[-2:]
    gradient = small_maps.weight_gradient(x, grad, layer.weight, window)
    torch.testing.assert_close(gradient, wanted_gradient, check_stride=True)
    dx = small_maps.input_gradient(x.shape, grad, layer.weight, window)
    torch.testing.assert_close(dx, wanted_dx)
    assert dx.is_contiguous(memory_format=layout)


INPUT, WEIGHT = 1, 3
"""Positions of their gradients in the results of a step."""


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
    """Only the last bits change, in the weight gradient and, for up to 4 pixels, in the input gradient."""
    monkeypatch.setattr(pointwise, "is_product", lambda *_: False)
    for name in ("GRADIENT_WEIGHTS", "FEW_WEIGHTS", "INPUT_WEIGHTS"):
        monkeypatch.setattr(small_maps, name, 1)
    layer = PackedConv2d(16, 24, low=0, high=1, unit=1.0, **options).to(memory_format=layout)
    x = spikes(3, 16, *size).float().requires_grad_()

    def step(dtype: torch.dtype = dtype) -> list[Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = layer(x)
        grads = torch.autograd.grad(out.square().sum(), [x, layer.bias, layer.weight])
        return [out.detach(), *grads]

    calls = noted(monkeypatch, small_maps, "weight_gradient", "input_gradient")
    found = step()
    few = found[0][0, 0].numel() <= small_maps.FEW and dtype == torch.float32
    assert calls == ["input_gradient"] * few + ["weight_gradient"]
    for name in ("is_gradient_faster", "is_input_gradient_faster"):
        monkeypatch.setattr(small_maps, name, lambda *_: False)
    wanted = step()
    # For maps one pixel wide and a stride of 2, torch's bfloat16 gradient reads uninitialised memory.
    wanted[WEIGHT] = step(torch.float32)[WEIGHT]
    assert len(calls) == 1 + few
    for place, (mine, other) in enumerate(zip(found, wanted, strict=True)):
        product = place == WEIGHT or (place == INPUT and few)
        least = float(other.abs().max()) * (1e-6 if dtype == torch.float32 else 3e-2)
        torch.testing.assert_close(mine, other, rtol=0, atol=least * product, check_stride=True)


def test_where_a_product_is_faster() -> None:
    wide, narrow = torch.empty(512, 512, 3, 3), torch.empty(32, 32, 3, 3)
    single, more = torch.empty(16, 512, 2, 2), torch.empty(16, 512, 8, 8)
    for is_faster, others in (
        (small_maps.is_gradient_faster, [single.double()]),
        (small_maps.is_input_gradient_faster, [torch.empty(64, 512, 2, 2), single.bfloat16()]),
    ):
        assert is_faster(single, wide, 1)
        assert not is_faster(single, wide, 2)
        assert not is_faster(single, narrow, 1)
        for grad in (more, single.to("meta"), single[:0], *others):
            assert not is_faster(grad, wide.to(grad.dtype), 1)


# -- single pixels ---------------------------------------------------------------------------------

FUNCTIONS = ("convolved", "input_gradient", "weight_gradient")
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of called pixel functions, as on a processor where these are fast."""
    monkeypatch.setattr(pointwise, "IS_FAST", True)
    return noted(monkeypatch, pointwise, *FUNCTIONS)


def pixels_layer(bias: bool = True) -> PackedConv2d:
    torch.manual_seed(0)
    return PackedConv2d(8, 12, 1, bias=bias, low=0, high=1, unit=1.0)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 8, 3, 5), (2, 8, 4, 4), (1, 8, 1, 7), (6, 8, 1, 1)])
def test_of_pixels_it_is_the_convolution_with_its_gradients(
    shape: tuple[int, ...],
    bias: bool,
    dtype: torch.dtype,
    last: bool,
    products: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pointwise, "LEAST", 1)
    monkeypatch.setattr(pointwise, "LEAST_OF_HALF", 1)
    made, plain = pixels_layer(bias), nn.Conv2d(8, 12, 1, bias=bias).double()
    plain.load_state_dict(made.state_dict())
    made.to(dtype)
    x = laid(spikes(*shape), last)
    mine, other = x.to(dtype, copy=True).requires_grad_(), x.clone().requires_grad_()
    y, wanted = made(mine), plain(other)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).double()
    y.backward(grad.to(dtype))  # its layout differs from the output's
    wanted.backward(grad)
    for value in (y, mine.grad):
        assert layout_of(value).is_last if last else value.is_contiguous()
    are_few = layout_of(x).is_last or shape[2] * shape[3] * (8 + 12) >= 8 * 12
    assert products == [*FUNCTIONS[:2], *FUNCTIONS[2:] * are_few]
    for name, a, b in (
        ("output", y, wanted),
        ("input", mine.grad, other.grad),
        *((n, p.grad, plain.get_parameter(n).grad) for n, p in made.named_parameters()),
    ):
        assert a.dtype == dtype
        scale = TOLERANCES[dtype] * float(b.detach().abs().max())
        torch.testing.assert_close(a.double(), b, rtol=0, atol=scale, msg=f"{name} of {shape}")


def test_of_pixels_without_gradients_and_under_autocast(products: list[str]) -> None:
    made, x = pixels_layer(), laid(spikes(2, 8, 4, 4)).float()
    with torch.no_grad():
        assert torch.equal(made(x), made(x.clone().requires_grad_()).detach())
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled):
            y = made(x)
            with torch.no_grad():
                assert torch.equal(made(x), y)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert products == ["convolved"] * 6


def test_where_a_product_of_pixels_is_slower_it_is_torch_s(
    products: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, x = pixels_layer(), spikes(4, 8, 6, 6).float()
    with pytest.raises(RuntimeError, match="channels"):  # torch reports wrong shapes
        made(laid(spikes(4, 9, 6, 6)).float())
    slower = ("MOST", 4 * 36 - 1, True), ("LEAST", 37, False), ("IS_FAST", False, True)
    for name, value, last in slower:
        made(laid(x, last))
        assert products == ["convolved"]
        products.clear()
        with monkeypatch.context() as patch:
            patch.setattr(pointwise, name, value)
            made(laid(x, last))
    made(x[:, :, ::2])  # with gaps
    with torch.autocast("cpu", torch.bfloat16):
        made(x)
    assert not products


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_amd_s_processors_are_found_by_their_vendor() -> None:
    assert is_amd() == ("AuthenticAMD" in Path("/proc/cpuinfo").read_text("utf-8"))
