"""Every published network can be measured, and what comes out is what it does.

Firing rates are held to the spikes that go through it, the parts of gradients to the whole, and the
operations that are counted while it runs to those that follow from its graph.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from danetc.compiler.analysis.summary import summarise
from danetc.compiler.emit.fx import emit
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure import measure
from danetc.tasks.measuring.layout import layout_of
from tests.differential.helpers import observe, randn
from tests.zoo.harness import BATCH, CASES, NAMES, frames, graph, rouse

ASKED = ("firing-rate", "gradients", "operations")
OFTEN = [
    "event_densenet",
    "gac",
    "glif",
    "mlf",
    "plif_net",
    "senet",
    "sew_gesture",
    "spikeyolo",
    "spikformer",
]
"""One of each kind; the others are measured by ``make thorough``."""


def projected(output: Tensor, labels: Tensor) -> Tensor:
    return (output * randn(*output.shape, seed=3)).sum()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.thorough] * (name not in OFTEN)) for name in NAMES],
)
def test_a_network_can_be_measured(name: str) -> None:
    ours = graph(name, CASES[name])
    torch.manual_seed(0)
    model = emit(ours, 0).double()
    x = frames(ours)
    rouse(model, x)
    for module in model.modules():
        if hasattr(module, "running_var"):  # (a running mean of no spike would divide by 0)
            module.momentum = 1.0
    with torch.no_grad():
        model(x)  # what evaluation takes is of this batch
    model.eval()
    layout = layout_of(ours)
    found = measure(model, layout, [(x, torch.zeros(BATCH))], only=ASKED, loss=projected)
    assert found.firing_rate is not None
    assert found.gradients is not None
    assert found.operations is not None
    seen = observe(model, x)
    modules = [name for name, module in model.named_modules() if isinstance(module, Neuron)]
    fired = dict(zip(modules, seen.spikes, strict=True))
    units = {layer.name: layer.kind.unit for layer in layout.neurons if layer.kind.is_integer}
    for rate in found.firing_rate.layers:
        wanted = float(fired[rate.layer].abs().mean()) / units[rate.layer]
        assert rate.rate == pytest.approx(wanted), rate.layer
    assert found.gradients.residual < 1e-9
    alone = len(seen.outputs) == 1  # else what is measured is the first output's gradient
    for norm in found.gradients.parameters if alone else ():
        whole = float(seen.gradients[norm.parameter].norm())
        assert norm.whole == pytest.approx(whole, abs=1e-9), norm.parameter
    facts = summarise(ours)
    assert found.operations.dense_macs == facts.macs + facts.additions
