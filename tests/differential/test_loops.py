"""Loops over time and delays, against plain loops of PyTorch in float64: outputs and gradients."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danetc.compiler import check_text
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.inference import fold
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Graph
from danetc.compiler.plans.memory import step_memory
from danetc.runtime.bench.memory import saved_bytes
from danetc.runtime.layers.loop import Loop
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.built import Model
from danetc.tasks.measuring.measure import measure
from tests.differential.helpers import assert_close, built, randn, text

STEPS = (2, 5)


class Spike(torch.autograd.Function):
    """1 from 0 on; its derivative is that of arctan(pi x) / pi, SpikingJelly's ATan of alpha = 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / (1 + (torch.pi * x).square())


class LIF:
    """tau = 2, threshold 1, hard reset to 0: one step after the other."""

    def __init__(self) -> None:
        self.u: Tensor | float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        v = 0.5 * self.u + 0.5 * x
        s = Spike.apply(v - 1.0)
        self.u = v * (1 - s)
        return s  # type: ignore[no-any-return]


Weights = dict[str, Tensor]
Plain = Callable[[Weights, Tensor], Tensor]
"""What a network computes of its weights by name and of [T, N, ...]."""


def conv(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), padding=1)


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def readout(w: Weights, ys: list[Tensor]) -> Tensor:
    return linear(w, "linear", torch.stack(ys).mean((0, -2, -1)))


def norm_of_step(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, w[f"{name}.weight"], w[f"{name}.bias"], True)


HEAD = "avgpool -> mean_over_time -> linear(3)"


def _network(lines: str, blocks: str = "") -> str:
    return f"""{blocks}
network n(T = 2) {{
  input = events(2, 6, 6); steps = T; neuron = LIF; surrogate = atan
  {lines}
}}"""


def one_loop(w: Weights, xs: Tensor) -> Tensor:
    lif, ys, h = LIF(), [], torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype)
    for x in xs:
        h = lif(3 * conv(w, "a.conv", x) + conv(w, "h.conv", h))
        ys.append(h)
    return readout(w, ys)


def two_lines(w: Weights, xs: Tensor) -> Tensor:
    """What is delayed by two steps comes from a line below; an output of each."""
    lif, ys = LIF(), []
    back = [torch.zeros_like(xs[0]), torch.zeros_like(xs[0])]
    for x in xs:
        a = x + conv(w, "a.conv", back[-2])
        b = lif(2 * conv(w, "b.conv", a))
        back.append(b)
        ys.append(a + b)
    return readout(w, ys)


def several(w: Weights, xs: Tensor) -> Tensor:
    """A loop that feeds another, and one around a loop of a block."""
    lif, inner, outer, ys = LIF(), LIF(), LIF(), []
    p = q = r = torch.zeros(xs.shape[1], 3, 6, 6, dtype=xs.dtype)
    for x in xs:
        p = lif(3 * conv(w, "p.conv1", x) + conv(w, "p.conv2", p))
        before = q
        r = inner(3 * (p + before) + conv(w, "q.cell.c.conv", r))
        q = outer(4 * conv(w, "q.conv", r))
        ys.append(p + q)
    return readout(w, ys)


def convlstm(w: Weights, xs: Tensor) -> Tensor:
    gates, ys = [LIF() for _ in range(4)], []
    h = c = torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype)
    for x in xs:
        both = 4 * torch.cat([x, h], 1)
        i, f, o, g = (
            gate(conv(w, f"stem.convlstm.{name}.conv", both))
            for gate, name in zip(gates, ("ig", "f", "o", "g"), strict=True)
        )
        c = f * c + i * g
        h = o * c
        ys.append(h)
    return linear(w, "head.linear", torch.stack(ys).mean((0, -2, -1)))


def normed(w: Weights, xs: Tensor) -> Tensor:
    """A norm of each step inside, one over all steps before and behind."""
    a = conv(w, "a.conv", xs.flatten(0, 1))
    a = F.batch_norm(a, None, None, w["a.norm.weight"], w["a.norm.bias"], True)
    h, hs = torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype), []
    for x in a.unflatten(0, xs.shape[:2]):
        h = torch.tanh(x + norm_of_step(w, "h.norm", conv(w, "h.conv", h)))
        hs.append(h)
    all_ = torch.stack(hs)
    y = F.batch_norm(all_.flatten(0, 1), None, None, w["b.norm.weight"], w["b.norm.bias"], True)
    return readout(w, list(y.unflatten(0, all_.shape[:2])))


