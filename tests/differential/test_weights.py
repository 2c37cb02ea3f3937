"""Layers that are applied to weights: the same as weights that were computed before, in all forms."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import weights_of
from danetc.runtime.layers.weight_layer import computed_state
from danetc.runtime.model.weights import match
from danetc.runtime.training.backward import Part, make_backward
from tests.differential.helpers import randn, text
from tests.runtime.training.common import phase

SPEC = """
block standardised(eps = 0.00001, gain = learn(1.0, per = channel)) {
  m = in - (in -> mean(over = pixels))
  out = gain * m / sqrt(((m * m) -> mean(over = pixels)) + eps)
}
block other(gain = learn(1.0, per = channel), eps = 0.00001) {
  c = in - (in -> mean(over = pixels))
  out = (c * gain) / sqrt(eps + ((c * c) -> mean(over = pixels)))
}
neuron clipped(low, high) { s = round(min(max(x, low), high)) }
block quantised(bits) {
  a = learn(0.02, above = 0)
  out = a * ((in / a) -> clipped(-(2 * bits), 2 * bits - 1))
}
neuron sign { s = 2 * heaviside(x) - 1 }
block binary { out = (in -> sign) * (abs(in) -> mean(over = pixels)) }
network net {
  input = image(3, 8, 8); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  LINES
}"""
NET = SPEC.replace(
    "LINES",
    """stem = conv(8, weight = LAYER) -> norm -> spike
  head = conv(4, stride = 2, groups = 2) -> norm -> spike -> avgpool -> mean_over_time -> linear(5)""",
)


def standardised(weight: Tensor) -> Tensor:
    """Weights as in OTTT (Xiao et al., NeurIPS 2022) with a gain of 1."""
    of = (1, 2, 3)
    return (weight - weight.mean(of, keepdim=True)) / torch.sqrt(
        weight.var(of, unbiased=False, keepdim=True) + 1e-5
    )


def quantised(weight: Tensor) -> Tensor:
    return 0.02 * torch.round(torch.clamp(weight / 0.02, -8, 7))


def binary(weight: Tensor) -> Tensor:
    return torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean((1, 2, 3), keepdim=True)


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize(
    ("layer", "function"),
    [("standardised", standardised), ("quantised(4)", quantised), ("binary", binary)],
)
def test_it_is_the_network_with_computed_weights(
    layer: str, function: Callable[[Tensor], Tensor], backend: str
) -> None:
    model = emit(text(NET.replace("LAYER", layer)), 0, backend)
    plain = emit(text(NET.replace("LAYER", "none")), 0, backend)
    raw = model.stem.conv.weight_raw
    assert torch.equal(raw, plain.stem.conv.weight)  # initialised alike
    with torch.no_grad():
        plain.stem.conv.weight.copy_(function(raw))
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.stem.conv.weight, plain.stem.conv.weight, rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # and now bit for bit
        plain.stem.conv.weight.copy_(model.stem.conv.weight)
    for training in (True, False):
        assert torch.equal(model.train(training)(x), plain.train(training)(x))
    model.train()(x).square().sum().backward()
    plain.train()(x).square().sum().backward()
    (expected,) = torch.autograd.grad(model.stem.conv.weight, raw, plain.stem.conv.weight.grad)
    assert raw.grad is not None
    assert torch.allclose(raw.grad, expected, rtol=1e-4, atol=1e-6)


def test_it_folds_and_its_state_loads() -> None:
    model = emit(text(NET.replace("LAYER", "standardised")), 1)
    x = torch.rand(4, 3, 8, 8)
    for _ in range(3):
        model.train()(x)
    folded = danetc.fold(model.eval())
    assert torch.allclose(folded(x), model(x), atol=1e-5)
    assert "stem.conv.weight" in folded.state_dict()
    assert not any("weight_layer" in name for name in folded.state_dict())
    state = computed_state(model)
    plain = emit(text(NET.replace("LAYER", "none")))
    plain.load_state_dict(state)
    assert torch.equal(plain.eval()(x), model(x))


def test_identity_is_no_layer_and_settings_reach_every_layer() -> None:
    plain, same = text(NET.replace("LAYER", "none")), text(NET.replace("LAYER", "identity"))
    assert compare_graphs(plain, same) == Same(compare_graphs(plain, plain).weights)  # type: ignore[union-attr]
    setting = "weight = standardised\n  out = in -> conv(4) -> linear(5, weight = none)"
    graph = text(SPEC.replace("LINES", setting))
    assert [*emit(graph).state_dict()] == [
        "conv.weight_raw", "conv.weight_layer.standardised.gain.weight", "linear.weight",
        "linear.bias",
    ]  # fmt: skip
    assert sum(weights_of(graph, node) for node in graph.nodes.values()) == 108 + 4 + 1285


def test_equivalence_compares_the_layers_of_weights() -> None:
    one, same, other = (
        text(NET.replace("LAYER", layer), ()) for layer in ("standardised", "other", "binary")
    )
    assert isinstance(compare_graphs(one, same), Same)
    assert "with weight standardised and binary" in compare_graphs(one, other).reason  # type: ignore[union-attr]
    more = text(NET.replace("LAYER", "standardised(eps = 0.1)"), ())
    assert "other layers applied to the weight" in compare_graphs(one, more).reason  # type: ignore[union-attr]


def test_weights_of_the_plain_network_are_taken() -> None:
    """By name, and by order under other names."""
    model = emit(text(NET.replace("LAYER", "quantised(4)")), 1)
    plain = emit(text(NET.replace("LAYER", "none")), 2).state_dict()
    renamed = {
        name.replace("stem", "first").replace("head", "last"): x for name, x in plain.items()
    }
    for file, how in ((plain, "name"), (renamed, "order"), (model.state_dict(), "name")):
        report = match(model, file)
        assert (report.how, report.unexpected) == (how, ())
        assert set(report.missing) <= {"stem.conv.weight_layer.quantised.a.weight_raw"}
        stored = file[report.matched["stem.conv.weight_raw"]]
        assert torch.equal(report.state["stem.conv.weight_raw"], stored)
        model.load_state_dict(report.state)


def test_masks_depend_on_the_seed_and_the_name_alone() -> None:
    line = (
        "out = in -> conv(8, weight = mask(0.3)) -> conv(8, kernel = 1, weight = mask(parts = 4))"
    )
    graph = text(SPEC.replace("LINES", line))
    masks = [dict(emit(graph, seed).named_buffers()) for seed in (1, 1, 2)]
    first, parts = masks[0].values()
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert not any(torch.equal(masks[0][name], masks[2][name]) for name in masks[0])
    assert 0.2 < float(first.mean()) < 0.4
    assert torch.equal(parts.view(4, 2, 8).sum(0), torch.ones(2, 8))  # each entry in one part
    assert torch.equal(parts.view(4, 2, 8).sum(2), torch.full((4, 2), 2.0))  # and equal shares
    more = line.replace("out = in", "out = in -> conv(3)").replace(
        "conv(8, weight", "conv(8, bias = true, weight"
    )
    other = emit(text(SPEC.replace("LINES", more)), 1)  # conv2 and conv3 are other names
    assert not torch.equal(other.conv2.weight_layer.mask.mask, first)
    kept = emit(
        text(SPEC.replace("LINES", line.replace("conv(8, weight", "conv(8, bias = true, weight"))),
        1,
    )
    assert torch.equal(kept.conv1.weight_layer.mask.mask, first)


@pytest.mark.parametrize("layer", ["standardised", "quantised(4)", "mask(0.5)"])
def test_online_traces_give_the_gradient_of_the_result(layer: str) -> None:
    """The chain rule takes the gradient of computed weights, traced as plain ones, to the raw weights."""
    chosen = phase("epochs = 1; optimizer = sgd(lr = 0.1); gradient = online(trace = 0.5)")
    model, plain = (emit(text(NET.replace("LAYER", of)), 0).double() for of in (layer, "none"))
    with torch.no_grad():
        plain.stem.conv.weight.copy_(model.stem.conv.weight)
    x = randn(2, 3, 8, 8)
    for each in (model, plain):
        part = Part(
            each,
            each,
            x,
            lambda y, share, **rest: share * y.square().sum(),
            Tensor.backward,
            nullcontext,
        )
        make_backward(chosen.gradient)(part)
    raw = model.stem.conv.weight_raw
    (expected,) = torch.autograd.grad(model.stem.conv.weight, raw, plain.stem.conv.weight.grad)
    assert float(expected.abs().max()) > 0
    assert torch.allclose(raw.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ending", ["onnx", "nir", "pt2", "py"])
def test_files_compute_the_same(ending: str, tmp_path: Path) -> None:
    """``export`` reads each file back and compares it with the model."""
    spec = tmp_path / "net.danet"
    lines = NET.replace("LAYER", "standardised").replace("head =", "weight = kept\n  head =")
    lines = lines.replace("= LIF", "= LIF(v_threshold = 0.1)")
    spec.write_text(f"# allow W0102\nuse std\nblock kept {{ out = in -> mask(0.7) }}\n{lines}")
    done = danetc.export(spec, tmp_path / f"file.{ending}")
    assert done.compared is not None
    assert done.compared.agreeing > 90
