"""Neurons of several inputs: `a -> gated(gate = b)`, against the same in plain PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.neuron.program import Wired
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.layers.neuron import Neuron
from tests.differential.helpers import randn
from tests.runtime.conftest import Compile
from tests.surrogates import sigmoid, step

T, SHAPE = 4, (3, 2, 5, 4)
GATED = """
neuron gated(gate, kick = 0.1, tau = 2.0) {
  w = learn(0.7)
  v = sigmoid(gate) * delay(v, 1) * (1 - delay(s, 1)) + w * x / tau + kick
  s = heaviside(v - 0.5)
}
"""
PLAIN = "neuron product(other) { s = x * tanh(other) + max(x, other) }"


def by_hand(x: Tensor, gate: Tensor, kick: Tensor, w: Tensor, tau: float = 2.0) -> Tensor:
    v = s = torch.zeros_like(x[0])
    spikes = []
    for t in range(len(x)):
        v = torch.sigmoid(gate[t]) * v * (1 - s) + w * x[t] / tau + kick[t]
        s = step(v - 0.5, sigmoid(4))
        spikes.append(s)
    return torch.stack(spikes)


def gradients(out: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out * randn(*out.shape, seed=9)).sum(), of)


@pytest.mark.parametrize("static", [False, True])
def test_the_kernel_is_the_loop(compiled: Compile, static: bool) -> None:
    program = compiled(GATED, gate=Wired.INPUT, kick=Wired.INPUT)
    assert program.inputs == ("gate", "kick")
    assert read_program(program.text()) == program
    neuron = Neuron(program.text(), T, 3).double()
    assert (neuron.rank, neuron.input_rank) == (3, 4)
    leading = () if static else (T,)
    values = [(2 * randn(*leading, *SHAPE, seed=i)).requires_grad_() for i in range(3)]
    (w,) = neuron.params()
    mine = neuron(torch.stack(values, -1))
    theirs = by_hand(*(x.expand(T, *SHAPE) for x in values), w)
    assert torch.equal(mine, theirs)
    assert 0.02 < mine.mean() < 0.98
    for a, b in zip(gradients(mine, *values, w), gradients(theirs, *values, w), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


NETWORK = f"""use std
{GATED}
{PLAIN}
network n {{
  input = image(3, 8, 8); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  a = in -> conv(4) -> norm
  b = a -> spike -> conv(4) -> norm
  one = b -> avgpool -> linear(4)
  fired = b -> spike
  last = FLOW
  out = (last + fired) -> avgpool -> linear(5)
}}
"""


@pytest.mark.filterwarnings("ignore:SpikingJelly has no neuron")
@pytest.mark.parametrize("backend", ["eager", "fused", "spikingjelly"])
@pytest.mark.parametrize(
    ("flow", "inputs"),
    [
        ("b -> gated(gate = a, kick = one)", "b a one"),  # a static one beside those that vary
        ("a -> gated(kick = fired, gate = one)", "a one fired"),
    ],
)
def test_networks(flow: str, inputs: str, backend: str) -> None:
    graph = graph_of(check_text(NETWORK.replace("FLOW", flow)))
    model, eager = emit(graph, 0, backend).double(), emit(graph, 0).double()
    model.load_state_dict(eager.state_dict())
    seen: dict[str, Tensor] = {}
    for name in ("a", "b", "one", "fired", "last"):
        hook = lambda _, args, out, name=name: seen.update({name: out})  # noqa: E731
        eager.get_submodule(name).register_forward_hook(hook)
    x = 2 * randn(2, 3, 8, 8)
    torch.testing.assert_close(model(x), eager(x), rtol=1e-9, atol=1e-9)

    def frames(value: Tensor) -> Tensor:
        """[T, N, C, H, W] of what may be static or a vector."""
        value = value if value.dim() % 2 else value.unsqueeze(0)
        return value.reshape(*value.shape, *[1] * (5 - value.dim())).expand(3, 2, 4, 8, 8)

    by_loop = by_hand(*(frames(seen[name]) for name in inputs.split()), torch.tensor(0.7))
    assert torch.equal(by_loop, seen["last"])
    assert 0.02 < by_loop.mean() < 0.98


def errors(flow: str) -> Mapping[str, str]:
    with pytest.raises(SpecError) as caught:
        graph_of(check_text(NETWORK.replace("FLOW", f"(one + a) -> {flow}")))
    return {item.code: f"{item.message} | {item.hint}" for item in caught.value.diagnostics}


@pytest.mark.parametrize(
    ("flow", "code", "said"),
    [
        ("gated", "E0307", "needs `gate` | write `gated(gate = ...)`"),
        ("gated(a)", "E0304", "given by name: `gated(gate = ...)`"),
        ("LIF(a)", "E0304", "with `->`"),
        ("gated(gate = conv(4))", "E0304", "not the layer `conv`"),
        ("gated(gate = (a -> conv(3)))", "E0501", "4 x 8 x 8 and 3 x 8 x 8"),
        ("gated(gate = a, tau = learn(a))", "E0304", ""),
    ],
)
def test_errors(flow: str, code: str, said: str) -> None:
    assert said in errors(flow)[code]


def test_an_input_that_nothing_reads_is_an_error() -> None:
    text = NETWORK.replace(" + kick", "")
    with pytest.raises(SpecError) as caught:
        check_text(text.replace("FLOW", "(one + b) -> gated(gate = a, kick = b)"))
    assert "does not depend on `kick`, its input" in str(caught.value)
