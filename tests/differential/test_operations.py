"""Operations against torch, NumPy and SciPy: joins, encoders, attention, tables."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.emit.fx import Model, emit
from danetc.compiler.emit.layout import layout_of
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes import PIPELINE
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.kinds import Kind
from danetc.runtime.layers.attention import KeysFirst
from danetc.tasks.measuring.measure import measure
from tests.differential.helpers import model_py, randn, text
from tests.differential.networks import small

# -- joins of static and varying values -----------------------------------------------------------


def attended(q: Tensor, k: Tensor, v: Tensor | None = None) -> Tensor:
    """Scores of two heads with one channel each, or ``v`` mixed by these scores."""
    a = q.flatten(-2).unsqueeze(-1) * k.flatten(-2).unsqueeze(-2)
    if v is None:
        return a
    return (a * v.flatten(-2).unsqueeze(-2)).sum(-1).view_as(q)


JOINS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "add": ("{} + {}", torch.add),
    "sub": ("{} - {}", torch.sub),
    "mul": ("{} * {}", torch.mul),
    "div": ("{} / {}", torch.div),
    "maximum": ("max({}, {})", torch.maximum),
    "minimum": ("min({}, {})", torch.minimum),
    "concat": ("concat({}, {})", lambda *xs: torch.cat(xs, -3)),
    "scores": ("scores({}, {}, heads = 2)", lambda q, k: attended(q, k)),
    "mix": ("mix(scores({0}, {1}, heads = 2), {1})", lambda a, b: attended(a, b, b)),
}
"""For each join: its text in a spec, and the same function in torch."""
EXACTNESS = {"mix": 1e-12}
"""Tolerances of joins that sum over keys in another order."""


def test_all_joins_are_here() -> None:
    joins = {row.name for row in OPS.values() if row.operands[1] not in (0, 1)}
    assert set(JOINS) == joins - {"beside", "keys_first"}  # created by neurons and by a pass


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("first", ["m", "in"])
@pytest.mark.parametrize("name", JOINS)
def test_every_join_takes_static_and_varying_values(name: str, first: str, backend: str) -> None:
    """Sequences may be longer than the network's own T."""
    form, function = JOINS[name]
    second = {"m": "in", "in": "m"}[first]
    graph = text(
        "network n { input = events(2, 4, 4); steps = 3; m = in -> mean_over_time; "
        f"out = {form.format(first, second)} }}"
    )
    (node,) = (node for node in graph.nodes.values() if node.op == name)
    assert node.value.varies
    model = emit(graph, 0, backend).double()
    for steps in (3, 5):
        x = randn(steps, 2, 2, 4, 4)
        given = {"m": torch.stack([x.mean(0)] * steps), "in": x}
        wanted = function(given[first], given[second])
        torch.testing.assert_close(model(x), wanted, rtol=0, atol=EXACTNESS.get(name, 0.0))


# -- encoders -------------------------------------------------------------------------------------


def code(encoder: str, steps: int) -> Model:
    """A network that returns its encoded input, [T, N, 1, 4, 4]."""
    source = f"network net {{ input = image(1, 4, 4) -> {encoder}; steps = {steps}; out = in }}"
    return emit(text(source))


def test_poisson_draws_anew_at_each_call_from_torch_s_generator() -> None:
    model, image = code("poisson", 20), torch.full((2, 1, 4, 4), 0.5)
    torch.manual_seed(3)
    first, second = model(image), model(image)
    assert not torch.equal(first, second)
    assert not torch.equal(first[:, 0], first[:, 1])
    torch.manual_seed(3)
    assert torch.equal(model(image), first)


def test_latency_spikes_once_the_earlier_the_brighter() -> None:
    steps, tau = 12, 3.0
    image = torch.linspace(0.0, 1.0, 16, dtype=torch.float64).view(1, 1, 4, 4)
    spikes: Tensor = code(f"latency(tau = {tau})", steps)(image)
    for pixel, train in zip(image.flatten(), spikes.flatten(1).T, strict=True):
        when = math.floor(tau * math.log(1 / pixel)) if pixel > 0 else steps
        assert train.tolist() == [float(step == when) for step in range(steps)]


# -- attention as matrix products -----------------------------------------------------------------

HEADS = 2


def attending(out: str, input: str, passes: bool = True) -> Graph:
    patches = "patches = in -> maxpool(2); " if "patches" in out else ""
    source = (
        f"network n {{ input = {input}; steps = 3; neuron = IF; surrogate = atan; {patches}{out} }}"
    )
    return text(source, PIPELINE if passes else ())


