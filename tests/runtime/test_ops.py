"""The operators inside a model: traced, exported, compiled, copied; outputs and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from danetc.runtime.layers.attention import KeysFirst, Scores
from danetc.runtime.layers.norm import RunningMean, StaticBatchNorm2d, StepBatchNorm2d
from danetc.runtime.layers.time import Delay, DropPath, Learnt, MaskedTimeLinear

STEPS = 3
ops = torch.ops.danetc


def test_second_derivatives(compiled: Any) -> None:
    """Those of the surrogate, by torch's own check of the operators of all steps and of one."""
    program = compiled("PLIF").text()
    x = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    u = torch.rand_like(x).requires_grad_()
    (dx,) = torch.autograd.grad(ops.neuron(x, [w], 2, 1, program).sum(), x, create_graph=True)
    (by_steps,) = torch.autograd.grad(dx.square().sum(), w)
    s, v = ops.neuron_step(x, [], [w], program)
    s = s + ops.neuron_step(x, [v], [w], program)[0]
    (dx,) = torch.autograd.grad(s.sum(), x, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(dx.square().sum(), w)[0], by_steps)
    assert by_steps
    spikes = ops.neuron_step(x, [u], [w], program)[0]
    grads = torch.autograd.grad(spikes.sum(), [x, u, w], create_graph=True)
    assert all(g.requires_grad for g in grads)


def test_opcheck(compiled: Any) -> None:
    """torch's own checks of schemas, fake tensors and autograd registration."""
    program = compiled("PLIF").text()
    x = torch.rand(2, 3, requires_grad=True)
    w = torch.tensor(0.1, requires_grad=True)
    states = [torch.rand(2, 3, requires_grad=True)]
    for sample in (x, torch.rand(3, 2, 3, requires_grad=True)):
        torch.library.opcheck(ops.neuron.default, (sample, [w], 3, 1, program))
    torch.library.opcheck(ops.neuron_step.default, (x, states, [w], program))


def test_drop_path() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.25, 3)
    x = torch.rand(STEPS, 2000, 1, 2, 2) + 1
    out = layer(x)
    kept = (out != 0).flatten(2).double().mean(2)
    assert set(kept.unique().tolist()) == {0.0, 1.0}, "a sample is kept or dropped as a whole"
    assert torch.equal(kept[0], kept[1]), "at all its time steps"
    assert kept.mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(out[:, kept[0] == 1], x[:, kept[0] == 1] * (1 / 0.75))
    assert layer(x[0]).shape == x[0].shape
    assert torch.equal(layer.eval()(x), x)
    with pytest.raises(ValueError, match="probability"):
        DropPath(1.0, 3)


def test_layers_print_their_settings() -> None:
    layers = nn.ModuleList(
        [
            Scores(2), KeysFirst(3, 0), Learnt(0.5, 4, above=0.0), StaticBatchNorm2d(4, STEPS),
            StepBatchNorm2d(4, STEPS), RunningMean(2), Delay(1), DropPath(0.1, 3),
            MaskedTimeLinear(STEPS, 2, masked=0.5),
        ]
    )  # fmt: skip
    text = str(layers)
    for part in (
        "Scores(heads=2)", "KeysFirst(heads=3)", "Learnt([4], above=0.0)",
        "(4, steps=3, eps=1e-05, momentum=0.1)", "RunningMean(2, momentum=0.1)", "Delay(1)", "DropPath(p=0.1)",
        "window=2, masked=0.5",
    ):  # fmt: skip
        assert part in text
