"""Folded models compute the same as the model in eval mode, and cannot be trained."""

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.inference import fold
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.kernel_text import MODULE_ATTRIBUTES
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.inference import InferenceConv2d
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.built import Model
from tests.differential.helpers import randn, streamed, text
from tests.differential.networks import graph_of_neuron, small
from tests.fuzzing.compare import compiling

NETWORKS = {
    "danet_a": ("resnet18(width = 8) via pa_a", "norm", "spike ->"),
    "danet_b": ("resnet18(width = 8) via pa_b", "norm", "norm -> spike ->"),
    "danet_c": ("resnet18(width = 8) via origin by densely_additive", "norm -> spike", ""),
    "danet_d": ("resnet18(width = 8) via baa by densely_additive", "norm -> spike", ""),
    "origin_r50": ("resnet50(width = 4) via origin", "norm -> spike", ""),
    "tdbn": ("resnet18(width = 8) via tdbn_identity", "norm -> spike", ""),
    "baa_conv": ("resnet18(width = 8) via baa_conv", "norm -> spike", ""),
    "sew": ("resnet18(width = 8) via sew", "norm -> spike", ""),
    "sew_iand": ("resnet18(width = 8) via sew_iand", "norm -> spike", ""),
    "ms": ("resnet18(width = 8) via ms", "norm", "spike ->"),
    "densenet": (
        "(stage(dense(4), 3) -> transition -> stage(dense(4), 3)) via dense_layer by densely_concatenated",
        "norm -> spike",
        "norm -> spike ->",
    ),
}


def graph(key: str, neuron: str = "IF") -> Graph:
    stages, after_stem, before_head = NETWORKS[key]
    stem, head = f"conv(8) -> {after_stem}", f"{before_head} avgpool -> mean_over_time -> linear(5)"
    settings = f"neuron = {neuron}"
    return text(small(stages, input="image(3, 16, 16)", settings=settings, stem=stem, head=head))


@cache
def _trained(key: str, neuron: str, backend: str) -> Model:
    model = emit(graph(key, neuron), backend=backend).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.5 * noise + 0.1)
        for seed in range(3):
            model(randn(4, 3, 16, 16, seed=seed))
    return model.eval()


def trained(key: str, neuron: str = "IF", backend: str = "eager") -> Model:
    """A model in eval mode with the statistics of three batches and changed 1-dimensional parameters."""
    return copy.deepcopy(_trained(key, neuron, backend))


