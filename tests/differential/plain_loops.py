"""Networks with loops over time, and what they compute, as plain loops of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danetc.compiler.ir.graph import Graph
from tests.differential.helpers import randn, text
from tests.surrogates import atan, step

STEPS = (2, 5)


class LIF:
    """tau = 2, threshold 1, hard reset to 0: one step after the other."""

    def __init__(self) -> None:
        self.u: Tensor | float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        v = 0.5 * self.u + 0.5 * x
        s = step(v - 1.0, atan(2))
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


def network(lines: str, blocks: str = "") -> str:
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


def block(w: Weights, i: int, neuron: LIF, x: Tensor) -> Tensor:
    """A block of one convolution via sew."""
    name = f"x.0.blocks.{i}.branch"
    return x + neuron(norm_of_step(w, f"{name}.norm", conv(w, f"{name}.conv", x)))


def feedback(w: Weights, xs: Tensor) -> Tensor:
    """The first of three blocks is fed by what comes in and by the last, two steps before."""
    neurons, ys = [LIF() for _ in range(3)], []
    back = [torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype)] * 2
    for x in xs:
        h = conv(w, "stem.conv", x) + back[-2]
        for i, neuron in enumerate(neurons):
            h = block(w, i, neuron, h)
        back.append(h)
        ys.append(h)
    return readout(w, ys)


def feedback_after_opening(w: Weights, xs: Tensor) -> Tensor:
    """The second of three blocks is fed by the first and by the last, one step before."""
    neurons, ys = [LIF() for _ in range(3)], []
    h = torch.zeros(xs.shape[1], 4, 6, 6, dtype=xs.dtype)
    for x in xs:
        h = block(w, 0, neurons[0], conv(w, "stem.conv", x)) + h
        h = block(w, 2, neurons[2], block(w, 1, neurons[1], h))
        ys.append(h)
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


FED_BACK = f"""norm = batchnorm(statistics = step)
  stem = in -> conv(4)
  x = stem -> (stage(single(4), 3) via sew by {{}})
  out = x -> {HEAD}"""


@dataclass(frozen=True)
class Case:
    text: str
    plain: Plain


CASES = {
    "one loop": Case(
        network(f"""a = 3 * (in -> conv(4))
  h = (a + (h -> delay(1) -> conv(4))) -> spike
  out = h -> {HEAD}"""),
        one_loop,
    ),
    "two lines": Case(
        network(f"""a = in + (b -> delay(2) -> conv(2))
  b = (2 * (a -> conv(2))) -> spike
  out = (a + b) -> {HEAD}"""),
        two_lines,
    ),
    "several": Case(
        network(
            f"""p = (3 * (in -> conv(3)) + (p -> delay(1) -> conv(3))) -> spike
  q = (4 * ((p + (q -> delay(1))) -> cell -> conv(3))) -> spike
  out = (p + q) -> {HEAD}""",
            "block cell { c = (3 * in + (c -> delay(1) -> conv(channels(in)))) -> spike; out = c }",
        ),
        several,
    ),
    "convlstm": Case(
        network(
            f"stem = convlstm(4)\n  head = {HEAD}",
            """block convlstm(width) {
  both = 4 * concat(in, h -> delay(1))
  ig   = both -> conv(width, bias = true) -> spike
  f    = both -> conv(width, bias = true) -> spike
  o    = both -> conv(width, bias = true) -> spike
  g    = both -> conv(width, bias = true) -> spike
  c    = f * (c -> delay(1)) + ig * g
  h    = o * c
  out  = h
}""",
        ),
        convlstm,
    ),
    "norms": Case(
        network(f"""a = in -> conv(4) -> norm
  h = (a + (h -> delay(1) -> conv(4) -> batchnorm(statistics = step))) -> tanh
  b = h -> norm
  out = b -> {HEAD}"""),
        normed,
    ),
    "stages": Case(
        network(
            f"""a = 2 * (in -> conv(4))
  b = a -> stage(cell, 2)
  top = (b + (top -> delay(1))) -> stage(single(4), 2) via sewn
  out = top -> {HEAD}""",
            """block cell { h = (in + (h -> delay(1) -> conv(channels(in)))) -> spike; out = in + h }
connection sewn { each = conv -> spike; out = shortcut + branch }""",
        ),
        in_stages,
    ),
    "feedback": Case(network(FED_BACK.format("feedback(steps = 2)")), feedback),
    "feedback after opening": Case(
        network(FED_BACK.format("feedback_after_opening")), feedback_after_opening
    ),
    "earlier values": Case(
        network(
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
        network("""s = (2 * (in -> linear(8)) + (s -> delay(1) -> linear(8))) -> spike
  out = s -> mean_over_time -> linear(3)"""),
        vectors,
    ),
    "more than a name": Case(
        network(f"""h = (in - 0.5 * (h -> conv(2, bias = true) -> delay(1))) -> sigmoid
  out = h -> {HEAD}"""),
        far,
    ),
    "delays": Case(
        network(f"""a = in -> conv(4, bias = true)
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
