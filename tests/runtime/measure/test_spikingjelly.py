"""Measures against SpikingJelly's own neurons under its own monitors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conftest import batch, build, measure

pytest.importorskip("spikingjelly")


class Counterpart(nn.Module):
    """The small DANet-C of ``conftest`` from SpikingJelly's layers, under danetc's names."""

    def __init__(self) -> None:
        super().__init__()
        from spikingjelly.activation_based import layer, neuron, surrogate

        def unit(channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                [
                    layer.Conv2d(channels, 3, 3, padding=1, bias=False, step_mode="m"),
                    layer.BatchNorm2d(3, step_mode="m"),
                    neuron.LIFNode(
                        tau=2.0,
                        v_reset=0.0,
                        surrogate_function=surrogate.Sigmoid(alpha=4.0),
                        detach_reset=False,
                        step_mode="m",
                    ),
                ]
            )

        self.units = nn.ModuleList([unit(2), *(unit(3) for _ in range(6))])
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, fire = self.units[0]  # type: ignore[misc]
        out = fire(norm(conv(x)))
        given: list[Tensor] = []
        for i in range(3):
            taken = sum(given[1:], given[0]) if given else out
            conv, norm, fire = self.units[1 + 2 * i]  # type: ignore[misc]
            y = fire(norm(conv(taken)))
            conv, norm, fire = self.units[2 + 2 * i]  # type: ignore[misc]
            given.append(fire(norm(conv(y)) + taken))
        return self.linear(given[-1].mean((3, 4)).mean(0))


def counterpart(state: dict[str, Tensor]) -> Counterpart:
    """With the weights of danetc's model, whose layers stand in the same order."""
    net = Counterpart().double()
    theirs = list(net.state_dict())
    net.load_state_dict(dict(zip(theirs, state.values(), strict=True)))
    return net.eval()


def test_rates_and_gradients_are_those_of_spikingjelly_s_monitors() -> None:
    from spikingjelly.activation_based import monitor, neuron

    model = build().double()
    x, labels = batch()
    x = x.double()
    net = counterpart(model.state_dict())
    spikes: Any = monitor.OutputMonitor(net, neuron.LIFNode)
    grads: Any = monitor.GradInputMonitor(net, neuron.LIFNode)
    logits = net(x.expand(3, *x.shape))
    assert torch.allclose(logits, model(x), atol=1e-12)
    F.cross_entropy(logits, labels).backward()
    found = measure(model, [(x, labels)], only=["firing-rate", "gradients"])
    assert len(spikes.records) == len(found.firing_rate.layers) == 7
    for layer, fired in zip(found.firing_rate.layers, spikes.records, strict=True):
        assert layer.rate == pytest.approx(float(fired.detach().mean()), rel=1e-12)
        assert layer.steps == pytest.approx(fired.mean((1, 2, 3, 4)).tolist(), rel=1e-12)
    layers = found.gradients.neurons
    for layer, grad in zip(layers, reversed(grads.records), strict=True):  # type: ignore[assignment]
        # danetc's stem neuron takes the image once, for all steps.
        whole = grad.sum(0) if layer.layer == "stem.spike" else grad
        of_an_image = len(labels) ** 0.5 * float(whole.norm())
        assert layer.whole == pytest.approx(of_an_image, rel=1e-10)  # type: ignore[attr-defined]
