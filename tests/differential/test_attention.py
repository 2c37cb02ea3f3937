"""Attention against products of matrices written out in plain torch, and what is known of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from danetc.compiler.analysis.summary import summarise
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.layout import layout_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes import PIPELINE
from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.layers.attention import KeysFirst
from danetc.tasks.measuring.measure import measure
from tests.differential.helpers import randn, text
from tests.differential.networks import small

HEADS = 2
KINDS = {"spikes": Kind(0, 1, 1.0), "counts": Kind(0, 3, 1.0), "real": ANALOG}


def network(out: str, input: str = "events(4, 4, 6)", passes: bool = True) -> Graph:
    source = f"""network n {{
  input = {input}; steps = 3; neuron = IF; surrogate = atan
  {"patches = in -> maxpool(2)" if "patches" in out else ""}
  {out}
}}"""
    return text(source, PIPELINE if passes else ())


def heads_of(x: Tensor) -> Tensor:
    """[..., C, H, W] as [..., heads, tokens, d]."""
    return torch.stack([part.flatten(-2).mT for part in x.chunk(HEADS, -3)], -3)


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(q k^T) v of each head, on the grid of q."""
    a = torch.matmul(heads_of(q), heads_of(k).transpose(-1, -2))
    mixed = torch.matmul(a, heads_of(v))
    parts = [mixed[..., h, :, :].mT.reshape(*q.shape[:-3], -1, *q.shape[-2:]) for h in range(HEADS)]
    return torch.cat(parts, -3)


def drawn(kind: str, *shape: int) -> Tensor:
    if kind == "real":
        return randn(*shape)
    return torch.randint(
        0, KINDS[kind].high + 1, shape, generator=torch.Generator().manual_seed(4)
    ).double()


INPUTS = {
    "spikes": "events(4, 4, 6, bound = 1)",
    "counts": "events(4, 4, 6, bound = 3)",
    "real": "events(4, 4, 6)",
}


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("where", ["self", "cross", "still"])
def test_attention_is_two_products(where: str, kind: str, backend: str) -> None:
    """Outputs and gradients; with keys on another grid, and with values without time."""
    k = {"self": "in", "cross": "patches", "still": "(patches -> mean_over_time)"}[where]
    like = "" if where == "self" else ", like = in"
    graph = network(f"out = mix(scores(in, {k}, heads = {HEADS}), {k}{like})", INPUTS[kind])
    model = emit(graph, 0, backend).double()
    x = drawn(kind, 3, 2, 4, 4, 6).requires_grad_()
    y = model(x)
    other = x.clone().detach().requires_grad_()
    pooled = torch.nn.functional.max_pool2d(other.flatten(0, 1), 2).unflatten(0, (3, 2))
    keys = {"self": other, "cross": pooled, "still": pooled.mean(0)}[where]
    wanted = written_out(other, keys, keys)
    torch.testing.assert_close(y, wanted, rtol=1e-12, atol=1e-12)
    if kind != "real" and where != "still":
        assert torch.equal(y, wanted)
    for z in (y, wanted):
        (z * randn(*z.shape, seed=5)).sum().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-12, atol=1e-12)


def test_which_order_is_taken() -> None:
    def operation(out: str, input: str) -> str:
        return next(
            n.op for n in network(out, input).nodes.values() if n.op in ("mix", "keys_first")
        )

    spikes, real = INPUTS["spikes"], INPUTS["real"]
    assert operation("out = mix(scores(in, in), in)", spikes) == "keys_first"
    assert operation("out = mix(scores(in, in), in)", real) == "mix"
    assert operation("out = mix(scores(in, in), in)", "events(64, 4, 4, bound = 1)") == "mix"
    large = "events(4, 4, 6, bound = 4000)"  # 24 * 4 * 4000^3 is more than 2^24
    assert operation("out = mix(scores(in, in), in)", large) == "mix"


