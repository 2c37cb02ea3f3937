"""Measures of neurons that give other whole numbers than 0 and 1, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.layers.axes import Transform
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure import WeightLayer
from danetc.runtime.measure.operations import OperationCount, macs_of
from danetc.runtime.model.built import Model

from .conftest import measure

NEURONS = {
    "0 .. 4 of 1/4": "state u = 0; v = u + x; s = round(min(max(4 * v, 0), 4)) / 4; u = v - s",
    "-1 .. 1": "state u = 0; v = u + x; s = heaviside(v - 1) - heaviside(-v - 1); u = v - s",
    "0 .. 1 of 2": "state u = 0; v = u + x; h = heaviside(v - 0.5); s = 2 * h; u = v * (1 - h)",
    "analog": "state u = 0; u = 0.5 * u + x; s = u",
}
UNITS = {"0 .. 4 of 1/4": 0.25, "-1 .. 1": 1.0, "0 .. 1 of 2": 2.0}


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(4, 1, 4, 4, generator=generator) for _ in range(2)]
    return [(images, torch.zeros(4, dtype=torch.int64)) for images in x]


def network(body: str) -> Model:
    text = f"""use std
    neuron own {{ {body} }}
    network n {{
      input = image(1, 4, 4); steps = 3; neuron = own; surrogate = atan
      out = in -> conv(3) -> norm -> spike -> conv(2) -> norm -> spike -> avgpool -> linear(5)
    }}"""
    return emit(graph_of(check_text(text)))


def outputs_of(model: Model) -> list[Tensor]:
    """Of both layers of neurons, [T, N of all batches, ...]."""
    found: list[list[Tensor]] = [[], []]
    layers = [module for module in model.modules() if isinstance(module, Neuron)]
    hooks = [
        layer.register_forward_hook(lambda module, args, out, at=at: found[at].append(out))
        for at, layer in enumerate(layers)
    ]
    model.eval()
    with torch.no_grad():
        for x, _ in batches():
            model(x)
    for hook in hooks:
        hook.remove()
    return [torch.cat(each, 1) for each in found]


@pytest.mark.parametrize("kind", UNITS)
def test_a_rate_counts_units_of_either_sign(kind: str) -> None:
    model = network(NEURONS[kind])
    found = measure(model, batches(), only=["firing-rate"]).firing_rate
    assert not found.skipped
    for layer, out in zip(found.layers, outputs_of(model), strict=True):
        units = out.abs().double() / UNITS[kind]
        fired = out.ne(0).flatten(0, 1).any(0).double()
        assert layer.kind == kind
        assert layer.rate == pytest.approx(units.mean().item())
        assert layer.steps == pytest.approx(units.flatten(1).mean(1).tolist())
        assert layer.active == pytest.approx(out.ne(0).double().mean().item())
        assert layer.silent == pytest.approx(1 - fired.mean().item())
        assert 0 < layer.active <= layer.rate


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (NEURONS["analog"], "its neurons give real numbers"),
        ("s = max(x, 0)", "an activation function, whose neurons do not fire"),
    ],
)
def test_what_gives_real_numbers_has_no_rate(body: str, reason: str) -> None:
    found = measure(network(body), batches(), only=["firing-rate"]).firing_rate
    assert not found.layers
    assert {item.partition(": ")[2] for item in found.skipped} == {reason}
    assert len(found.skipped) == 2


@pytest.mark.parametrize("kind", NEURONS)
def test_operations_of_what_reads_them(kind: str) -> None:
    """Spikes of either sign and of any unit add; other whole numbers multiply."""
    model = network(NEURONS[kind])
    found = measure(model, batches(), only=["operations"]).operations
    layer = found.layers[1]
    out = outputs_of(model)[0].double()
    dense = 3 * 16 * 2 * 3 * 9
    assert (layer.kind, layer.dense) == (kind, dense)
    active = dense * out.ne(0).double().mean().item()
    if kind == "analog":
        expected = (0.0, dense)
    elif kind != "0 .. 4 of 1/4":
        expected = (active, 0.0)
    else:
        expected = (0.0, active)
    assert (layer.additions, layer.macs) == pytest.approx(expected)


def test_operations_of_products_and_transposed_convolutions() -> None:
    """Of an integer factor and a real one, pairs without a 0 are multiplied."""
    graded = Kind(0, 4, 1.0)
    for kinds, wanted in (((graded, ANALOG), 3.0), ((ANALOG, ANALOG), 4.0)):
        count = OperationCount(WeightLayer("it", True, (kinds,)))
        module = SimpleNamespace(factors=2, multiplied=lambda a, b: [(a, b)])
        a, b = torch.tensor([[2.0, 3.0]]), torch.tensor([[0.5, 0.25], [1.0, 0.0]])
        count.see(module, (a, b), a @ b)
        found = count.result(1)
        assert (found.dense, found.macs, found.additions) == (4.0, wanted, 0.0)
        assert found.active == 3 / 4
    spread = nn.ConvTranspose2d(2, 3, 2, stride=2)
    x = torch.zeros(1, 2, 4, 4)
    assert macs_of(spread, x, spread(x)) == 3 * 2 * 2 * x.numel()
    haar = Transform("haar", "rows", False, 3)
    assert macs_of(haar, x, haar(x)) == 4 * x.numel()