def in_stages(w: Weights, xs: Tensor) -> Tensor:
    """Blocks of a stage with a loop each, and a loop around a stage."""
    first = [LIF() for _ in range(2)]
    around, ys = [LIF() for _ in range(2)], []
    h = [torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype) for _ in range(2)]
    top = h[0]
    for x in xs:
        y = 2 * conv(w, "a.conv", x)
        for i in range(2):
            name = f"b.0.blocks.{i}.h.conv"
            h[i] = first[i](y + conv(w, name, h[i]))
            y = y + h[i]
        top = y + top
        for i in range(2):
            top = top + around[i](conv(w, f"top.0.blocks.{i}.branch.conv", top))
        ys.append(top)
    return readout(w, ys)


def fed_back(w: Weights, xs: Tensor) -> Tensor:
    """A stage whose last block feeds its first, one step later, and its second, two steps later."""
    neurons, ys = [LIF() for _ in range(3)], []
    back = [torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype)] * 2
    for x in xs:
        y = 3 * conv(w, "a.conv", x)
        first = y + back[-1]
        h = first
        for i in range(3):
            h = h + 0.5 * back[-2] if i == 1 else h
            h = neurons[i](2 * (conv(w, f"h.0.blocks.{i}.branch.conv", h) + h))
        back.append(h)
        ys.append(h + first)
    return readout(w, ys)


def earlier(w: Weights, xs: Tensor) -> Tensor:
    """A rule that delays a sum of all blocks, a block's own input and, without a loop, the first's
    output. Shortcuts start from the stage's input, a step before."""
    neurons, ys = [LIF() for _ in range(3)], []
    zeros = torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype)
    before, total, feeds, firsts = zeros, zeros, [zeros] * 3, [zeros] * 2
    for x in xs:
        y = 3 * conv(w, "a.conv", x)
        outs = [neurons[0](conv(w, "h.0.blocks.0.branch.conv", y) + y)]
        now = [y]
        for i in (1, 2):
            own = w[f"h.0.feeds.{i}.delay.weight"] * feeds[i]
            feed = outs[-1] + 0.25 * total + own + firsts[-2]
            now.append(feed)
            outs.append(neurons[i](conv(w, f"h.0.blocks.{i}.branch.conv", feed) + before))
        feeds, total, before = now, sum(outs[1:], outs[0]), y
        firsts.append(outs[0])
        ys.append(torch.cat([outs[-1], outs[0]], 1))
    return readout(w, ys)


def vectors(w: Weights, xs: Tensor) -> Tensor:
    """A layer of recurrent neurons: [T, N, features]."""
    lif, ys, s = LIF(), [], torch.zeros(xs.shape[1], 8, dtype=xs.dtype)
    for x in xs:
        s = lif(2 * linear(w, "s.linear1", x.flatten(1)) + linear(w, "s.linear2", s))
        ys.append(s)
    return linear(w, "linear", torch.stack(ys).mean(0))


def far(w: Weights, xs: Tensor) -> Tensor:
    """What is delayed is more than a name: zeros come behind the convolution's bias."""
    ys, back = [], torch.zeros(xs.shape[1], 2, 6, 6, dtype=xs.dtype)
    for x in xs:
        h = torch.sigmoid(x - 0.5 * back)
        back = conv(w, "h.conv", h)
        ys.append(h)
    return readout(w, ys)


def delays(w: Weights, xs: Tensor) -> Tensor:
    """No loop: values of one and of three steps before."""
    a = conv(w, "a.conv", xs.flatten(0, 1)).unflatten(0, xs.shape[:2])
    zeros = torch.zeros_like(a[:1])
    one = torch.cat([zeros, a[:-1]])
    three = torch.cat([zeros.expand(3, *zeros.shape[1:]), a])[: len(a)]
    lif = LIF()
    return readout(w, [lif(x) for x in a + 2 * one - three])


@dataclass(frozen=True)
class Case:
    text: str
    plain: Plain


