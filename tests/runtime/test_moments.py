"""Mean and variance of channels against float64, and the running ones against torch's norm."""

from __future__ import annotations

import pytest
import torch
from danetc.runtime import compiled as compiler
from danetc.runtime.compiled import missing_compiler
from danetc.runtime.fused import statistics
from danetc.runtime.moments import moments
from danetc.runtime.norm import StaticBatchNorm2d
from torch import nn

pytestmark = pytest.mark.skipif(
    missing_compiler("cpu") is not None, reason="no C++ compiler on this machine"
)


@pytest.fixture(autouse=True)
def _compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "COMPILE", True)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(6, 5, 6, 6), (1, 1, 4, 8), (2, 70, 5, 7), (16, 3, 33, 1)])
def test_moments(shape: tuple[int, ...], last: bool) -> None:
    """Also far from zero, where a sum of squares would lose the variance."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.5 + 300
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    found = moments(x)
    assert found is not None
    others = (0, 2, 3)
    wide = x.double()
    torch.testing.assert_close(found[0], wide.mean(others).float(), rtol=1e-7, atol=0)
    expected = wide.var(others, correction=0).float()
    torch.testing.assert_close(found[1], expected, rtol=1e-6, atol=0)


def test_what_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moments(torch.randn(4, 3, 2, 2)) is None  # too little side by side
    assert moments(torch.randn(4, 3)) is None
    assert moments(torch.randn(4, 3, 8, 8, dtype=torch.float64)) is None
    assert moments(torch.randn(4, 3, 16, 8)[..., ::2]) is None  # neither layout
    monkeypatch.setattr(compiler, "COMPILE", False)
    assert moments(torch.randn(4, 3, 8, 8)) is None


@pytest.mark.parametrize("static", [False, True])
def test_running_statistics(static: bool) -> None:
    """A static input counts as often as there are steps."""
    steps = 3
    norm = StaticBatchNorm2d(5, steps=steps) if static else nn.BatchNorm2d(5)
    plain = nn.BatchNorm2d(5)
    for seed in range(3):
        x = torch.randn(4, 5, 6, 6, generator=torch.Generator().manual_seed(seed)) + 2
        mean, inverse = statistics(norm, x, static)
        plain(x.repeat(steps, 1, 1, 1) if static else x)
        torch.testing.assert_close(mean, x.mean((0, 2, 3)))
        expected = (x.var((0, 2, 3), correction=0) + norm.eps).rsqrt()
        torch.testing.assert_close(inverse, expected)
    for one, other in zip(norm.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
