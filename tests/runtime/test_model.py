"""Tracing, export, compilation, copies and streams keep a model's outputs and gradients."""

import copy
import gc
import io
import pickle
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler.emit.fx import emit
from danetc.runtime.model.built import Model, ScopeModule
from danetc.runtime.model.stepping import STEP
from tests.compiler.emit.graphs import resnet
from tests.differential.helpers import randn, streamed, text

NEURONS = ["IF", "PLIF", "ReLU"]
BATCH = torch.export.Dim("batch", min=1)


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


def assert_same(one: Any, other: Any, tolerance: float = 0.0) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# -- transformations of models --------------------------------------------------------------------


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
    model, x, y = model_of(blocks=1), randn(2, 4, 3, 8, 8), randn(2, 5, 3, 8, 8)
    shapes = ({1: torch.export.Dim("batch", min=2)},)
    exported = torch.export.export(copy.deepcopy(model), (x,), dynamic_shapes=shapes, strict=True)
    assert_same(run(model, y), run(exported.module(), y))


SPEC = """
use std
network net {
  input = image(1, 6, 6); steps = 3; neuron = PLIF; surrogate = atan
  out = in -> conv(3) -> norm -> spike -> conv(3) -> norm -> spike
    -> avgpool(2) -> mean_over_time -> linear(4)
}
"""


@pytest.fixture
def plain() -> Model:
    """A model whose norms have seen three batches."""
    made = danetc.build(text=SPEC, backend="eager")
    with torch.no_grad():
        for seed in range(3):
            made(images(8, seed))
    return made.eval()


@pytest.fixture
def fused(plain: Model) -> Model:
    made = danetc.build(text=SPEC, backend="fused").eval()
    made.load_state_dict(plain.state_dict())
    return made


def images(count: int, seed: int) -> Tensor:
    """Noise images, each with a larger scale than the one before."""
    noise = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (1 + torch.arange(count).view(-1, 1, 1, 1)) * noise


@pytest.mark.thorough
def test_torch_writes_onnx_of_a_built_model(plain: Model, fused: Model) -> None:
    x = images(5, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns
        program = torch.onnx.export(
            fused, (x,), dynamo=True, dynamic_shapes=({0: BATCH},), verbose=False
        )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for given in (x, x[3:]):
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        expected = plain(given).detach()
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-5)
        assert expected.std(0).max() > 0.01


@pytest.mark.thorough
def test_a_program_without_gradients_has_torchs_operations_alone(fused: Model) -> None:
    x = torch.rand(2, 1, 6, 6)
    with torch.no_grad():
        program = torch.export.export(fused, (x,), dynamic_shapes=({0: BATCH},))
    program = program.run_decompositions()  # expands operators composed of torch's operators
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("danetc" in target for target in targets)
    torch.export.save(program, io.BytesIO())
    trained = torch.export.export(fused, (x,))
    assert "danetc" in str(trained.graph)  # the backward pass needs the surrogate


@pytest.mark.thorough
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.usefixtures("fresh_dynamo")
def test_compile_finds_no_graph_break(neuron: str) -> None:
    model = model_of(neuron, blocks=1, widths=(4,), steps=2)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    for size in (4, 6) if neuron == "PLIF" else (4,):  # the second is compiled for any batch
        x = randn(size, 3, 8, 8)
        assert_same(run(model, x), gradients(compiled, compiled(x)), 1e-12)
    assert_same([*model.buffers()], [*compiled.buffers()], 1e-12)


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
    for parameter in clone.parameters():
        parameter.data.zero_()
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
    """Weights are freed without Python's cycle collector: a sweep over models would hold many at once."""
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
    assert gone() is None  # no cache keeps a model alive


TIMED = """
network net {
  input = image(3, 8, 8) -> latency(tau = 1.0); steps = 3; neuron = IF; surrogate = atan
  a = in -> conv(4) -> tebn -> spike -> conv(4) -> batchnorm(per_step = true) -> spike
  out = outputs(a -> avgpool -> mean_over_time -> linear(5), a)
}
"""
"""Norms with parameters per step, a time code, and two outputs, one of which varies over time."""


def test_streaming_with_what_depends_on_the_step() -> None:
    model = emit(text(TIMED)).double()
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