CASES = {
    "one loop": Case(
        _network(f"""a = 3 * (in -> conv(4))
  h = (a + (h -> delay(1) -> conv(4))) -> spike
  out = h -> {HEAD}"""),
        one_loop,
    ),
    "two lines": Case(
        _network(f"""a = in + (b -> delay(2) -> conv(2))
  b = (2 * (a -> conv(2))) -> spike
  out = (a + b) -> {HEAD}"""),
        two_lines,
    ),
    "several": Case(
        _network(
            f"""p = (3 * (in -> conv(3)) + (p -> delay(1) -> conv(3))) -> spike
  q = (4 * ((p + (q -> delay(1))) -> cell -> conv(3))) -> spike
  out = (p + q) -> {HEAD}""",
            "block cell { c = (3 * in + (c -> delay(1) -> conv(channels(in)))) -> spike; out = c }",
        ),
        several,
    ),
    "convlstm": Case(
        f"""
block convlstm(width) {{
  both = 4 * concat(in, h -> delay(1))
  ig   = both -> conv(width, bias = true) -> spike
  f    = both -> conv(width, bias = true) -> spike
  o    = both -> conv(width, bias = true) -> spike
  g    = both -> conv(width, bias = true) -> spike
  c    = f * (c -> delay(1)) + ig * g
  h    = o * c
  out  = h
}}
network n(T = 2) {{
  input = events(2, 6, 6); steps = T; neuron = LIF; surrogate = atan
  stem = convlstm(4)
  head = {HEAD}
}}""",
        convlstm,
    ),
    "norms": Case(
        _network(f"""a = in -> conv(4) -> norm
  h = (a + (h -> delay(1) -> conv(4) -> batchnorm(statistics = step))) -> tanh
  b = h -> norm
  out = b -> {HEAD}"""),
        normed,
    ),
    "stages": Case(
        _network(
            f"""a = 2 * (in -> conv(4))
  b = a -> stage(cell, 2)
  top = (b + (top -> delay(1))) -> stage(single(4), 2) via sewn
  out = top -> {HEAD}""",
            """block cell { h = (in + (h -> delay(1) -> conv(channels(in)))) -> spike; out = in + h }
connection sewn { each = conv -> spike; out = shortcut + branch }""",
        ),
        in_stages,
    ),
    "fed back": Case(
        _network(
            f"""a = 3 * (in -> conv(4))
  h = a -> stage(single(4), 3) via joined by back
  out = h -> {HEAD}""",
            """connection joined { each = conv; out = (2 * (branch + shortcut)) -> spike }
rule back {
  in[0]  = in + (out[n-1] -> delay(1))
  in[i]  = out[i-1] + 0.5 * (out[n-1] -> delay(2)) if i == 1 else out[i-1]
  result = out[n-1] + in[0]
}""",
        ),
        fed_back,
    ),
    "earlier values": Case(
        _network(
            f"""a = 3 * (in -> conv(4))
  h = a -> stage(single(4), 3) via joined by held
  out = h -> {HEAD}""",
            """connection joined { each = conv; out = (branch + shortcut) -> spike }
rule held {
  in[i] = sum(
    out[i-1],
    (0.25 * sum(out[0 .. n-1])) -> delay(1),
    learn(0.5) * (in[i] -> delay(1)),
    out[0] -> delay(1) -> delay(1)
  )
  shortcut[i] = in[0] -> delay(1)
  result = concat(out[n-1], out[0])
}""",
        ),
        earlier,
    ),
    "vectors": Case(
        _network("""s = (2 * (in -> linear(8)) + (s -> delay(1) -> linear(8))) -> spike
  out = s -> mean_over_time -> linear(3)"""),
        vectors,
    ),
    "more than a name": Case(
        _network(f"""h = (in - 0.5 * (h -> conv(2, bias = true) -> delay(1))) -> sigmoid
  out = h -> {HEAD}"""),
        far,
    ),
    "delays": Case(
        _network(f"""a = in -> conv(4, bias = true)
  out = (a + 2 * (a -> delay(1)) - (a -> delay(3))) -> spike -> {HEAD}"""),
        delays,
    ),
}


def graph_of(name: str, steps: int) -> Graph:
    return text(CASES[name].text, T=steps)


def frames(steps: int, batch: int = 3) -> Tensor:
    return randn(steps, batch, 2, 6, 6)


def gradients(model: nn.Module, y: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Of a fixed random projection of the output, by parameters' names and of the input."""
    loss = (y * randn(*y.shape, seed=5).to(y.dtype)).sum()
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, [*named.values(), x])
    return dict(zip([*named, "x"], found, strict=True))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CASES)
