"""A model survives what is done to models: equal outputs and equal gradients after each."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.runtime.model.built import Model, ScopeModule
from danetc.runtime.model.stepping import STEP
from tests.compiler.emit.graphs import Net, head, resnet
from tests.differential.helpers import randn, streamed
from tests.differential.networks import variety

NEURONS = ["IF", "PLIF", "ReLU"]


def model_of(neuron: str = "IF", **options: Any) -> Model:
    return emit(resnet(neuron, **options)).double()


def gradients(model: Any, y: Tensor) -> list[Tensor]:
    """The output and the gradient of each parameter for a fixed weighting of the output."""
    weights = torch.arange(y.numel(), dtype=y.dtype).view(y.shape).cos()
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad((y * weights).sum(), list(parameters.values()))
    assert any(bool(grad.abs().sum() > 0) for grad in found)
    return [y.detach(), *found]


def run(model: Any, x: Tensor) -> list[Tensor]:
    return gradients(model, model(x))


def assert_same(one: list[Tensor], other: list[Tensor], tolerance: float = 0.0) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# -- what is done to models -----------------------------------------------------------------------


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lead", [(4,), (3, 4)])
def test_fx_traces_it_again(neuron: str, training: bool, lead: tuple[int, ...]) -> None:
    model = model_of(neuron).train(training)
    traced = torch.fx.symbolic_trace(copy.deepcopy(model))
    x = randn(*lead, 3, 8, 8)
    assert_same(run(model, x), run(traced, x))
    assert not isinstance(traced, ScopeModule)


@pytest.mark.thorough
def test_export_for_training_of_a_sequence() -> None:
    model = model_of(blocks=1)
    x = randn(2, 4, 3, 8, 8)
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(
        copy.deepcopy(model), (x,), dynamic_shapes=({1: batch},), strict=True
    )
    y = randn(2, 5, 3, 8, 8)
    assert_same(run(model, y), run(exported.module(), y))


@pytest.mark.thorough
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.usefixtures("fresh_dynamo")
def test_compile_finds_no_graph_break(neuron: str) -> None:
    model = model_of(neuron, blocks=1, widths=(4,), steps=2)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    for size in (4, 6) if neuron == "PLIF" else (4,):  # the second is compiled for any batch
        x = randn(size, 3, 8, 8)
        assert_same(run(model, x), gradients(compiled, compiled(x)), 1e-12)
    for (name, a), b in zip(model.named_buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_copy_is_equal_and_its_own(neuron: str) -> None:
    model = model_of(neuron)
    x = randn(4, 3, 8, 8)
    clone = copy.deepcopy(model)
    assert type(clone).__mro__[1] is Model
    assert repr(clone) == str(clone) == repr(model)
    assert clone.topology is model.topology
    assert clone.stages[1].blocks[2].code == model.stages[1].blocks[2].code
    result = run(model, x)
    assert_same(result, run(clone, x))
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.zero_()
    assert_same(result, run(model, x))
    part = copy.deepcopy(model.stages[0].blocks)
    y = model.stem(x)
    assert torch.equal(part(y), model.stages[0].blocks(y))
    assert len(part) == 3


def test_a_copy_keeps_shared_parameters_and_hooks() -> None:
    model = model_of()
    model.stages[0].blocks[1].branch.conv1.weight = model.stages[0].blocks[0].branch.conv1.weight
    seen: list[str] = []
    model.stem.register_forward_hook(lambda *_: seen.append("stem"))
    clone = copy.deepcopy(model)
    blocks = clone.stages[0].blocks
    assert blocks[0].branch.conv1.weight is blocks[1].branch.conv1.weight
    clone(randn(2, 3, 8, 8))
    assert seen == ["stem"]


def test_weights_go_with_the_last_name_of_a_model() -> None:
    """Without Python's search for circles: a sweep over models would hold many at once."""
    gc.disable()
    try:
        model = model_of()
        models = [model, copy.deepcopy(model)]
        weights = [weakref.ref(next(each.parameters())) for each in models]
        for each in models:
            run(each, randn(2, 3, 8, 8))
        del model, models, each
        assert [weight() for weight in weights] == [None] * 2
    finally:
        gc.enable()


