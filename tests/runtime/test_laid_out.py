"""Weights that are laid out once: whatever changes them, the next call uses the new numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import danetc
from danetc.compiler.emit.fx import emit
from danetc.runtime.layers import laid_out, sparse
from danetc.runtime.model.built import Model
from tests.differential.helpers import shake, text
from tests.differential.networks import small

pytestmark = pytest.mark.usefixtures("compiling", "one_thread")
NETWORK = small(
    "layers via origin",
    more="backbone layers = stage(basic(16), 1)",
    stem="conv(16) -> norm -> spike",
)


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the layouts that are used."""
    found: list[str] = []
    form = laid_out.form

    def noted(layer: nn.Conv2d, name: str, make: Callable[..., Any]) -> Any:
        found.append(name)
        return form(layer, name, make)

    monkeypatch.setattr(sparse, "form", noted)
    monkeypatch.setattr(sparse, "PER_READING", 1.0)
    return found


def built() -> Model:
    model = emit(text(NETWORK), 0, "fused")
    shake(model)
    return model.eval()


def stream(model: Model, states: Any = None, steps: int = 2) -> tuple[Tensor, Any]:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    outputs = []
    for _ in range(steps):
        out, states = model.stream(x, states)
        outputs.append(out)
    return torch.stack(outputs), states


def moved_twice(p: nn.Parameter) -> None:
    for _ in range(2):  # the second value could be put where the first one was
        p.data = p.data * 1.3


CHANGES: dict[str, Callable[[nn.Parameter], Any]] = {
    "in place": lambda p: p[0].mul_(3.0),
    "an optimizer": lambda p: torch.optim.SGD([p], 0.5).step(
        lambda: setattr(p, "grad", torch.ones_like(p))  # type: ignore[arg-type, return-value]
    ),
    "data": moved_twice,
    "layout": lambda p: setattr(
        p, "data", p.data.contiguous(memory_format=torch.channels_last) * 2
    ),
    "strides": lambda p: setattr(p, "data", torch.stack([p.data * 2, p.data], -1)[..., 0]),
    "data.mul_": lambda p: p.data.mul_(1.3),
    "NumPy": lambda p: p.detach().numpy().__imul__(1.3),
}
UNSEEN: dict[str, Callable[[nn.Parameter], Any]] = {
    "one number of data": lambda p: p.data.view(-1)[407].add_(3.0),
    "one number by NumPy": lambda p: p.detach().numpy().reshape(-1).__setitem__(7, 2.0),
}
"""Changes that count after ``model.eval()``."""


def fresh(model: Model) -> Model:
    """A copy that has laid out nothing yet."""
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.mark.parametrize("is_folded", [False, True])
@pytest.mark.parametrize("change", [*CHANGES, *UNSEEN])
def test_a_change_counts_in_the_next_call(change: str, is_folded: bool, uses: list[str]) -> None:
    model = danetc.fold(built()) if is_folded else built()
    with torch.no_grad():
        before, states = stream(model)
        assert "rows" in uses
        for parameter in model.parameters():
            if parameter.dim() == 4:
                (CHANGES | UNSEEN)[change](parameter)
        if change in UNSEEN:
            model.eval()
        twin = fresh(model)
        assert torch.equal(stream(model, states)[0], stream(twin, states)[0])
        after = stream(model)[0]
        assert torch.equal(after, stream(twin)[0])
        assert not torch.equal(after, before)


def test_another_parameter_in_the_same_memory_is_laid_out() -> None:
    layer = nn.Conv2d(16, 16, 3)
    with torch.no_grad():
        for factor in (1.0, 2.0, 3.0):
            layer.weight = nn.Parameter(layer.weight.data)
            layer.weight[0, 0, 0, 1] = factor
            copied = laid_out.form(layer, "copy", Tensor.clone)
            assert torch.equal(copied, layer.weight)
            assert laid_out.form(layer, "copy", Tensor.clone) is copied


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_computed_weights_stay(norm: Callable[[nn.Module], nn.Module], uses: list[str]) -> None:
    model = built()
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d):
            norm(module)
    model.eval()
    for factor in (1.0, 1.3):
        for parameter in model.parameters():
            parameter.data.mul_(factor)
        with torch.no_grad():
            assert torch.equal(stream(model)[0], stream(copy.deepcopy(model))[0])
    assert not uses


def test_a_bias_may_be_strided() -> None:
    layer, spikes = nn.Conv2d(16, 16, 3), torch.zeros(1, 16, 4, 4)
    spikes[0, 3] = 1.0
    layer.bias.data = torch.stack([layer.bias.data, layer.bias.data + 5], 1)[:, 0]  # type: ignore[union-attr]
    with torch.no_grad():
        found = sparse.convolved(layer, spikes)
        assert found is None or torch.allclose(found, layer(spikes), atol=1e-6)
        layer.bias.data = layer.bias.data.double()  # type: ignore[union-attr]
        assert sparse.convolved(layer, spikes) is None
