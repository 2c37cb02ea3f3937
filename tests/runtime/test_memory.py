"""Bytes of a step counted, and segments that run again instead of being kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.allocated import peak_bytes, saved_bytes
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.model.built import Model
from tests.differential.helpers import text
from tests.differential.networks import ANALOG_STEM, small

MIB = 2**20
WILD = """connection wild {
  each = conv -> norm -> spike -> dropout(0.2); last = conv -> norm -> droppath(0.3)
  projection = conv -> norm; out = branch + shortcut
}"""
SECOND = "stage(basic(8), 2, stride = 2)"


def network(stages: str = "sew", blocks: int = 3, second: str = SECOND, **options: str) -> Graph:
    """The graph of a stage of blocks and a second one, connected in a way and by a rule."""
    more = f"{WILD}\nbackbone two = stage(basic(4), {blocks}) -> {second}"
    return text(small(f"two via {stages}", more=more, **options))


HEAD = "avgpool -> mean_over_time -> linear(3)"
NETWORKS: dict[str, Callable[[], Graph]] = {
    "sew": network,
    "origin dense": lambda: network("origin by densely_additive", 4),
    "concatenated": lambda: network(
        "dense_layer by densely_concatenated", second="transition -> stage(basic(4), 2)"
    ),
    "pa_a": lambda: network("pa_a", **ANALOG_STEM),
    "pa_b": lambda: network("pa_b", stem="conv(4) -> norm", head=f"norm -> spike -> {HEAD}"),
    "wild": lambda: network("wild", settings="neuron = PLIF"),
    "ann": lambda: network("baa", settings="neuron = ReLU"),
}


def images(graph: Graph, batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *graph.input.value.shape, generator=generator)


def loss_of(model: Model, x: Tensor) -> Tensor:
    y = model(x)
    weights = torch.arange(y.numel(), dtype=y.dtype).view(y.shape).cos()
    loss: Tensor = (y * weights).sum()
    return loss


def state_after(model: Model, x: Tensor, steps: int = 2) -> dict[str, Tensor]:
    """Losses, gradients and buffers of training steps, and the random numbers drawn after them."""
    torch.manual_seed(3)
    found = {}
    for step in range(steps):
        model.zero_grad()
        loss = loss_of(model, x)
        loss.backward()
        found[f"loss {step}"] = loss.detach()
    found["random"] = torch.rand(3)
    found |= {f"gradient {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    found |= {f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()}
    return found


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# -- counting -------------------------------------------------------------------------------------


class _InContext(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.hidden = x + 1
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def test_saved_bytes_sees_contexts_and_modules() -> None:
    x = torch.randn(MIB // 4, requires_grad=True)
    assert saved_bytes(lambda: _InContext.apply(x).sum()) == MIB  # type: ignore[no-untyped-call]
    module = nn.Module()

    def step() -> Tensor:
        module.memory = x.detach() + 1
        return x.sin().sum()

    assert saved_bytes(step) == MIB
    assert saved_bytes(step) == MIB  # what the step before left there is not taken off


def test_peak_bytes_of_known_tensors() -> None:
    def step() -> None:
        a = torch.empty(MIB, dtype=torch.uint8)
        b = torch.empty(2 * MIB, dtype=torch.uint8)
        del a
        c = torch.empty(MIB // 2, dtype=torch.uint8)
        del b, c

    before = torch.empty(MIB, dtype=torch.uint8)
    assert peak_bytes(step) == 3 * MIB
    assert peak_bytes(lambda: before.add_(1)) < 64  # the number 1


# -- running again --------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_recompute_gives_the_same_bit_for_bit(backend: str, name: str) -> None:
    graph = NETWORKS[name]()
    x = images(graph)
    plain = emit(graph, 7, backend=backend)
    lean = emit(graph, 7, backend=backend, memory="recompute")
    assert_same(state_after(lean, x), state_after(plain, x))
    assert list(lean.state_dict()) == list(plain.state_dict())
    # Fused layers keep the parts of a concatenation once for all; a segment keeps its input whole.
    most = 0.9 if (backend, name) == ("fused", "concatenated") else 0.6
    assert saved_bytes(lambda: loss_of(lean, x)) < most * saved_bytes(lambda: loss_of(plain, x))


@pytest.mark.thorough
@pytest.mark.parametrize("length", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_segments_of_many_blocks(name: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = NETWORKS[name]()
    x = images(graph)

    def cuts(stages: Any, graph: Graph) -> Any:
        return {path: [i // length for i in range(len(each))] for path, each in stages.items()}

    monkeypatch.setattr("danetc.compiler.passes.recompute._cuts", cuts)
    monkeypatch.setattr("danetc.compiler.passes.recompute.LEAST_GAIN", 0.0)
    lean = emit(graph, 7, backend="fused", memory="recompute")
    assert_same(state_after(lean, x), state_after(emit(graph, 7, backend="fused"), x))


def test_backward_twice_and_without_a_backward_pass() -> None:
    graph = network()
    model = emit(graph, backend="fused", memory="recompute")
    x = images(graph)
    loss = loss_of(model, x)
    loss.backward(retain_graph=True)
    first = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    loss.backward()
    assert all(
        torch.equal(p.grad, 2 * g) for p, g in zip(model.parameters(), first, strict=True)
        if p.grad is not None
    )  # fmt: skip
    del loss
    before = peak_bytes(lambda: loss_of(model, x))
    assert peak_bytes(lambda: [loss_of(model, x) for _ in range(3)] and None) < 1.5 * before


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_autocast_is_that_of_the_first_run(backend: str) -> None:
    graph = network()
    x = images(graph)
    found = []
    for memory in ("none", "recompute"):
        model = emit(graph, 7, backend=backend, memory=memory)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, x)
        loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert_same(*found)


def test_an_input_that_wants_a_gradient_gets_it() -> None:
    graph = network()
    found = []
    for memory in ("none", "recompute"):
        x = images(graph).requires_grad_()
        loss_of(emit(graph, 7, memory=memory), x).backward()
        assert x.grad is not None
        found.append(x.grad)
    assert torch.equal(*found)
    assert found[0].abs().sum() > 0


def test_another_mode_in_the_backward_pass_is_an_error() -> None:
    graph = network("wild")
    model = emit(graph, memory="recompute")
    loss = loss_of(model, images(graph))
    model.eval()
    with pytest.raises(RuntimeError, match="train, eval"):
        loss.backward()


@pytest.fixture
def unsaid() -> Iterator[None]:
    """No notice has been given, before and after."""
    internals.notice.cache_clear()
    yield
    internals.notice.cache_clear()


@contextmanager
def one_notice(what: str) -> Iterator[None]:
    """One warning in all that the policy has no effect in what this makes of a model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RuntimeWarning)
        yield
    assert [str(item.message).split(":")[0] for item in caught] == [
        f"the memory policy `recompute` has no effect in what {what} makes of a model"
    ]