def test_a_model_is_not_pickled() -> None:
    with pytest.raises(TypeError, match=r"save model.state_dict\(\)"):
        pickle.dumps(model_of().stages)


# -- streaming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", NEURONS)
def test_streaming_gives_what_forward_gives(neuron: str) -> None:
    model = model_of(neuron).eval()
    frames = randn(5, 4, 3, 8, 8)
    mean = torch.stack(streamed(model, frames)).mean(0)
    assert_same(gradients(model, model(frames)), gradients(model, mean), 1e-12)
    x = frames[0]
    torch.testing.assert_close(
        torch.stack(streamed(model, x.expand(3, *x.shape))).mean(0),
        model(x),
        rtol=1e-12,
        atol=1e-12,
    )


def test_streaming_with_concatenations_that_only_fused_neurons_read() -> None:
    model = emit(variety("densenet"), 0, "fused").eval()
    x = torch.randn(
        2, *model.topology.input.value.shape, generator=torch.Generator().manual_seed(0)
    )
    mean = torch.stack(streamed(model, [x] * model.topology.steps)).mean(0)
    torch.testing.assert_close(mean, model(x))


def test_states_are_values() -> None:
    model = model_of().eval()
    frames = randn(4, 2, 3, 8, 8)
    _, early = model.stream(frames[0])
    kept = {name: [u.clone() for u in early[name]] for name in early.keys() - {STEP}}
    one, later = model.stream(frames[1], early)
    again, _ = model.stream(frames[1], early)
    assert torch.equal(one, again)
    assert (early[STEP], later[STEP]) == (1, 2)
    assert early.keys() == later.keys()
    assert "stages.1.blocks.0.branch.spike" in early
    for name, states in kept.items():
        assert torch.equal(early[name][0], states[0])
    fresh, _ = model.stream(frames[0])
    assert torch.equal(fresh, streamed(model, frames[:1])[0])


def test_another_layer_is_met_when_a_stream_begins() -> None:
    model = model_of().eval()
    frames = randn(2, 2, 3, 8, 8)
    before = streamed(model, frames)
    with torch.no_grad():
        model.stem.spike = torch.nn.Identity()
        after = streamed(model, frames)
    assert not torch.equal(before[1], after[1])
    assert "stem.spike" not in model.stream(frames[0])[1]
    with torch.no_grad():
        model.stem.conv = copy.deepcopy(model.stem.conv)
        model.stem.conv.weight.mul_(-1)
        assert torch.equal(sum(streamed(model, frames)) / 2, model(frames))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None  # what is remembered of a model ends with it


def timed() -> Graph:
    """Norms with parameters for each step, a time code, two outputs of which one varies."""
    net = Net(steps=3)
    with net.within("code"):
        x = net("latency", 0, tau=1.0)
    with net.within("stem"):
        x = net("tebn", net("conv", x, width=4, name="conv"), name="norm")
        x = net.spike(x)
    with net.within("block"):
        x = net("batchnorm", net("conv", x, width=4, name="conv"), name="norm", per_step=True)
        x = net.spike(x)
    return net.finish(head(net, x), x)


def test_streaming_with_what_depends_on_the_step() -> None:
    model = emit(timed()).double()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.add_(0.5 * randn(*parameter.shape, seed=index))
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    model(x)
    model.eval()
    y, spikes = model(x)
    outputs = streamed(model, x.expand(3, *x.shape))
    assert torch.equal(torch.stack([s for _, s in outputs]), spikes)
    torch.testing.assert_close(torch.stack([o for o, _ in outputs]).mean(0), y)
    assert not torch.equal(spikes[0], spikes[1])
    with pytest.raises(ValueError, match="norms for 3 steps"):
        streamed(model, x.expand(4, *x.shape))


# -- what a model knows of itself -----------------------------------------------------------------
