"""The split of gradients against autograd and against Eqs. 4 to 6 written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import danetc
from danetc.runtime.measure.gradients import Split, split_gradients
from danetc.runtime.measure.run import mean_loss
from danetc.runtime.model.built import Model

from .conftest import SEW, SPEC, batch, build, layout, measure
from .plain import TAU, THRESHOLD, Layer, Plain, slope


def split(model: Model, x: Tensor, labels: Tensor) -> Split:
    return split_gradients(model, layout(model), x, labels, mean_loss)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "wiring", ["origin by densely_additive", "sew", "pa_a", "pa_b", "baa", "tdbn"]
)
def test_the_parts_add_up_to_the_gradient_of_autograd(wiring: str, training: bool) -> None:
    """In float64, with norms by running and by batch statistics."""
    model = build(wiring).double().train(training)
    x, labels = batch()
    x = x.double()
    found = split(model, x, labels)
    assert all(value.grad is None for value in model.parameters())
    F.cross_entropy(model(x), labels).backward()
    for name, value in model.named_parameters():
        parts = found.spatial[name] + found.temporal[name] + found.direct[name]
        scale = float(value.grad.abs().max()) or 1.0
        # A batch norm takes away its channels' means: those gradients are 0 to rounding.
        assert torch.allclose(found.whole[name], value.grad, rtol=0, atol=1e-12 * scale + 1e-15)
        assert torch.allclose(parts, value.grad, rtol=0, atol=1e-12 * scale + 1e-15)
    temporal = sum(float(value.abs().sum()) for value in found.temporal.values())
    assert temporal > 1e-3


def by_hand(layer: Layer, t: int) -> tuple[Tensor, Tensor]:
    """Eqs. 5 and 6 up to X_t: dL/dS dS/dV dV/dX, and dL/dU dU/dV dV/dX."""
    v, s, u = (each[t] for each in (layer.potentials, layer.spikes, layer.states))
    fires = slope(v - THRESHOLD).detach()
    through_reset = (1 - s - v * fires).detach()
    above = s.grad if s.grad is not None else torch.zeros_like(s)
    later = u.grad if u.grad is not None else torch.zeros_like(u)
    return above * fires / TAU, later * through_reset / TAU


def test_the_parts_are_those_of_the_equations(wiring: str) -> None:
    model = build(wiring).double()
    x, labels = batch()
    x = x.double()
    found = split(model, x, labels)
    state = {
        name: value.detach().requires_grad_(not name.rpartition(".")[2].startswith(("run", "num")))
        if value.is_floating_point()
        else value
        for name, value in model.state_dict().items()
    }
    plain = Plain(state)
    F.cross_entropy(plain.forward(x, 3, wiring == SEW), labels).backward(retain_graph=True)
    for name, layer in plain.layers.items():
        parts = [by_hand(layer, t) for t in range(3)]
        for part, mine in zip(zip(*parts, strict=True), found.inputs[name], strict=True):
            theirs = torch.stack(part)
            # The image is the same at all steps, so the layer takes one input for all of them.
            assert torch.allclose(mine, theirs.sum(0) if mine.dim() == 4 else theirs, atol=1e-13)
        # The weights right before a layer reach the loss through that layer alone.
        scope = name.rpartition(".")[0].removesuffix(".branch")
        weight = {
            f"{scope}.spike": f"{scope}.branch.conv2.weight",
            f"{scope}.branch.spike": f"{scope}.branch.conv1.weight",
            f"{scope}.branch.spike1": f"{scope}.branch.conv1.weight",
            f"{scope}.branch.spike2": f"{scope}.branch.conv2.weight",
            "stem.spike": "stem.conv.weight",
        }[name]
        for place, part in enumerate((found.spatial, found.temporal)):
            (expected,) = torch.autograd.grad(
                layer.inputs, [state[weight]], [each[place] for each in parts], retain_graph=True
            )
            assert bool(expected.any())
            assert torch.allclose(part[weight], expected, rtol=0, atol=1e-13)


def test_learnt_neurons_have_parts_too() -> None:
    text = SPEC.format(steps=3, wiring="origin").replace("LIF(tau = 2.0)", "PLIF")
    model = danetc.build(text=text.replace("(3), 3", "(3), 2"), backend="eager").double().train()
    x, labels = batch()
    x = x.double()
    found = split(model, x, labels)
    F.cross_entropy(model(x), labels).backward()
    names = [name for name, _ in model.named_parameters() if name.endswith(".w")]
    assert len(names) == 5
    for name, value in model.named_parameters():
        assert value.grad is not None
        parts = found.spatial[name] + found.temporal[name] + found.direct[name]
        assert torch.allclose(parts, value.grad, rtol=0, atol=1e-13)
    assert all(bool(found.temporal[name].any()) for name in names)


def test_norms_are_means_over_batches_and_frozen_weights_are_left_out() -> None:
    model = build()
    model.stem.conv.weight.requires_grad_(False)
    batches = [batch(4, 0), batch(4, 1)]
    found = measure(model, batches, only=["gradients"]).gradients
    assert found.batches == 2
    norms = {each.parameter: each for each in found.parameters}
    assert "stem.conv.weight" not in norms
    name = "stages.0.blocks.1.branch.conv1.weight"
    parts = [split(model, *each) for each in batches]
    for part in ("whole", "spatial", "temporal"):
        expected = sum(float(getattr(each, part)[name].norm()) for each in parts) / 2
        assert getattr(norms[name], part) == pytest.approx(expected, rel=1e-5)
    assert found.residual < 1e-5
    assert all(each.residual < 1e-5 for each in norms.values())
    layer = found.neurons[-1]
    whole = [sum(each.inputs[layer.layer]) * 4 for each in parts]  # of each image's own loss
    expected = sum(float(value.pow(2).sum().div(4).sqrt()) for value in whole) / 2  # type: ignore[union-attr]
    assert layer.whole == pytest.approx(expected, rel=1e-5)
