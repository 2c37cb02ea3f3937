"""The memory policy ``recompute``: segments run again instead of being saved."""

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
from tests.differential.helpers import text
from tests.differential.networks import ANALOG_STEM, small
from tests.runtime.conftest import step

WILD = """connection wild {
  each = conv -> norm -> spike -> dropout(0.2); last = conv -> norm -> droppath(0.3)
  projection = conv -> norm; out = branch + shortcut
}"""
SECOND = "stage(basic(8), 2, stride = 2)"


def network(stages: str = "sew", blocks: int = 3, second: str = SECOND, **options: str) -> Graph:
    """The graph of two stages; ``stages`` names their connection and rule."""
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


def images(graph: Graph) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, *graph.input.value.shape, generator=generator)


def state_after(model: nn.Module, x: Tensor) -> list[Any]:
    """Two training steps, and the random numbers drawn after them."""
    torch.manual_seed(3)
    return [step(model, x), step(model, x), torch.rand(3)]


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("backend", "length"), [("eager", 0), ("fused", 0), ("fused", 2), ("fused", 3)]
)
def test_recompute_gives_the_same_bit_for_bit(
    backend: str, length: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segments are those that the policy chooses, or have ``length`` blocks each."""
    graph = NETWORKS[name]()
    x = images(graph)
    plain = emit(graph, 7, backend=backend)

    def cuts(stages: Any, graph: Graph) -> Any:
        return {path: [i // length for i in range(len(each))] for path, each in stages.items()}

    if length:
        monkeypatch.setattr("danetc.compiler.passes.recompute._cuts", cuts)
        monkeypatch.setattr("danetc.compiler.passes.recompute.LEAST_GAIN", 0.0)
    lean = emit(graph, 7, backend=backend, memory="recompute")
    assert_same(state_after(lean, x), state_after(plain, x))
    assert list(lean.state_dict()) == list(plain.state_dict())
    if not length:
        # Fused layers save each part of a concatenation once; a segment saves its whole input.
        most = 0.9 if (backend, name) == ("fused", "concatenated") else 0.6
        assert saved_bytes(lambda: lean(x).sum()) < most * saved_bytes(lambda: plain(x).sum())


def test_backward_twice_and_without_a_backward_pass() -> None:
    graph = network()
    model = emit(graph, backend="fused", memory="recompute")
    x, parameters = images(graph), [*model.parameters()]
    loss = model(x).square().sum()
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    assert_same(torch.autograd.grad(loss, parameters), first)
    del loss
    before = peak_bytes(lambda: model(x))
    assert peak_bytes(lambda: [model(x) for _ in range(3)] and None) < 1.5 * before


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_autocast_is_that_of_the_first_run(backend: str) -> None:
    graph = network()
    found = []
    for memory in ("none", "recompute"):
        model = emit(graph, 7, backend=backend, memory=memory)
        x = images(graph).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).square().sum()
        loss.backward()
        found.append([p.grad for p in (x, *model.parameters())])
    assert_same(*found)
    assert found[0][0].abs().sum() > 0


def test_another_mode_in_the_backward_pass_is_an_error() -> None:
    graph = network("wild")
    model = emit(graph, memory="recompute")
    loss = model(images(graph)).sum()
    model.eval()
    with pytest.raises(RuntimeError, match="train, eval"):
        loss.backward()


@contextmanager
def one_notice(what: str) -> Iterator[None]:
    """Expect a single RuntimeWarning: the policy has no effect in what ``what`` makes of a model."""
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
    """Compilation has no graph break, and a plain model gives no warning."""
    graph = network(blocks=1, second="stage(basic(4), 1)")
    x = images(graph)
    lean = emit(graph, 7, backend=backend, memory="recompute")
    plain = emit(graph, 7, backend=backend)
    whole = torch.compile(lean, backend="aot_eager", fullgraph=True)
    with one_notice("torch.compile"):
        *steps, drawn = state_after(whole, x)
    found = [{k.replace("_orig_mod.", ""): value for k, value in each.items()} for each in steps]
    torch.testing.assert_close([*found, drawn], state_after(plain, x))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        torch.compile(plain, backend="eager", fullgraph=True)(x)  # tracing would warn


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
    lean, plain = emit(graph, 7, memory="recompute").eval(), emit(graph, 7).eval()
    with one_notice("torch.fx"):
        traced = torch.fx.symbolic_trace(lean)
    assert torch.equal(traced(x), plain(x))
    assert lean.code == plain.code
    assert torch.equal(lean.stream(x)[0], plain.stream(x)[0])
    with pytest.raises(ValueError, match="there are none, recompute"):
        emit(graph, memory="recomputed")