@pytest.mark.thorough
@pytest.mark.usefixtures("unsaid")
@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_compiled_as_a_whole_it_is_plain_and_says_so(backend: str) -> None:
    """Without a graph break; and a plain model has nothing to say."""
    graph = network(blocks=1, second="stage(basic(4), 1)")
    x = images(graph)
    lean = emit(graph, 7, backend=backend, memory="recompute")
    plain = emit(graph, 7, backend=backend)
    whole = torch.compile(lean, backend="aot_eager", fullgraph=True)
    with one_notice("torch.compile"):
        found = state_after(whole, x)
    found = {name.replace("_orig_mod.", ""): value for name, value in found.items()}
    for name, value in state_after(plain, x).items():
        torch.testing.assert_close(found[name], value)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        torch.compile(plain, backend="eager", fullgraph=True)(x)  # tracing is where it would


@pytest.mark.thorough
@pytest.mark.usefixtures("unsaid")
@pytest.mark.parametrize("strict", [False, True])
def test_exported_it_is_plain_and_says_so(strict: bool) -> None:
    graph = network(blocks=1)
    x = images(graph)
    lean, plain = emit(graph, 7, memory="recompute").eval(), emit(graph, 7).eval()
    with one_notice("torch.export"):
        exported = torch.export.export(lean, (x,), strict=strict)
    torch.testing.assert_close(exported.module()(x), plain(x))


@pytest.mark.usefixtures("unsaid")
def test_traced_and_streamed_it_is_the_plain_model() -> None:
    graph = network()
    x = images(graph)
    lean = emit(graph, 7, memory="recompute").eval()
    plain = emit(graph, 7).eval()
    with one_notice("torch.fx"):
        traced = torch.fx.symbolic_trace(lean)
    assert torch.equal(traced(x), plain(x))
    assert lean.code == plain.code
    assert torch.equal(lean.stream(x)[0], plain.stream(x)[0])


def test_unknown_policies_are_named() -> None:
    with pytest.raises(ValueError, match="there are none, recompute"):
        emit(network(), memory="recomputed")
