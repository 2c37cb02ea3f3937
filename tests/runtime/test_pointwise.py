"""Convolutions of pixels as products of matrices: held to torch's in float64."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.runtime.layers import pointwise
from danetc.runtime.layers.layouts import layout_of
from danetc.runtime.layers.packed import PackedConv2d
from danetc.runtime.system.machine import is_amd
from tests.runtime.test_small_maps import spikes

SHAPES = ((6, 8, 3, 5), (2, 8, 4, 4), (1, 8, 1, 7), (6, 8, 1, 1))
LAYOUTS = {"channels last": True, "rows of pixels": False}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def laid(x: Tensor, last: bool = True) -> Tensor:
    return x.movedim(-3, -1).contiguous().movedim(-1, -3) if last else x


def layer(bias: bool = True, **options: Any) -> PackedConv2d:
    torch.manual_seed(0)
    return PackedConv2d(8, 12, **{"kernel_size": 1, **options}, bias=bias, low=0, high=1, unit=1.0)


def products(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions here that are called from now on."""
    monkeypatch.setattr(pointwise, "IS_FAST", True)
    calls: list[str] = []
    for name in ("convolved", "input_gradient", "weight_gradient"):
        real = getattr(pointwise, name)

        def call(*args: Any, name: str = name, real: Any = real) -> Tensor:
            calls.append(name)
            return real(*args)  # type: ignore[no-any-return]

        monkeypatch.setattr(pointwise, name, call)
    return calls


@pytest.mark.parametrize("last", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_convolution_with_its_gradients(
    shape: tuple[int, ...],
    bias: bool,
    dtype: torch.dtype,
    last: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pointwise, "LEAST", 1)
    monkeypatch.setattr(pointwise, "LEAST_OF_HALF", 1)
    made, calls = layer(bias), products(monkeypatch)
    plain = nn.Conv2d(8, 12, 1, bias=bias).double()
    plain.load_state_dict(made.state_dict())
    x = laid(spikes(*shape), last)
    made.to(dtype)
    mine = x.to(dtype, copy=True).requires_grad_()
    y = made(mine)
    other = x.clone().requires_grad_()
    wanted = plain(other)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).double()
    y.backward(grad.to(dtype))  # not laid out as the output is
    wanted.backward(grad)
    for value in (y, mine.grad):
        assert layout_of(value).is_last if last else value.is_contiguous()
    are_few = layout_of(x).is_last or shape[2] * shape[3] * (8 + 12) >= 8 * 12
    assert calls == ["convolved", "input_gradient", *["weight_gradient"] * are_few]
    for name, a, b in (
        ("output", y, wanted),
        ("input", mine.grad, other.grad),
        *((n, p.grad, plain.get_parameter(n).grad) for n, p in made.named_parameters()),
    ):
        assert a.dtype == dtype
        a, b = a.detach(), b.detach()
        scale = TOLERANCES[dtype] * float(b.abs().max())
        torch.testing.assert_close(a.double(), b, rtol=0, atol=scale, msg=f"{name} of {shape}")


def test_the_same_without_gradients_and_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = layer(), products(monkeypatch)
    x = laid(spikes(*SHAPES[1])).float()
    with torch.no_grad():
        assert torch.equal(made(x), made(x.clone().requires_grad_()).detach())
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled):
            y = made(x)
            with torch.no_grad():
                assert torch.equal(made(x), y)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert set(calls) == {"convolved"}
    assert len(calls) == 6


def test_where_it_is_slower_it_is_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """For many pixels with channels last, small maps without, and on slow processors."""
    made, calls, x = layer(), products(monkeypatch), spikes(4, 8, 6, 6).float()
    fewer, more = x[:, 0].numel() - 1, x[0, 0].numel() + 1
    for name, bound, last in (("MOST", fewer, True), ("LEAST", more, False)):
        made(laid(x, last))
        assert calls == ["convolved"]
        calls.clear()
        monkeypatch.setattr(pointwise, name, bound)
        made(laid(x, last))
        assert not calls
    with torch.autocast("cpu", torch.bfloat16):
        made(x)
    assert not calls
    made(x[:, :, ::2])  # with gaps
    monkeypatch.setattr(pointwise, "LEAST", 1)
    monkeypatch.setattr(pointwise, "IS_FAST", False)
    made(x)
    assert not calls


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_amd_s_processors_are_found_by_their_vendor() -> None:
    assert is_amd() == ("AuthenticAMD" in Path("/proc/cpuinfo").read_text("utf-8"))


def test_what_does_not_fit_is_torch_s_error() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        layer()(laid(spikes(4, 9, 6, 6)).float())
