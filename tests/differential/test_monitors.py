"""Forward hooks and SpikingJelly's monitors see the spikes of a model, as of a network of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

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


def test_a_forward_hook_sees_spikes_and_may_change_them() -> None:
    model = danetc.build(text=TEXT, backend="eager", seed=1)
    images = torch.rand(5, 1, 8, 8) * 4
    before = model(images)
    layers = [each for each in model.modules() if isinstance(each, Neuron)]
    seen: list[Tensor] = []
    handles = [
        each.register_forward_hook(lambda module, inputs, out: seen.append(out)) for each in layers
    ]
    assert torch.equal(model(images), before)
    assert len(seen) == len(layers) == 2
    for handle in handles:
        handle.remove()
    silent = layers[-1].register_forward_hook(lambda module, inputs, out: torch.zeros_like(out))
    bias = model(images)
    assert torch.equal(bias, bias[:1].expand_as(bias))  # nothing but the head's bias is left
    silent.remove()
    assert torch.equal(model(images), before)