def spikes(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of the model, and the output of each neuron layer by name."""
    seen: dict[str, Tensor] = {}
    names = {module: name for name, module in model.named_modules() if isinstance(module, Neuron)}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        added = getattr(module, "_added", False)  # sums of whole numbers and spikes are exact
        seen[names[module]] = (y - inputs[0]).round() if added else y.clone()

    hooks = [module.register_forward_hook(keep) for module in names]
    with torch.inference_mode():
        y = model(x)
    for hook in hooks:
        hook.remove()
    return y, seen


def assert_same(folded: nn.Module, model: nn.Module, x: Tensor) -> None:
    (y, mine), (expected, theirs) = spikes(folded, x), spikes(model, x)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(mine[name], value), name
    assert min(float(value.mean()) for value in theirs.values()) > 0, "a silent layer shows nothing"
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


def test_compiled_kernels_give_the_same() -> None:
    model = trained("danet_d")
    folded = fold(model)
    for samples in (2, 1):
        assert_same(folded, model, randn(samples, 3, 16, 16, seed=9))


@pytest.mark.parametrize("neuron", ["PLIF(tau = 1.1)", "SlidingPSN(k = 3)"])
def test_neurons_that_learn_or_whose_input_is_a_state(neuron: str) -> None:
    """A layer that overwrites its input must not change a value that the next step reads."""
    model = trained("danet_d", neuron)
    with compiling(False):
        assert_same(fold(model), model, randn(3, 2, 3, 16, 16, seed=9))


REAL = """block factor { out = in * learn(1.0, per = channel) }
connection real { each = conv -> norm -> spike -> factor; projection = conv -> norm -> spike; out = branch + shortcut }
network n {
  input = image(3, 16, 16); steps = 3; neuron = IF; surrogate = sigmoid(alpha = 4)
  a = in -> conv(4) -> norm -> spike
  b = ((0.5 * learn(1.0, above = 0)) * a) -> conv(6, groups = 2) -> norm -> spike
  c = b -> stage(basic(6), 2, stride = 2) via real
  d = (c * learn(1.0, per = neuron)) -> conv(4) -> spike
  e = (d * learn(1.0, per = channel)) -> flatten -> linear(4) -> spike
  f = (e * learn(1.0, per = step)) -> linear(4) -> spike -> factor
  out = outputs(y = f -> linear(5), map = a * learn(1.0))
}"""


def test_learnt_factors_go_into_the_layers_that_read_them() -> None:
    """Real Spike: outputs are equal up to rounding, and each factor that stays has a reason."""
    model = emit(text(REAL)).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "learn" in name or parameter.dim() == 1:
                noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(noise - 0.2)
        for seed in range(4):
            model(randn(4, 3, 16, 16, seed=seed))
    folded, x = fold(model.eval()), randn(2, 3, 16, 16, seed=9)
    with torch.no_grad(), compiling(False):
        found, expected = folded(x), model(x)
    for mine, other in zip(found, expected, strict=True):
        assert float(other.std()) > 0.01
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    learnt, left = (
        {name.partition(".weight")[0] for name in each.state_dict() if "learn" in name}
        for each in (model, folded)
    )
    assert {*folded.factors.folded} == learnt - left
    assert len(folded.factors.folded) == 1 + 2 + 1 + 1  # b, an inner one of each block, e, f
    assert sorted(why.partition(" but ")[0] for why in folded.factors.kept.values()) == [
        "`c.0.blocks.0.add` adds values without this factor to the product",
        "`c.0.blocks.1.add` adds values without this factor to the product",
        "each pixel has its own number,",
        "each time step has its own numbers,",
        "the product is an output of the network",
    ]
    assert str(folded.factors).startswith("5 learnt factors folded, 5 kept\n")
    assert copy.deepcopy(folded).factors == folded.factors


def test_neurons_without_a_state() -> None:
    """An ANN: activations are not spikes, so they are compared up to rounding."""
    model = trained("danet_d", "ReLU")
    folded = fold(model)
    for x in (randn(2, 3, 16, 16, seed=9), randn(3, 2, 3, 16, 16, seed=9)):
        (y, mine), (expected, theirs) = spikes(folded, x), spikes(model, x)
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["fused", "spikingjelly"])
def test_models_of_every_backend_can_be_folded(backend: str) -> None:
    model = trained("baa_conv", backend=backend)
    folded = fold(model)
    eager = emit(graph("baa_conv")).double().eval()
    eager.load_state_dict(model.state_dict())
    assert_same(folded, eager, randn(2, 3, 16, 16, seed=9))


def test_norms_are_named() -> None:
    norms = fold(trained("danet_b")).norms
    assert "stem.norm" in norms.folded
    assert "head.norm" in norms.moved  # from after branch + shortcut onto the shortcut
    assert "stages.1.blocks.1.branch.norm1" in norms.kept
    assert "stages.1.blocks.1.branch.norm2" in norms.folded
    assert str(norms) == "12 norms folded, 1 moved before an addition, 8 kept"
    everything = fold(trained("origin_r50")).norms
    assert (len(everything.folded), everything.moved, everything.kept) == (53, (), ())


def test_a_sum_behind_a_neuron_is_part_of_its_region() -> None:
    model = trained("sew")
    folded = fold(model)
    assert not any("add" in getattr(module, "code", "") for module in folded.stages.modules())
    assert folded.stages[0].blocks[1].branch.spike2._added
    assert not folded.stem.spike._added
    traced = torch.fx.symbolic_trace(copy.deepcopy(folded))
    x = randn(2, 3, 16, 16, seed=9)
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(folded(x), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(traced(x), expected, rtol=1e-9, atol=1e-9)
        mean = sum(streamed(folded, [x] * 3)) / 3
        torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-9)


def test_a_sum_of_a_region_is_read_by_another() -> None:
    """`b` is part of the fusion group of the neuron before it, and the next group reads it from there."""
    lines = """network n {
      input = image(2, 4, 4); steps = 2; neuron = IF; surrogate = sigmoid
      a = in -> conv(2) -> spike
      b = a + (a -> conv(2) -> spike)
      out = outputs(b, b -> norm -> spike)
    }"""
    model = emit(text(lines)).double().eval()
    x = randn(3, 2, 4, 4)
    with torch.no_grad():
        for one, other in zip(fold(model)(x), model(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_region_is_one_call_and_static_parts_run_once() -> None:
    folded = fold(trained("danet_d"))
    code = folded.stages[0].blocks[1].code
    assert "add" not in code
    groups = [module for module in folded.modules() if isinstance(module, FusedNeuron)]
    assert len(groups) == 17
    assert {name for name in dir(groups[0]) if not name.startswith("_")} <= MODULE_ATTRIBUTES
    batches: list[int] = []
    folded.stem.conv.register_forward_hook(lambda _m, _i, y: batches.append(y.shape[0]))
    folded(randn(2, 3, 16, 16))
    folded(randn(3, 2, 3, 16, 16))
    assert batches == [2, 6]


def test_nothing_is_kept_and_nothing_is_trained() -> None:
    """Folding does not change the model."""
    model = trained("danet_d").train()
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    x = randn(2, 3, 16, 16)
    kept: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor)
    with torch.enable_grad(), hooks:
        y = folded(x)
    assert not kept
    assert not y.requires_grad
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert folded.eval() is folded
    with pytest.raises(RuntimeError, match="Train the model from which it was made"):
        folded.train()
    assert not any(module.training for module in folded.modules())
    with pytest.raises(RuntimeError, match="no gradients"):
        folded(x.requires_grad_())
    with torch.inference_mode():
        assert torch.equal(folded(x), y)
        again = fold(copy.deepcopy(folded))
    assert torch.equal(again(randn(2, 3, 16, 16)), y)
    assert again.state_dict().keys() == folded.state_dict().keys()
    again.stem.conv.weight.data.mul_(2)  # the weight is not an inference tensor
    for value in folded.state_dict().values():
        value.zero_()
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("last", [False, True])
def test_a_step_of_neurons_with_numbers_for_each(last: bool) -> None:
    """The neuron has parameters per channel and per step, and runs in both memory layouts."""
    learnt = "learn(0.9, per = channel) * learn(1.5, per = channel, per_step = true)"
    own = f"state u = 0.0;  v = u + {learnt} * x;  s = heaviside(v - 1.0);  u = v - s"
    model = emit(graph_of_neuron(own, "stage(basic(4), 2) via sew")).double()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            if parameter.dim() < 4:
                parameter.add_(0.3 * randn(*parameter.shape, seed=index).abs())
        for seed in range(3):
            model(randn(4, 3, 8, 8, seed=seed))
    folded, x = fold(model.eval()), randn(3, 3, 8, 8, seed=9)
    layout = torch.channels_last if last else torch.contiguous_format
    frames = [x.to(memory_format=layout)] * 3
    mean = sum(streamed(folded, frames)) / 3
    expected = model(x).detach()
    assert float(expected.std(0).mean()) > 0.01
    torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="3 time steps, not for more"):
        streamed(folded, [*frames, x])
    with pytest.raises(RuntimeError, match="has no gradients"):
        folded.stream(x.requires_grad_())


def test_only_models_with_a_topology() -> None:
    model = trained("sew")
    model.topology = None
    with pytest.raises(TypeError, match="topology"):
        fold(model)


CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": 1, "groups": 2},
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_a_convolution_with_its_weight_laid_out_is_torchs(options: dict[str, Any]) -> None:
    layer, plain = InferenceConv2d(4, 6, **options), nn.Conv2d(4, 6, **options)
    plain.load_state_dict(layer.state_dict())
    for count in (1, 5):
        x = randn(count, 4, 9, 7).float()
        with torch.no_grad():
            found = layer(x)
            torch.testing.assert_close(found, plain(x))
            assert found.is_contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(layer(x), plain(x))
        assert torch.equal(layer(x), plain(x))  # with gradients it equals torch's
    assert torch.equal(layer.double()(x.double()), plain.double()(x.double()))


def test_folded_in_float32_it_is_the_model() -> None:
    model = trained("sew").float()
    folded, x = fold(model), randn(3, 3, 16, 16, seed=9).float()
    assert isinstance(folded.stem.conv, InferenceConv2d)
    with torch.no_grad(), compiling(False):
        assert float(model(x).std(0).mean()) > 0.01
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