def heads_of(x: Tensor) -> Tensor:
    """[..., C, H, W] as [..., heads, tokens, d]."""
    return torch.stack([part.flatten(-2).mT for part in x.chunk(HEADS, -3)], -3)


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(q k^T) v for each head, on the grid of q."""
    a = torch.matmul(heads_of(q), heads_of(k).transpose(-1, -2))
    mixed = torch.matmul(a, heads_of(v))
    parts = [mixed[..., h, :, :].mT.reshape(*q.shape[:-3], -1, *q.shape[-2:]) for h in range(HEADS)]
    return torch.cat(parts, -3)


def drawn(kind: str, *shape: int) -> Tensor:
    if kind == "real":
        return randn(*shape)
    generator = torch.Generator().manual_seed(4)
    end = {"spikes": 2, "counts": 4}[kind]
    return torch.randint(end, shape, generator=generator).double()


INPUTS = {
    "spikes": "events(4, 4, 6, bound = 1)",
    "counts": "events(4, 4, 6, bound = 3)",
    "real": "events(4, 4, 6)",
}


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("where", ["self", "cross", "still"])
def test_attention_is_two_products(where: str, kind: str, backend: str) -> None:
    """Outputs and gradients agree, also with keys on another grid and with static keys."""
    k = {"self": "in", "cross": "patches", "still": "(patches -> mean_over_time)"}[where]
    like = "" if where == "self" else ", like = in"
    graph = attending(f"out = mix(scores(in, {k}, heads = {HEADS}), {k}{like})", INPUTS[kind])
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


@pytest.mark.parametrize(
    ("input", "order"),
    [
        (INPUTS["spikes"], "keys_first"),
        (INPUTS["real"], "mix"),
        ("events(64, 4, 4, bound = 1)", "mix"),
        ("events(4, 4, 6, bound = 4000)", "mix"),  # 24 * 4 * 4000^3 is more than 2^24
    ],
)
def test_which_order_is_taken(input: str, order: str) -> None:
    nodes = attending("out = mix(scores(in, in), in)", input).nodes.values()
    assert {node.op for node in nodes} & {"mix", "keys_first"} == {order}


def test_precisions_that_have_not_every_sum_multiply_queries_first() -> None:
    """In float32 and bfloat16, the bits are those of the order in the spec."""
    source = f"out = mix(scores(in, in, heads = {HEADS}), in)"
    short, spec = (
        attending(source, INPUTS["counts"]),
        attending(source, INPUTS["counts"], passes=False),
    )
    one, other = emit(short), emit(spec)
    (module,) = (m for m in one.modules() if isinstance(m, KeysFirst))
    assert module.most == 24 * 2 * 27
    exact = {torch.float32: True, torch.float16: True, torch.bfloat16: False}
    assert {dtype: module.is_exact(dtype) for dtype in exact} == exact
    x = drawn("counts", 3, 2, 4, 4, 6).float()
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, dtype != torch.float32):
            assert torch.equal(one(x), other(x))


def test_gradients_where_queries_are_multiplied_first() -> None:
    layer = KeysFirst(2, 10**9)
    assert not layer.is_exact(torch.float32)
    inputs = [torch.rand(2, 3, 4, 2, 2, requires_grad=True) for _ in range(3)]
    weights = torch.rand(2, 3, 4, 2, 2)
    products = (layer(*inputs, inputs[2]), layer.product(*inputs, like=inputs[2]))
    found, expected = (torch.autograd.grad((y * weights).sum(), inputs) for y in products)
    torch.testing.assert_close(found, expected)


def test_kinds_and_operations() -> None:
    """Scores of spikes lie in 0 .. d, and mixed values in 0 .. d N. Products of spikes are additions."""
    graph = attending("out = mix(scores(in, in, heads = 2), in)", INPUTS["spikes"], passes=False)
    kinds = {node.op: node.value.kind for node in graph.nodes.values()}
    assert (kinds["scores"], kinds["mix"]) == (Kind(0, 2, 1.0), Kind(0, 48, 1.0))
    facts = summarise(graph)
    assert (facts.macs, facts.additions) == (0, 3 * 2 * 24 * 24 * 4)
    counts = summarise(attending("out = scores(in, in)", INPUTS["counts"]))
    assert (counts.macs, counts.count_macs) == (3 * 24 * 24 * 4, 3 * 24 * 24 * 4)
    assert counts.count_additions == 3 * counts.macs
    real = summarise(attending("out = scores(in, patches)", INPUTS["real"]))
    assert (real.macs, real.additions, real.count_macs) == (3 * 24 * 6 * 4, 0, 0)
    short = summarise(attending("out = mix(scores(in, in, heads = 2), in)", INPUTS["spikes"]))
    assert short.additions == 3 * 2 * 24 * 4 * 2
    assert (short.products, facts.products) == ({"q (k^T v)": 1}, {"q k^T": 1, "a v": 1})


@pytest.mark.parametrize("order", ["queries_first", "keys_first"])
def test_operations_are_counted_by_what_is_not_zero(order: str) -> None:
    out = f"out = mix(scores(in, in, heads = {HEADS}), in) -> avgpool -> mean_over_time -> flatten"
    graph = attending(out, INPUTS["spikes"], passes=order == "keys_first")
    x = drawn("spikes", 3, 5, 4, 4, 6).float()
    found = measure(emit(graph), [(x, torch.zeros(5, dtype=torch.long))]).operations
    assert {each.layer for each in found.layers} == {each.name for each in layout_of(graph).weights}
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
    """Two forward passes run before the first backward pass."""
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


# -- tables from NumPy files ----------------------------------------------------------------------

TABLE = """use std
network net {{
  input = events(3, 4, 5); steps = 2; neuron = IF; surrogate = atan
  out = {}
}}
"""


def written(folder: Path, line: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "net.danet").write_text(TABLE.format(line))
    return str(folder / "net.danet")


def test_a_table_is_the_array_and_the_spec_of_a_directory_contains_it(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    gains = np.array([2, -1, 4], np.int8).reshape(3, 1, 1)
    np.save(tmp_path / "numbers.npy", np.asfortranarray(numbers))
    np.savez(tmp_path / "two.npz", gains=gains, other=np.zeros(3))
    line = 'in * table("two.npz", "gains") + table("numbers.npy")'
    checked = check_file(written(tmp_path, line))
    graph = graph_of(checked)
    resolved = resolved_spec(checked)
    for path in tmp_path.iterdir():
        path.unlink()
    assert graph_of(check_text(resolved)) == graph
    assert resolved_spec(check_text(resolved)) == resolved
    model, fused = emit(graph).double(), emit(graph, 0, "fused").double()
    assert [*model.state_dict()] == ["table1.numbers", "table2.numbers"]
    assert not [*model.parameters()]
    x = randn(2, 3, 3, 4, 5)
    expected = x.numpy() * gains.astype(np.float64) + numbers
    for made in (model, fused, model_py(graph)):
        assert np.allclose(made(x).numpy(), expected, rtol=1e-15, atol=1e-15)


def wrong_files(folder: Path) -> None:
    """Write files of every kind that is refused, and one file outside of the folder."""
    np.save(folder.parent / "outside.npy", np.ones(3))
    (folder / "link.npy").symlink_to(folder.parent / "outside.npy")
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "large.npy", np.ones((3, 200, 100)))
    np.save(folder / "many.npy", np.ones(2**15 + 1, np.int8))
    np.save(folder / "matrix.npy", np.ones((3, 4)))
    np.save(folder / "infinite.npy", np.full(3, np.inf))
    np.save(folder / "complex.npy", np.ones(3, complex))
    np.savez(folder / "two.npz", a=np.ones(3), b=np.ones(3))
    np.savez_compressed(folder / "bomb.npz", a=np.zeros((3, 1000, 1000)))
    np.save(folder / "whole.npy", np.ones(3))
    whole = (folder / "whole.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-8])
    (folder / "huge.npy").write_bytes(whole.replace(b"(3,), }      ", b"(9999999,), }"))
    (folder / "text.npy").write_text("1 2 3")
    (folder / "text.npz").write_text("1 2 3")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ('"missing.npy"', "cannot be read"),
        ('"folder.npy/../../outside.npy"', "outside of the spec's folder"),
        ('"../outside.npy"', "outside of the spec's folder"),
        ('"/etc/outside.npy"', "outside of the spec's folder"),
        ('"link.npy"', "outside of the spec's folder"),
        ('"table.txt"', "is not a .npy or .npz file"),
        ('"pickled.npy"', "has no real numbers but object"),
        ('"complex.npy"', "has no real numbers but complex128"),
        ('"cut.npy"', "is not a .npy file of numpy"),
        ('"huge.npy"', "has the shape (9999999,)"),
        ('"text.npy"', "is not a .npy file of numpy"),
        ('"text.npz"', "is not a .npz file of numpy"),
        ('"large.npy"', "has the shape (3, 200, 100)"),
        ('"many.npy"', "has the shape (32769,)"),
        ('"bomb.npz"', "is larger than 1 MiB"),
        ('"matrix.npy"', "has the shape (3, 4)"),
        ('"infinite.npy"', "not finite"),
        ('"two.npz"', "has several arrays"),
        ('"two.npz", "c"', "no such array"),
        ('"f8:3:AAAA"', "does not hold 3 finite numbers"),
        ('"f8:1:AAAAAAAA8H8="', "does not hold 1 finite numbers"),
        ("3", "takes a path in quotes"),
        ("", "takes a path in quotes"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, call: str, words: str) -> None:
    path = written(tmp_path / "specs", f"in * table({call})")
    wrong_files(tmp_path / "specs")
    with pytest.raises(SpecError) as caught:
        check_file(path)
    (found,) = caught.value.diagnostics
    assert found.code == "E0509"
    assert found.hint
    assert words in found.message
