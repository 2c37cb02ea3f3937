"""A measured network gives what it gives unmeasured, bit for bit, and is left as it was."""

from __future__ import annotations

import copy
import re
from math import inf
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.compiler.emit.layout import eager_twin
from danetc.errors import UserError
from danetc.runtime.measure import MEASURES, Measures
from danetc.runtime.measure.observe import observed
from danetc.runtime.measure.observers import BlockOutputs, GradientStability, NeuronSums
from danetc.runtime.measure.operations import OperationCount
from danetc.runtime.model.built import Model

from .conftest import DENSE, SPEC, batch, build, layout, measure


def results(model: Model, x: Tensor, labels: Tensor) -> list[Tensor]:
    """Output and gradients of a training step."""
    model.zero_grad()
    output = model(x)
    torch.nn.functional.cross_entropy(output, labels).backward()
    return [output.detach(), *(value.grad.clone() for value in model.parameters())]  # type: ignore[union-attr]


@pytest.mark.parametrize("training", [False, True])
def test_a_pass_under_observation_is_the_same(wiring: str, training: bool) -> None:
    model = build(wiring).train(training)
    x, labels = batch()
    start = copy.deepcopy(model.state_dict())
    expected = results(model, x, labels)
    buffers = copy.deepcopy(model.state_dict())
    model.load_state_dict(start)
    where = layout(model)
    neurons = [NeuronSums(each, model.get_submodule(each.name), MEASURES) for each in where.neurons]
    watching = [*neurons, *map(OperationCount, where.weights)]
    blocks = [(name, BlockOutputs(index).see) for name, index in where.stages[0].blocks]
    with observed(model, [(each.layer.name, each.see) for each in watching], blocks):
        found = results(model, x, labels)
    assert all(map(torch.equal, found, expected))
    assert all(torch.equal(value, buffers[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("backend", ["eager", "fused", "spikingjelly"])
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_the_model_is_left_as_it_was(backend: str, statistics: str) -> None:
    if backend == "spikingjelly":
        pytest.importorskip("spikingjelly")
    model = build(backend=backend).train()
    x, labels = batch()
    start = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    measure(model, [(x, labels)], statistics=statistics)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    other = build(backend=backend).train()
    assert all(map(torch.equal, results(model, x, labels), results(other, x, labels)))


def test_another_backend_is_measured_on_a_twin_of_the_same_tensors() -> None:
    """A fusion group hides its neuron's input, so the eager backend runs the same weights."""
    fused = build(backend="fused")
    twin = eager_twin(fused)
    assert twin is not fused
    theirs = dict(fused.named_parameters())
    assert all(value is theirs[name] for name, value in twin.named_parameters())
    eager = build()
    assert eager_twin(eager) is eager
    x, labels = batch()
    assert measure(fused, [(x, labels)]) == measure(eager, [(x, labels)])
    rates = measure(fused, [(x, labels)], only=["firing-rate"]).firing_rate
    # What the fused kernels themselves fire: they may round otherwise at the threshold.
    fired: dict[str, float] = {}
    for name, module in fused.named_modules():
        if name.endswith("spike"):
            module.register_forward_hook(
                lambda _, args, out, name=name: fired.update({name: float(out.detach().mean())})
            )
    fused(x)
    for layer in rates.layers:
        assert layer.rate == pytest.approx(fired[layer.layer], abs=0.01)


def test_recomputed_blocks_are_seen_once() -> None:
    x, labels = batch()
    recomputed = measure(build(memory="recompute"), [(x, labels)])
    assert recomputed == measure(build(), [(x, labels)])


@pytest.mark.thorough
def test_what_cannot_be_measured() -> None:
    import danetc

    with pytest.raises(UserError, match="folded"):
        measure(danetc.fold(build()), [batch()])
    images, labels = batch()
    for data, told in (
        ([], "no batch"),
        ([batch(), (torch.rand(4, 5, 6, 6), labels)], "batch 2 of [4, 5, 6, 6]: the model takes [N, 2,"),
        ([batch(), (torch.rand(4, 2, 8, 8), labels)], "batch 2 of [4, 2, 8, 8]: the model takes [N, 2,"),
        ([(images.numpy(), labels)], "batch 1 is not a pair of tensors (images, labels)"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=re.escape(told)):
            measure(build(), data)
    with pytest.raises(UserError, match="there is no measure rate; "):
        measure(build(), [batch()], only=["rate"])
    tiny = danetc.build(text=SPEC.format(steps=1, wiring=DENSE).replace("6, 6", "1, 1"))
    with pytest.raises(UserError, match=r"batch 1 of \[1, 2, 1, 1\]: .* more than one value"):
        measure(tiny, [(torch.rand(1, 2, 1, 1), torch.tensor([0]))], statistics="batch")
    broken = build()
    with torch.no_grad():
        broken.stem.conv.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"stem\.spike: there are values that are not finite"):
        measure(broken, [batch()])
    bad = build()
    with torch.no_grad():
        bad.head.linear.weight.fill_(float("inf"))
    with pytest.raises(UserError, match="loss is not finite"):
        measure(bad, [batch()], only=["gradients"])


def test_a_product_too_large_for_a_number_is_json() -> None:
    """Of hundreds of layers, for instance."""
    stability = GradientStability((), 900, inf, 400.0, 2.8, ())
    measures = Measures(layout(build()), 1, 1, "running", gradient_stability=stability)
    found: Any = measures.as_dict()["gradient_stability"]
    assert (found["overall"], found["log10_overall"]) == (None, 400.0)
