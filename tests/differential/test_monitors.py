"""SpikingJelly's monitors record of a model, and measures say, what they record of its own network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import danetc
from danetc.runtime.layers.neuron import Neuron

monitors = pytest.importorskip("spikingjelly.activation_based.monitor")

TEXT = """
use std
network net {
  input = image(1, 8, 8); steps = 4; neuron = LIF(tau = 2.0); surrogate = atan
  out = in -> conv(8) -> norm -> spike -> conv(8) -> norm -> spike -> avgpool -> mean_over_time -> linear(10)
}
"""


def theirs(ours: nn.Module) -> nn.Module:
    """The same network of SpikingJelly's layers, with the same weights."""
    from spikingjelly.activation_based import layer, neuron, surrogate

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts: list[nn.Module] = []
            for channels in (1, 8):
                parts += [
                    layer.Conv2d(channels, 8, 3, padding=1, bias=False, step_mode="m"),
                    layer.BatchNorm2d(8, step_mode="m"),
                    neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m"),
                ]
            self.body = nn.Sequential(*parts)
            self.head = nn.Linear(8, 10)

        def forward(self, image: Tensor) -> Tensor:
            spikes: Tensor = self.body(image.expand(4, *image.shape))
            out: Tensor = self.head(spikes.mean((-2, -1))).mean(0)
            return out

    found = Net()
    state = zip(found.state_dict().items(), ours.state_dict().values(), strict=True)
    found.load_state_dict({name: value for (name, _), value in state})
    return found


@pytest.mark.parametrize("backend", ["eager", "spikingjelly"])
def test_monitors_record_what_those_of_spikingjelly_record(backend: str) -> None:
    from spikingjelly.activation_based.neuron import LIFNode

    torch.manual_seed(0)
    ours = danetc.build(text=TEXT, backend=backend, seed=1)
    images = torch.rand(5, 1, 8, 8) * 4
    found: list[dict[str, Any]] = []
    for net, kind in ((theirs(ours), LIFNode), (ours, Neuron)):
        spikes = monitors.OutputMonitor(net, kind)
        inputs = monitors.InputMonitor(net, kind)
        gradients = monitors.GradOutputMonitor(net, kind)
        rates = monitors.OutputMonitor(net, kind, lambda out: out.mean().item())
        net(images).square().sum().backward()
        found.append({"spikes": spikes.records, "rates": rates.records, "inputs": inputs.records,
                      "gradients": gradients.records})  # fmt: skip
        for each in (spikes, inputs, gradients, rates):
            each.disable()
        net(images)
    expected, recorded = found
    for name in ("spikes", "inputs", "gradients"):
        assert len(recorded[name]) == len(expected[name]) == 2
        for one, other in zip(recorded[name], expected[name], strict=True):
            assert other.shape == (4, 5, 8, 8, 8)
            static = (
                name == "inputs" and one is recorded["inputs"][0]
            )  # computed once for all steps
            assert one.shape == (other.shape[1:] if static else other.shape)
            torch.testing.assert_close(one.expand_as(other), other, atol=1e-5, rtol=1e-4)
    assert set(torch.cat(recorded["spikes"]).unique().tolist()) == {0.0, 1.0}
    assert all(0.01 < rate < 0.99 for rate in recorded["rates"])


def test_measures_are_those_of_spikingjelly_s_monitors() -> None:
    from spikingjelly.activation_based.neuron import LIFNode

    ours = danetc.build(text=TEXT, backend="eager", seed=1)
    images, labels = torch.rand(5, 1, 8, 8) * 4, torch.arange(5)
    ours(images)  # gives the norms statistics of these images
    net, ours, images = theirs(ours).double().eval(), ours.double().eval(), images.double()
    spikes = monitors.OutputMonitor(net, LIFNode)
    gradients = monitors.GradInputMonitor(net, LIFNode)
    F.cross_entropy(net(images), labels).backward()
    found = danetc.measure(ours, [(images, labels)], only=["firing-rate", "gradients"])
    for layer, fired in zip(found.firing_rate.layers, spikes.records, strict=True):
        assert layer.rate == pytest.approx(float(fired.detach().mean()), rel=1e-12)
        assert layer.steps == pytest.approx(fired.mean((1, 2, 3, 4)).tolist(), rel=1e-12)
    first, last = reversed(gradients.records)
    for layer, grad in zip(found.gradients.neurons, (first.sum(0), last), strict=True):
        # the first neuron takes its static input once for all steps
        of_an_image = len(labels) ** 0.5 * float(grad.norm())
        assert layer.whole == pytest.approx(of_an_image, rel=1e-10) != 0
