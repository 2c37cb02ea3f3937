"""Norms over time against torch.nn, SpikingJelly and the repeated image."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer as sj
from torch import Tensor, nn

from danetc.runtime.layers.norm import (
    CumulativeBatchNorm2d,
    StaticBatchNorm2d,
    StepBatchNorm2d,
    TemporalEffectiveBatchNorm2d,
)

STEPS = 4


def values(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 2 + 0.5


def shaken(module: nn.Module) -> nn.Module:
    """The module with weights that are not 1 and 0."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        parameter.data.add_(torch.randn_like(parameter.data) / 3)
    return module.double()


def step(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Output, gradient of the input, gradients of the parameters."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    out = module(x)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad, [p.grad.clone() for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("static", (5, 3, 4, 2)),
        ("static", (1, 3, 1, 1)),  # one value a channel, T times
        ("static", (6, 3)),
        ("tebn", (5, 3, 4, 2)),
        ("tebn", (1, 3, 1, 1)),
        ("steps", (5, 3, 4, 2)),
        ("steps", (6, 3)),
        ("so far", (5, 3, 4, 2)),
        ("so far", (6, 3)),
    ],
)
def test_an_image_is_the_image_repeated(name: str, shape: tuple[int, ...]) -> None:
    rank = len(shape) - 1
    kinds = {
        "static": StaticBatchNorm2d,
        "tebn": TemporalEffectiveBatchNorm2d,
        "steps": StepBatchNorm2d,
        "so far": CumulativeBatchNorm2d,
    }
    module = shaken(kinds[name](3, STEPS, rank=rank))
    twin = copy.deepcopy(module)
    for seed in range(3):
        x = values(*shape, seed=seed)
        out, grad, params = step(module, x)
        expected, expected_grad, expected_params = step(twin, torch.stack([x] * STEPS))
        if out.dim() < expected.dim():
            assert name == "static"
            out = out.expand_as(expected)  # its loss differs: gradients have a test of their own
        else:
            torch.testing.assert_close(grad, expected_grad.sum(0), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(params, expected_params, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(module.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert int(module.num_batches_tracked) == 3
    module.eval(), twin.eval()
    x = values(*shape, seed=9)
    out, expected = module(x), twin(torch.stack([x] * STEPS))
    torch.testing.assert_close(out.expand_as(expected), expected, rtol=1e-12, atol=1e-12)


class By(nn.Module):
    """What a function computes by norms of torch."""

    def __init__(self, norms: nn.Module, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.norms, self.run = norms, run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.norms, x)


def test_a_sequence_is_torchs_batch_norm() -> None:
    ours = shaken(StaticBatchNorm2d(3, STEPS))
    theirs = nn.BatchNorm2d(3).double()
    theirs.load_state_dict(ours.state_dict())
    x = values(STEPS, 5, 3, 4, 2)
    flat = By(theirs, lambda norm, x: norm(x.flatten(0, 1)).view(x.shape))
    for one, other in zip(step(ours, x), step(flat, x), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert all(map(torch.equal, ours.buffers(), theirs.buffers()))


def each_step(norms: Any, x: Tensor) -> Tensor:
    return torch.stack([norm(x_t) for norm, x_t in zip(norms, x, strict=True)])


def so_far(norms: Any, x: Tensor) -> Tensor:
    parts = (x[: t + 1].flatten(0, 1) for t in range(STEPS))
    return torch.stack([norm(y)[-x.shape[1] :] for norm, y in zip(norms, parts, strict=True)])


@pytest.mark.parametrize(
    ("kind", "run", "rtol", "atol"),
    [(StepBatchNorm2d, each_step, 1e-12, 1e-12), (CumulativeBatchNorm2d, so_far, 1e-10, 1e-11)],
)
def test_steps_are_those_of_one_norm_each(
    kind: type[nn.Module], run: Callable[[Any, Tensor], Tensor], rtol: float, atol: float
) -> None:
    """Of the step, or of steps 0 to t: outputs and statistics to 1e-12, gradients to these."""
    ours = shaken(kind(3, STEPS))
    norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(STEPS)]).double()
    for t, norm in enumerate(norms):
        norm.weight.data.copy_(ours.weight[t])
        norm.bias.data.copy_(ours.bias[t])
    theirs, x = By(norms, run), values(STEPS, 5, 3, 4, 2)
    loose, tight = {"rtol": rtol, "atol": atol}, {"rtol": 1e-12, "atol": 1e-12}
    out, grad, (weight, bias) = step(ours, x)
    expected, expected_grad, params = step(theirs, x)
    torch.testing.assert_close(out, expected, **tight)
    torch.testing.assert_close(grad, expected_grad, **loose)
    torch.testing.assert_close(weight, torch.stack(params[0::2]), **loose)
    torch.testing.assert_close(bias, torch.stack(params[1::2]), **loose)
    for name in ("running_mean", "running_var"):
        stacked = torch.stack([getattr(norm, name) for norm in norms])
        torch.testing.assert_close(getattr(ours, name), stacked, **tight)
    assert int(ours.num_batches_tracked) == 1
    ours.eval(), norms.eval()
    torch.testing.assert_close(ours(x), theirs(x), **tight)


def test_tebn_is_spikingjellys() -> None:
    ours = shaken(TemporalEffectiveBatchNorm2d(3, STEPS))
    theirs = sj.TemporalEffectiveBatchNorm2d(STEPS, 3).double()
    theirs.load_state_dict(ours.state_dict())
    x = values(STEPS, 5, 3, 4, 2)
    for one, other in zip(step(ours, x), step(theirs, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "kind", [StepBatchNorm2d, TemporalEffectiveBatchNorm2d, CumulativeBatchNorm2d]
)
def test_another_number_of_steps_is_an_error(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="4 time steps got 3"):
        kind(3, STEPS)(torch.rand(3, 2, 3, 4, 4))


@pytest.mark.parametrize("kind", [StepBatchNorm2d, StaticBatchNorm2d])
def test_one_value_a_channel_is_an_error(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="more than one value"):
        kind(3, 1)(torch.rand(1, 3, 1, 1))


def test_statistics_so_far_are_differentiated_twice() -> None:
    norm = shaken(CumulativeBatchNorm2d(3, STEPS))

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        parameters = {"weight": weight, "bias": bias}
        return torch.func.functional_call(norm, parameters, (x,))  # type: ignore[no-any-return]

    inputs = values(STEPS, 3, 3, 2, 2), norm.weight.detach(), norm.bias.detach()
    assert torch.autograd.gradgradcheck(run, [x.requires_grad_() for x in inputs], fast_mode=True)