def test_equals_a_plain_loop(name: str, steps: int) -> None:
    model = built(graph_of(name, steps)).train()
    x = frames(steps).requires_grad_()
    y, expected = model(x), CASES[name].plain(dict(model.named_parameters()), x)
    assert_close(y.detach(), expected.detach(), 1e-12)
    assert y.std() > 0.01
    mine, other = gradients(model, y, x), gradients(model, expected, x)
    for each in mine:
        assert_close(mine[each], other[each], 1e-9, each, floor=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_neurons_are_alive(name: str) -> None:
    """Hooks see all steps of a neuron in a loop, and none of them is silent or fires always."""
    model = built(graph_of(name, 5)).train()
    rates: dict[str, float] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, Neuron):
            layer.register_forward_hook(
                lambda layer, x, y, path=path: (
                    rates.update({path: float(y.mean())})
                    if y.shape == x[0].shape and len(y) == 5
                    else None
                )
            )
    model(frames(5))
    assert len(rates) == sum(isinstance(layer, Neuron) for layer in model.modules())
    assert all(0.02 < rate < 0.98 for rate in rates.values()), rates


@pytest.mark.parametrize("name", CASES)
def test_forms(name: str) -> None:
    """Copies, model.py, other backends and memory policies do the same, bit for bit."""
    graph = graph_of(name, 3)
    x = frames(3).float().requires_grad_()
    model = emit(graph).train()
    y = model(x)
    expected = gradients(model, y, x)
    forms: dict[str, nn.Module] = {
        "a copy": deepcopy(emit(graph)),
        "unpickled": pickle.loads(pickle.dumps(emit(graph))),
        "recompute": emit(graph, memory="recompute"),
        "spikingjelly": emit(graph, backend="spikingjelly"),
        "model.py": _standalone(graph, emit(graph)),
    }
    for what, form in forms.items():
        z = form.train()(x)
        assert torch.equal(z, y), what
        for each, value in gradients(form, z, x).items():
            assert_close(value, expected[each], 1e-6, f"{what}: {each}", floor=1e-5)
    for form in forms.values():
        for each, buffer in form.named_buffers():
            assert torch.equal(buffer, model.get_buffer(each)), each


def _standalone(graph: Graph, model: Model) -> nn.Module:
    scope: dict[str, Any] = {"__name__": "standalone"}
    exec(compile(emit_python(graph), "model.py", "exec"), scope)
    result: nn.Module = scope["Model"]()
    result.load_state_dict(model.state_dict())
    return result


@pytest.mark.parametrize("name", CASES)
def test_a_copy_shares_nothing(name: str) -> None:
    model = emit(graph_of(name, 2))
    copy = deepcopy(model)
    for loop in (module for module in copy.modules() if isinstance(module, Loop)):
        own = {id(module) for module in copy.modules()}
        layers = [m for m in loop.step.modules() if not list(m.children())]
        assert layers
        assert all(id(layer) in own for layer in layers)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CASES)
