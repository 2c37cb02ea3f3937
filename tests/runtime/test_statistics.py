"""Statistics and gradients of norms in fusion groups, against torch's norm."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from danetc.runtime.layers.norm import StaticBatchNorm2d
from danetc.runtime.layers.statistics import BATCH, RUNNING, affine, norm_backward


def flat(x: torch.Tensor, last: bool) -> torch.Tensor:
    """x [M, C, H, W] as kernels take it."""
    return x.flatten(2).transpose(1, 2).contiguous() if last else x.flatten(2)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("static", [False, True])
def test_statistics(static: bool, size: int, last: bool) -> None:
    """A static input counts as often as there are steps."""
    steps = 3
    norm = StaticBatchNorm2d(5, steps=steps) if static else nn.BatchNorm2d(5)
    plain = nn.BatchNorm2d(5)
    for seed in range(3):
        x = torch.randn(4, 5, size, size, generator=torch.Generator().manual_seed(seed)) + 2
        found = affine(norm, flat(x, last), static, last)
        plain(x.repeat(steps, 1, 1, 1) if static else x)
        torch.testing.assert_close(found.mean, x.mean((0, 2, 3)))
        expected = (x.var((0, 2, 3), correction=0) + norm.eps).rsqrt()
        torch.testing.assert_close(found.inverse, expected)
        assert torch.equal(found.scale, found.inverse * norm.weight)
        assert torch.equal(found.shift, norm.bias - found.mean * found.scale)
        assert not any(value.requires_grad for value in found)
    for one, other in zip(norm.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    found = affine(norm.eval(), flat(x, last), static, last)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.equal(found.mean, norm.running_mean)
    assert torch.equal(found.inverse, torch.rsqrt(norm.running_var + norm.eps))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mode", [BATCH, RUNNING])
@pytest.mark.parametrize("shape", [(5, 4, 2, 2), (3, 7, 5, 5), (9, 4, 1, 1)])
def test_gradients(shape: tuple[int, ...], mode: str, last: bool) -> None:
    """Against autograd through torch's norm, in float64."""
    generator = torch.Generator().manual_seed(0)
    x, grad = torch.randn(2, *shape, generator=generator) * 2 + 1
    norm = nn.BatchNorm2d(shape[1]).train(mode == BATCH)
    nn.init.uniform_(norm.weight, generator=generator)
    assert norm.running_var is not None
    norm.running_var.fill_(2.0)
    reference = copy.deepcopy(norm).double()
    wide = x.double().requires_grad_()
    reference(wide).backward(grad.double())
    known = affine(norm, flat(x, last), static=False, last=last)
    dx, dw, db = norm_backward(flat(grad, last), flat(x, last), norm.weight, *known[:2], mode, last)
    assert dx.is_contiguous()
    assert wide.grad is not None
    torch.testing.assert_close(dx, flat(wide.grad.float(), last), rtol=1e-5, atol=1e-6)
    for found, parameter in zip((dw, db), reference.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(found, parameter.grad.float(), rtol=1e-5, atol=1e-5)
