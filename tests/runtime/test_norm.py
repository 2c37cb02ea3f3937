"""Norms over time against torch.nn, SpikingJelly and the repeated image."""

import copy
from collections.abc import Callable
from functools import partial
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
from tests.runtime.conftest import By, step

STEPS = 4
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def values(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 2 + 0.5


def shaken(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for parameter in module.parameters():
        parameter.data.add_(torch.randn_like(parameter.data) / 3)
    return module.double()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (StaticBatchNorm2d, (5, 3, 4, 2)),
        (StaticBatchNorm2d, (1, 3, 1, 1)),  # one value per channel, T times
        (StaticBatchNorm2d, (6, 3)),
        (TemporalEffectiveBatchNorm2d, (5, 3, 4, 2)),
        (TemporalEffectiveBatchNorm2d, (1, 3, 1, 1)),
        (StepBatchNorm2d, (5, 3, 4, 2)),
        (StepBatchNorm2d, (6, 3)),
        (CumulativeBatchNorm2d, (5, 3, 4, 2)),
        (CumulativeBatchNorm2d, (6, 3)),
    ],
)
def test_an_image_is_the_image_repeated(kind: Any, shape: tuple[int, ...]) -> None:
    module = shaken(kind(3, STEPS, rank=len(shape) - 1))
    twin = copy.deepcopy(module)
    for seed in range(3):
        x = values(*shape, seed=seed)
        found, expected = step(module, x), step(twin, torch.stack([x] * STEPS))
        grad, grads = found.pop("input 0"), expected.pop("input 0")
        if kind is StaticBatchNorm2d:  # its loss differs; another test compares gradients
            found["output"] = found["output"].expand_as(expected["output"])
            found |= {name: expected[name] for name in found if name.startswith("gradient")}
        else:
            torch.testing.assert_close(grad, grads.sum(0), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found, expected, **TIGHT)
    assert int(module.num_batches_tracked) == 3
    module.eval(), twin.eval()
    x = values(*shape, seed=9)
    expected = twin(torch.stack([x] * STEPS))
    torch.testing.assert_close(module(x).expand_as(expected), expected, **TIGHT)


def test_a_sequence_is_torchs_batch_norm() -> None:
    ours = shaken(StaticBatchNorm2d(3, STEPS))
    theirs = nn.BatchNorm2d(3).double()
    theirs.load_state_dict(ours.state_dict())
    x = values(STEPS, 5, 3, 4, 2)
    flat = By(lambda x: theirs(x.flatten(0, 1)).view(x.shape), theirs)
    found, expected = ([*step(norm, x).values()] for norm in (ours, flat))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


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
    """Norms see their step, or steps 0 to t. Outputs and statistics agree to 1e-12, gradients to ``rtol``."""
    ours = shaken(kind(3, STEPS))
    norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(STEPS)]).double()
    for t, norm in enumerate(norms):
        norm.weight.data.copy_(ours.weight[t])
        norm.bias.data.copy_(ours.bias[t])
    theirs, x = By(partial(run, norms), norms), values(STEPS, 5, 3, 4, 2)
    found, of_each = step(ours, x), step(theirs, x)
    assert int(found.pop("num_batches_tracked")) == 1
    for name, value in found.items():
        parts = [each for key, each in of_each.items() if key.endswith(f".{name.split()[-1]}")]
        expected = torch.stack(parts) if parts else of_each[name]
        near = {"rtol": rtol, "atol": atol} if "input" in name or "gradient" in name else TIGHT
        torch.testing.assert_close(value, expected, **near)
    ours.eval(), norms.eval()
    torch.testing.assert_close(ours(x), theirs(x), **TIGHT)


def test_tebn_is_spikingjellys() -> None:
    ours = shaken(TemporalEffectiveBatchNorm2d(3, STEPS))
    theirs = sj.TemporalEffectiveBatchNorm2d(STEPS, 3).double()
    theirs.load_state_dict(ours.state_dict())
    x = values(STEPS, 5, 3, 4, 2)
    torch.testing.assert_close(step(ours, x), step(theirs, x), **TIGHT)


@pytest.mark.parametrize(
    ("kind", "steps", "shape", "message"),
    [
        (StepBatchNorm2d, STEPS, (3, 2, 3, 4, 4), "4 time steps got 3"),
        (TemporalEffectiveBatchNorm2d, STEPS, (3, 2, 3, 4, 4), "4 time steps got 3"),
        (CumulativeBatchNorm2d, STEPS, (3, 2, 3, 4, 4), "4 time steps got 3"),
        (StepBatchNorm2d, 1, (1, 3, 1, 1), "more than one value"),
        (StaticBatchNorm2d, 1, (1, 3, 1, 1), "more than one value"),
    ],
)
def test_what_does_not_fit_is_an_error(
    kind: Any, steps: int, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(3, steps)(torch.rand(shape))


def test_statistics_so_far_are_differentiated_twice() -> None:
    norm = shaken(CumulativeBatchNorm2d(3, STEPS))

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        parameters = {"weight": weight, "bias": bias}
        return torch.func.functional_call(norm, parameters, (x,))  # type: ignore[no-any-return]

    inputs = values(STEPS, 3, 3, 2, 2), norm.weight.detach(), norm.bias.detach()
    assert torch.autograd.gradgradcheck(run, [x.requires_grad_() for x in inputs], fast_mode=True)
