"""Layers of the same weights at several places: `shared(...)`, against plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.compiler import check_text
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.runtime.model.built import Model
from danetc.tasks.equivalence import equivalence
from tests.differential.helpers import built, randn, text
from tests.differential.networks import SHARED
from tests.differential.test_forms import executed, packed
from tests.differential.test_inputs import fired, flat
from tests.fuzzing.compare import compiling

T, N = 3, 4
SIAMESE = """
network siamese {
  input = inputs(a = image(2, 6, 6), b = image(2, 6, 6))
  steps = 3; neuron = IF; surrogate = sigmoid(alpha = 4)
  f = shared(conv(4) -> norm -> spike)
  g = shared(conv(4, kernel = 1) -> norm -> spike)
  x = a -> f -> g -> g
  y = b -> f -> g
  out = concat(x -> avgpool, y -> avgpool) -> linear(5)
}
"""
LEARNT = SIAMESE.replace("-> norm -> spike)", "-> norm -> PLIF)")
SCHEDULED = SIAMESE.replace("sigmoid(alpha = 4)", "sigmoid(alpha = scheduled(4.0))")


def test_it_is_the_same_module_called_again() -> None:
    graph = text(SIAMESE)
    model = built(graph)
    twin = copy.deepcopy(model)
    a, b = randn(N, 2, 6, 6), randn(N, 2, 6, 6, seed=2)

    def f(x: Tensor) -> Tensor:
        return fired(flat(twin.x.f.norm, flat(twin.x.f.conv, x)))

    def g(x: Tensor) -> Tensor:
        return fired(flat(twin.x.g.norm, flat(twin.x.g.conv, x)))

    x = g(g(f(a.expand(T, *a.shape))))
    y = g(f(b.expand(T, *b.shape)))
    mine = model(a, b)
    wanted = flat(twin.linear, torch.cat([x.mean((-2, -1)), y.mean((-2, -1))], -1))
    assert mine.std() > 0.01
    assert torch.allclose(mine, wanted, rtol=1e-9, atol=1e-9)
    for out in (mine, wanted):
        out.square().sum().backward()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None, name
        assert torch.allclose(p.grad, q.grad, rtol=1e-9, atol=1e-9), name
    moved = torch.cat([model.x.f.norm.running_mean, model.x.g.norm.running_var])
    assert torch.allclose(
        moved, torch.cat([twin.x.f.norm.running_mean, twin.x.g.norm.running_var]), atol=0.05
    )
    assert model.x.f.norm is model.y.f.norm


FORMS: dict[str, Callable[[Graph], nn.Module]] = {
    "fused": lambda graph: emit(graph, backend="fused"),
    "recompute": lambda graph: emit(graph, backend="fused", memory="recompute"),
    "copy": lambda graph: copy.deepcopy(emit(graph, backend="fused")),
    "spikingjelly": lambda graph: emit(graph, backend="spikingjelly"),
    "model.py": lambda graph: packed(executed(emit_python(graph)), graph),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("neuron", ["PLIF", "scheduled"])
def test_every_form_does_the_same_with_the_same_weights(neuron: str, form: str) -> None:
    source = SCHEDULED if neuron == "scheduled" else LEARNT
    graph, x = text(source), randn(N, 4, 6, 6)
    model, other = built(graph), FORMS[form](graph).double()
    if neuron == "scheduled":
        names = [name for name, _ in other.named_buffers() if "alpha" in name]
        assert names == ["x.f.spike.surrogate_alpha", "x.g.spike.surrogate_alpha"]
        model.x.f.spike.surrogate_alpha.fill_(1.5)
    assert list(other.state_dict()) == list(model.state_dict())
    other.load_state_dict(model.state_dict())
    with compiling(False):
        mine, theirs = model(x), other(x)
        for y in (mine, theirs):
            y.square().sum().backward()
        assert mine.std() > 0.01
        torch.testing.assert_close(theirs, mine, rtol=1e-9, atol=1e-9)
        for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=1e-9, msg=name)
        torch.testing.assert_close([*other.buffers()], [*model.buffers()], rtol=1e-12, atol=0)
        if isinstance(other, Model):
            other.eval()
            states, steps = None, []
            for _ in range(T):
                found, states = other.stream(x, states)
                steps.append(found)
            torch.testing.assert_close(torch.stack(steps), other(x), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(danetc.fold(other)(x), other(x), rtol=1e-9, atol=1e-9)


def test_graphs_are_compared_with_their_shared_weights() -> None:
    graph = text(SHARED, ())
    written = (
        SHARED.replace("f", "first").replace("big", "a").replace("small", "b")
        .replace("(a + (b -> upsample(2)) + (in -> g))", "((in -> g) + (b -> upsample(2)) + a)")
    )  # fmt: skip
    assert "first = shared(" in written
    found = equivalence(graph, text(written, ()), numbers=False)
    assert found.word == "equal"
    assert sum("conv" in path for path, _ in found.pairs()) == 5
    for old, new in (
        ("f = shared(conv(w)", "f = (conv(w)"),
        ("avgpool(2) -> f -> g", "avgpool(2) -> g -> f"),
        ("big = in -> f", "big = in -> conv(w) -> norm -> spike"),
    ):
        assert equivalence(graph, text(SHARED.replace(old, new), ()), numbers=False).word == "different"  # fmt: skip


def test_it_is_measured_place_by_place() -> None:
    graph = text(SIAMESE)
    x, labels = randn(N, 4, 6, 6).float(), torch.zeros(N, dtype=torch.int64)
    found = danetc.measure(emit(graph), [(x, labels)], only=["operations"])
    single = danetc.measure(
        emit(text(SIAMESE.replace("shared(", "("))), [(x, labels)], only=["operations"]
    )
    mine = {item.layer: item for item in found.operations.layers}
    other = {item.layer: item for item in single.operations.layers}
    assert mine.keys() == other.keys()
    assert {"x.f.conv", "y.f.conv", "x.g.conv", "x.g2.conv", "y.g.conv"} <= mine.keys()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("b = (concat(a, a) -> f)", "a shared layer differs here"),
        ("b = (in -> avgpool -> shared(3))", "takes a layer, not the number 3"),
    ],
)
def test_what_does_not_fit_is_said(body: str, words: str) -> None:
    source = f"""use std
network n {{
  input = image(4, 8, 8); steps = 2; neuron = IF; surrogate = atan
  f = shared(conv(4) -> norm -> spike)
  a = in -> f; {body}
  out = (a + b) -> avgpool -> linear(2)
}}
"""
    with pytest.raises(SpecError, match=words):
        check_text(source)