def test_streams(name: str, steps: int) -> None:
    """Steps one after the other, in evaluation: what is delayed is a state of the stream."""
    model = built(graph_of(name, steps)).eval()
    x = frames(steps)
    outputs, states = [], None
    for frame in x:
        y, states = model.stream(frame, states)
        outputs.append(y)
    assert_close(torch.stack(outputs).mean(0), model(x), 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_folds(name: str) -> None:
    model = built(graph_of(name, 3))
    model.train()(frames(3))
    assert_close(fold(model.eval())(frames(3)), model(frames(3)), 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_takes_sequences_of_any_length(name: str) -> None:
    model = built(graph_of(name, 2)).train()
    x = frames(7)
    assert_close(model(x), CASES[name].plain(dict(model.named_parameters()), x), 1e-12)


def test_an_image_in_a_loop_is_there_at_each_step() -> None:
    source = f"""network n {{
  input = image(2, 6, 6); steps = 4; neuron = LIF; surrogate = atan
  h = (3 * (in -> conv(4)) + (h -> delay(1) -> conv(4))) -> spike
  out = h -> {HEAD}
}}"""
    model = built(text(source))
    image = frames(1)[0]

    def plain(x: Tensor) -> Tensor:
        weights = dict(model.named_parameters())
        weights |= {
            "a.conv.weight": weights["h.conv1.weight"],
            "h.conv.weight": weights["h.conv2.weight"],
        }
        return one_loop(weights, x)

    expected = plain(image.expand(4, *image.shape))
    assert_close(model(image), expected, 1e-12)
    assert_close(model(image.expand(4, *image.shape)), expected, 1e-12)
    assert_close(model(frames(6)), plain(frames(6)), 1e-12)


def test_what_comes_too_late_gets_gradients_of_zero() -> None:
    """With a single step nothing that is delayed is read."""
    model, x = built(graph_of("two lines", 2)).train(), frames(1)
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not model.get_parameter("a.conv.weight").grad.any()  # type: ignore[union-attr]


def test_a_delayed_image_is_missing_at_the_first_steps() -> None:
    source = """network n {
  input = image(2, 6, 6); steps = 4; neuron = LIF; surrogate = atan
  out = in -> delay(3) -> conv(2) -> mean_over_time
}"""
    model, image = built(text(source)), frames(1)[0]
    weights = dict(model.named_parameters())
    assert_close(model(image), conv(weights, "conv", image) / 4, 1e-12)


def test_statistics_of_each_step() -> None:
    """Training moves the running statistics at each step; a static value is T equal steps."""
    lines = "out = in -> conv(3) -> batchnorm(statistics = step) -> avgpool -> mean_over_time"
    source = "network n {{ input = {}; steps = 3; {} }}"
    moving = built(text(source.format("events(2, 6, 6)", lines))).train()
    still = built(text(source.format("image(2, 6, 6)", lines))).train()
    x = frames(3)
    reference = nn.BatchNorm2d(3).double()
    reference.load_state_dict({**moving.norm.state_dict(), "num_batches_tracked": torch.tensor(0)})
    y = torch.stack([reference(F.conv2d(each, moving.conv.weight, padding=1)) for each in x])
    assert_close(moving(x), y.mean((0, -2, -1), keepdim=True)[0], 1e-12)
    image = x[0]
    reference.load_state_dict({**still.norm.state_dict(), "num_batches_tracked": torch.tensor(0)})
    y = torch.stack([reference(F.conv2d(image, still.conv.weight, padding=1)) for _ in range(3)])
    assert_close(still(image), y.mean((0, -2, -1), keepdim=True)[0], 1e-12)
    for name, value in reference.named_buffers():
        assert_close(still.norm.get_buffer(name).double(), value.double(), 1e-12, name)


def test_a_thousand_loops_take_linear_time() -> None:
    """Nodes of a network of many looped blocks grow with their number, not faster."""
    source = """
block cell { h = (in + (h -> delay(1))) -> tanh; out = in + h }
network n(blocks = 1) {
  input = events(2, 4, 4); steps = 2
  out = in -> stage(cell, blocks) -> conv(2)
}"""
    checked = check_text(f"use std\n{source}")
    from danetc.compiler import graph_of as build

    few, many = (len(build(checked, settings={"blocks": n}).nodes) for n in (10, 1000))
    assert (few - 2) * 100 == many - 2


@pytest.mark.parametrize("memory", ["none", "recompute"])
@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("name", CASES)
def test_saved_bytes_are_those_of_the_summary(name: str, backend: str, memory: str) -> None:
    graph = graph_of(name, 3)
    if backend == "fused" and name == "delays":
        pytest.skip("its neuron stands outside of a loop, and would be compiled")
    model = emit(graph, 0, backend, memory).train()
    x, labels = frames(3).float(), torch.tensor([0, 1, 2])
    found = saved_bytes(lambda: F.cross_entropy(model(x), labels))
    assert found == step_memory(graph, 3, backend, memory).saved


@pytest.mark.parametrize("name", [name for name in CASES if name != "delays"])
def test_the_fused_backend_does_the_same(name: str) -> None:
    graph = graph_of(name, 3)
    x = frames(3).float()
    for memory in ("none", "recompute"):
        plain, fused = emit(graph).train(), emit(graph, 0, "fused", memory).train()
        y, z = plain(x), fused(x)
        assert torch.equal(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
        for each, parameter in plain.named_parameters():
            assert parameter.grad is not None
            twin = fused.get_parameter(each).grad
            assert twin is not None
            assert_close(twin, parameter.grad, 1e-6, each, floor=1e-5)


@pytest.mark.parametrize("name", ["several", "norms", "stages", "vectors"])
def test_is_measured(name: str) -> None:
    """Firing rates and operations of layers in loops are those of all steps together."""
    graph = graph_of(name, 3)
    model, images = emit(graph).train(), frames(3, 4).float()
    found = measure(model, [(images, torch.tensor([0, 1, 2, 0]))])
    rates: dict[str, float] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, Neuron):
            layer.register_forward_hook(
                lambda layer, x, y, path=path: rates.update({path: float(y.mean())})
            )
    model.eval()(images)
    assert found.firing_rate is not None
    for measured in found.firing_rate.layers:
        assert measured.rate == pytest.approx(rates[measured.layer]), measured.layer
    assert {layer.layer for layer in found.firing_rate.layers} == set(rates)
