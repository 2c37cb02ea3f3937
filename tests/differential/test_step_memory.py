"""The memory of a training step, computed without values, compared with a real step."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.allocated import peak_bytes, saved_bytes
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.recompute import POLICIES
from danetc.runtime.layers.segments import Recomputed
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.training.state import autocast
from danetc.tasks.memory import Step, plain_step, size_of, step_memory
from tests.differential.helpers import spec, text
from tests.differential.looped import LOOPED
from tests.differential.networks import small, variety

CONSTANTS = 128
"""Tolerance in bytes: torch saves some numbers as tensors of 8 bytes, which no operator creates."""
EVERY = [(backend, policy) for backend in ("eager", "fused") for policy in POLICIES]


def batch_of(graph: Graph, batch: int) -> tuple[Tensor, Tensor]:
    steps = [graph.steps] * taken(graph).varies
    x = torch.rand(*steps, batch, *taken(graph).shape)
    return x, torch.zeros(batch, dtype=torch.int64)


def check_exact(graph: Graph, *cases: tuple[str, str, str], batch: int = 2) -> None:
    """Compare the bytes that a forward pass saves, for cases of a backend, a policy and a precision."""
    x, labels = batch_of(graph, batch)
    outputs: list[Any] = []

    def forward(model: Model, step: Step, precision: str) -> Tensor:
        with autocast(precision, torch.device("cpu")):
            outputs[:] = [model(x)]
            return step.loss(model, {})(outputs[0], labels, x)

    for backend, policy, precision in cases:
        step = plain_step(graph, backend, batch, precision)
        model = emit(graph, backend=backend, memory=policy)
        found = step_memory(step, policy)
        real = saved_bytes(partial(forward, model, step, precision))
        real -= size_of(outputs_of(outputs[0]))
        assert 0 <= real - found.saved <= CONSTANTS, (backend, policy, precision)
        assert found.weights == size_of([*model.parameters(), *model.buffers()])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_is_saved_is_exact(precision: str) -> None:
    graph = text(small("stage(basic(4), 1) via origin"))
    check_exact(graph, *((*each, precision) for each in EVERY))


@pytest.mark.thorough
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_what_a_resnet_saves_is_exact(precision: str) -> None:
    graph = spec("danet_c_r18", image=32, width=16, steps=2)
    check_exact(graph, *((*each, precision) for each in EVERY))


RARE = [
    "tdbn", "tebn", "per_step", "cumulative", "by_step", "scheduled", "groupnorm", "dropped",
    "own_neurons", "bottleneck", "densenet", "sew_iand", "attention", "functions", "axes", "swapped",
    "over_time", "along", "ordinary", "causal", "windows", "learnt_in_blocks", "learnt_values",
    "unet", "poisson",
]  # fmt: skip
"""Networks that save bits, copies, constants or random states, or have several outputs."""


@pytest.mark.thorough
@pytest.mark.parametrize("name", RARE)
def test_what_is_rare_is_exact(name: str) -> None:
    check_exact(variety(name), *((*each, p) for each in EVERY for p in ("float32", "bf16")))


@pytest.mark.thorough
@pytest.mark.parametrize("name", LOOPED)
def test_what_loops_save_is_exact(name: str) -> None:
    check_exact(text(LOOPED[name]), *((*each, "float32") for each in EVERY), batch=3)


FIRST = """
network first {
  input = events(2, 4, 4); steps = 3; neuron = IF; surrogate = atan
  out = in -> LAYER -> spike -> linear(5) -> mean_over_time
}
"""


@pytest.mark.parametrize(
    "layer", ["linear(12)", "linear(over = time)", "linear(over = time, window = 2)"]
)
def test_a_layer_of_the_images_is_exact(layer: str) -> None:
    """Images need no gradient, so the weights of the layer are not saved."""
    graph = text(FIRST.replace("LAYER", layer))
    check_exact(graph, ("eager", "none", "float32"), ("fused", "none", "bf16"))


@pytest.mark.thorough
@pytest.mark.parametrize(("backend", "policy"), EVERY)
def test_the_peak_is_that_of_a_step(backend: str, policy: str) -> None:
    """The estimate has no workspace of convolutions, which matters most if the rest is recomputed."""
    check_peak(spec("sew_r18", image=64), backend, policy, 8, 0.2 if backend == "eager" else 0.02)


@pytest.mark.parametrize("batch", [2, 64])
def test_the_peak_of_linear_layers(batch: int) -> None:
    graph = text(FIRST.replace("LAYER", "linear(64) -> spike -> linear(32)"))
    check_peak(graph, "fused", "none", batch, 0.01)


def check_peak(graph: Graph, backend: str, policy: str, batch: int, tolerance: float) -> None:
    step = plain_step(graph, backend, batch)
    model = emit(graph, backend=backend, memory=policy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, labels = batch_of(graph, batch)

    def run() -> None:
        optimizer.zero_grad()
        step.loss(model, {})(model(x), labels, x).backward()
        optimizer.step()

    run()
    optimizer.zero_grad()
    found = step_memory(step, policy)
    held = found.weights + found.optimizer + size_of([x, labels])
    assert found.peak == pytest.approx(held + peak_bytes(run), rel=tolerance)


@pytest.mark.parametrize(("backend", "policy"), EVERY)
def test_a_step_without_values_leaves_nothing_behind(backend: str, policy: str) -> None:
    """It changes neither the random state nor the output of a later step."""
    graph = text(FIRST.replace("LAYER", "stage(basic(2), 1) via sew"))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    x = torch.rand(3, 2, *taken(graph).shape)
    plain = emit(graph, backend=backend, memory=policy)(x)
    torch.set_rng_state(before)
    step_memory(plain_step(graph, backend, 2), policy)
    assert torch.equal(torch.get_rng_state(), before)
    model = emit(graph, backend=backend, memory=policy)
    assert torch.equal(model(x), plain)
    assert any(isinstance(module, Recomputed) for module in model.modules()) is (policy != "none")