def test_precisions_that_have_not_every_sum_multiply_queries_first() -> None:
    """The bits are those of the order of the spec in every precision."""
    source = f"out = mix(scores(in, in, heads = {HEADS}), in)"
    short, spec = network(source, INPUTS["counts"]), network(source, INPUTS["counts"], passes=False)
    one, other = emit(short), emit(spec)
    (module,) = (m for m in one.modules() if isinstance(m, KeysFirst))
    assert module.most == 24 * 2 * 27
    assert [module.is_exact(d) for d in (torch.float32, torch.float16, torch.bfloat16)] == [
        True,
        True,
        False,
    ]
    x = drawn("counts", 3, 2, 4, 4, 6).float()
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, dtype != torch.float32):
            assert torch.equal(one(x), other(x))


def test_gradients_where_queries_are_multiplied_first() -> None:
    layer = KeysFirst(2, 10**9)
    assert not layer.is_exact(torch.float32)
    inputs = [torch.rand(2, 3, 4, 2, 2, requires_grad=True) for _ in range(3)]
    weights = torch.rand(2, 3, 4, 2, 2)
    found = torch.autograd.grad((layer(*inputs, inputs[2]) * weights).sum(), inputs)
    product = layer.product(*inputs, like=inputs[2])
    expected = torch.autograd.grad((product * weights).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_kinds_and_operations() -> None:
    """Scores of spikes are 0 .. d, what they mix 0 .. d N; spikes are added."""
    graph = network("out = mix(scores(in, in, heads = 2), in)", INPUTS["spikes"], passes=False)
    kinds = {node.op: node.value.kind for node in graph.nodes.values()}
    assert (kinds["scores"], kinds["mix"]) == (Kind(0, 2, 1.0), Kind(0, 48, 1.0))
    facts = summarise(graph)
    assert (facts.macs, facts.additions) == (0, 3 * 2 * 24 * 24 * 4)
    counts = summarise(network("out = scores(in, in)", INPUTS["counts"]))
    assert (counts.macs, counts.count_macs) == (3 * 24 * 24 * 4, 3 * 24 * 24 * 4)
    assert counts.count_additions == 3 * counts.macs
    real = summarise(network("out = scores(in, patches)", INPUTS["real"]))
    assert (real.macs, real.additions, real.count_macs) == (3 * 24 * 6 * 4, 0, 0)
    short = summarise(network("out = mix(scores(in, in, heads = 2), in)", INPUTS["spikes"]))
    assert short.additions == 3 * 2 * 24 * 4 * 2
    assert (short.products, facts.products) == ({"q (k^T v)": 1}, {"q k^T": 1, "a v": 1})


@pytest.mark.parametrize("order", ["queries_first", "keys_first"])
def test_operations_are_counted_by_what_is_not_zero(order: str) -> None:
    out = f"out = mix(scores(in, in, heads = {HEADS}), in) -> avgpool -> mean_over_time -> flatten"
    graph = network(out, INPUTS["spikes"], passes=order == "keys_first")
    model = emit(graph)
    x = drawn("spikes", 3, 5, 4, 4, 6).float()
    data = [(x, torch.zeros(5, dtype=torch.long))]
    found = measure(model, data).operations
    assert {layer.layer for layer in found.layers} == {
        layer.name for layer in layout_of(graph).weights
    }
    tokens = heads_of(x).double()  # [3, 5, heads, tokens, d]
    if order == "keys_first":
        memory = tokens.mT @ tokens
        first, second = memory.sum(), (tokens.sum(-2) * memory.ne(0).sum(-1)).sum()
    else:
        scores = tokens @ tokens.mT
        first, second = scores.sum(), (scores.ne(0).sum(-2) * tokens.sum(-1)).sum()
    assert found.additions == pytest.approx(float(first + second) / 5)
    assert found.macs == 0


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_recompute_moves_a_running_mean_once(backend: str) -> None:
    """Also where two passes go forward before the first goes back."""
    scaled = """block scaled(width) {
  a = (in -> conv(width) -> norm -> spike) / sqrt(0.1 + (in -> running_mean(momentum = 0.3)))
  out = in + (a -> conv(width) -> norm -> spike)
}"""
    graph, found = text(small("stage(scaled(4), 3)", settings="neuron = IF", more=scaled)), []
    for memory in ("none", "recompute"):
        model = emit(graph, 0, backend, memory).double()
        losses = [(model(randn(2, 3, 8, 8, seed=seed)) ** 2).sum() for seed in (1, 2)]
        for loss in losses:
            loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append([*losses, *gradients, *model.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
