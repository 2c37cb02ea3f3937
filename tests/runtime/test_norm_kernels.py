"""Groups with norms as a GPU computes them, against norms, sum and neuron of torch in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.dsl.kinds import ANALOG
from danetc.runtime.kernels.compiled import CompiledFunction
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.norm import StaticBatchNorm2d

STEPS, BATCH, CHANNELS, SIZE = 3, 2, 5, 6
VALUE, NORM, STATIC = "value", "norm", "static norm"


@pytest.fixture
def uncompiled(inductor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be compiled for a GPU runs here, operation by operation."""
    monkeypatch.setattr(CompiledFunction, "__call__", lambda self, *args: self.function(*args))


def layer(program: str, forms: Sequence[str], training: bool) -> FusedNeuron:
    torch.manual_seed(1)
    kinds = {NORM: nn.BatchNorm2d, STATIC: lambda width: StaticBatchNorm2d(width, STEPS)}
    norms = [kinds[form](CHANNELS) if form in kinds else None for form in forms]
    made = FusedNeuron(program, STEPS, 3, norms, [ANALOG] * len(forms), (CHANNELS, SIZE, SIZE))
    made.norms = nn.ModuleList(norms)
    with torch.no_grad():
        for p in made.norms.parameters():
            p.uniform_(0.5, 1.5)
        for norm in made.norms:
            if norm is not None:
                norm.running_var.uniform_(0.5, 2.0)
    return made.double().train(training)


def results(made: FusedNeuron, run: Any, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    xs = [x.detach().requires_grad_() for x in inputs]
    out = run(*xs)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
    found = {"out": out, **{f"x{place}": x.grad for place, x in enumerate(xs)}}
    found |= {name: p.grad for name, p in made.named_parameters()}
    return found | dict(made.named_buffers())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("neuron", ["LIF", "PLIF", "SlidingPSN"])
@pytest.mark.parametrize(
    "forms", [(NORM,), (NORM, VALUE), (NORM, NORM), (STATIC,), (STATIC, NORM)], ids=" + ".join
)
def test_gradients(
    compiled: Callable[..., Any],
    uncompiled: None,
    forms: Sequence[str],
    neuron: str,
    last: bool,
    training: bool,
) -> None:
    made = layer(compiled(neuron).text(), forms, training)
    inputs = []
    for form in forms:
        shape = (*[STEPS] * (form is not STATIC), BATCH, CHANNELS, SIZE, SIZE)
        x = torch.randn(shape, dtype=torch.float64) + 1
        inputs.append(x.movedim(-3, -1).contiguous().movedim(-1, -3) if last else x)
    plain = copy.deepcopy(made)
    expected = results(plain, lambda *xs: Neuron.forward(plain, plain._sum(xs)), inputs)
    found = results(made, made, inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)
