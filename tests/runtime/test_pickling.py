"""A model that was pickled is the model: class, names, code, numbers, gradients and what it knows."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.runtime.model.built import Model, ScopeModule
from danetc.tasks.inputs import taken
from tests.differential.helpers import text
from tests.differential.networks import small

SHORT = small("stage(basic(4), 2) via origin by densely_additive")


def through_pickle(module: nn.Module) -> nn.Module:
    found = pickle.loads(pickle.dumps(module))
    assert isinstance(found, nn.Module)
    return found


def through_torch(module: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    found = torch.load(stream, weights_only=False)
    assert isinstance(found, nn.Module)
    return found


def sample(graph: Graph) -> Tensor:
    lead = (3, 2) if taken(graph).varies else (2,)
    return torch.rand(*lead, *taken(graph).shape, generator=torch.Generator().manual_seed(0))


def flat(result: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def numbers(model: nn.Module, x: Tensor) -> list[Tensor]:
    """A training step: outputs, gradients, the statistics that moved; then outputs in eval mode."""
    torch.manual_seed(0)
    model.train()
    model.zero_grad()
    outputs = flat(model(x))
    sum((y * torch.arange(y.numel()).view(y.shape).cos()).sum() for y in outputs).backward()  # type: ignore[union-attr]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert any(bool(grad.abs().sum() > 0) for grad in gradients)
    model.eval()
    with torch.no_grad():
        found = flat(model(x))
    return [*(y.detach() for y in outputs), *gradients, *model.buffers(), *found]


def assert_same_model(one: Model, other: nn.Module) -> None:
    assert isinstance(other, Model)
    assert [(n, type(m).__name__, m.training) for n, m in one.named_modules()] == [
        (n, type(m).__name__, m.training) for n, m in other.named_modules()
    ]
    assert list(one.state_dict()) == list(other.state_dict())
    for mine, theirs in zip(one.modules(), other.modules(), strict=True):
        if isinstance(mine, ScopeModule):
            assert isinstance(theirs, ScopeModule)
            assert mine.code == theirs.code
            assert [n.meta for n in mine.graph.nodes] == [n.meta for n in theirs.graph.nodes]
    assert other.topology == one.topology
    assert other.signature == one.signature


@pytest.mark.parametrize("through", [through_pickle, through_torch])
@pytest.mark.parametrize("memory", ["none", "recompute"])
@pytest.mark.parametrize("backend", ["eager", "fused", "spikingjelly"])
def test_every_backend(
    backend: str, memory: str, through: Callable[[nn.Module], nn.Module]
) -> None:
    """Also after it has run, which leaves plans in it, and out of a copy."""
    graph = text(SHORT)
    model = emit(graph, 1, backend, memory)
    x = sample(graph)
    numbers(model, x)
    again = through(through(model))
    assert_same_model(model, again)
    for a, b in zip(numbers(model, x), numbers(again, x), strict=True):
        assert torch.equal(a, b)
    assert isinstance(again, Model)
    assert torch.equal(again.stream(x)[0], model.stream(x)[0])
    assert again.stages[0].blocks[1].code == model.stages[0].blocks[1].code
    assert again._repr_html_() == model._repr_html_()


def test_what_users_change_is_kept() -> None:
    model = emit(text(SHORT)).double()
    model.head.linear = nn.Linear(4, 3).double()
    model.stages[0].requires_grad_(False)
    model.note = "mine"
    again = through_pickle(model)
    assert again.note == "mine"
    assert again.head.linear.out_features == 3
    assert [p.requires_grad for p in model.parameters()] == [
        p.requires_grad for p in again.parameters()
    ]
    x = sample(text(SHORT)).double()
    assert torch.equal(model(x), again(x))


def test_norms_that_two_modules_use_stay_one() -> None:
    """A fused neuron goes through norms that are registered elsewhere."""
    model = emit(text(SHORT), 0, "fused")
    again = through_pickle(model)
    x = sample(text(SHORT))
    for each in (model, again):
        with torch.no_grad():
            each.stem.norm.weight.fill_(3.0)
    assert torch.equal(model(x), again(x))


@pytest.mark.thorough
def test_another_process_reads_it(tmp_path: Path) -> None:
    graph = text(SHORT)
    model = emit(graph).eval()
    x = sample(graph)
    torch.save((model, x, model(x)), tmp_path / "model.pt")
    code = (
        "import sys, torch\n"
        "model, x, y = torch.load(sys.argv[1], weights_only=False)\n"
        "assert torch.equal(model(x), y)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.pt"], check=True)
