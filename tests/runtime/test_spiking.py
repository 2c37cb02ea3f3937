"""SpikingJelly's neurons in place of ours: found by declaration, equal spikes and gradients."""

from __future__ import annotations

import re
import sys
import warnings

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.program import Learn, NeuronProgram
from danetc.dsl.neuron.spikingjelly import SURROGATES, match_neuron, match_surrogate
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.spikingjelly import SpikingJellyNeuron
from tests.differential.helpers import randn, text
from tests.differential.networks import small
from tests.runtime.conftest import Compile, surrogate_text

ATAN = "surrogate atan(alpha = 2.7) { z = 1.5707963267948966 * alpha * x;  dy = alpha / 2 / (1 + z * z) }"
HEAD = "neuron N(v_threshold = 1.0) { state u = 0.0; "
SPIKE = "s = heaviside(v - v_threshold); "
# Near misses: one thing is different in each.
OTHERS = {
    "the same written otherwise": f"{HEAD} v = u + (x - u) / 1.5; {SPIKE} u = v * (1 - s) }}",
    "fires strictly above": "neuron N { state u = 0.0; v = u + x; s = 1 - heaviside(1 - v); u = v * (1 - s) }",
    "scaled slope": "neuron N { state u = 0.0; v = u + x; s = heaviside(2 * (v - 1)); u = v * (1 - s) }",
    "resets by another amount": f"{HEAD} v = u + x; {SPIKE} u = v - 0.9 * s }}",
    "resets half detached": f"{HEAD} v = u + x; {SPIKE} u = v * (1 - 0.5 * s - 0.5 * detach(s)) }}",
    "detaches the potential": f"{HEAD} v = u + x; {SPIKE} u = detach(v) * (1 - s) }}",
    "leaks to elsewhere": f"{HEAD} v = u + (x - (u - 0.1)) / 2; {SPIKE} u = v * (1 - s) }}",
    "weighs its input": f"{HEAD} v = 0.5 * u + 0.7 * x; {SPIKE} u = v * (1 - s) }}",
    "grows": f"{HEAD} v = 1.5 * u + x; {SPIKE} u = v * (1 - s) }}",
    "squares its input": f"{HEAD} v = u + x * x; {SPIKE} u = v * (1 - s) }}",
    "gives another output": f"{HEAD} v = u + x; p = heaviside(v - 1); s = 2 * p; u = v * (1 - p) }}",
    "learns tau itself": "neuron N(tau = learn(2.0, above = 1)) { state u = 0.0; v = u + (x - u) / tau; "
    "s = heaviside(v - 1); u = v * (1 - s) }",
    "learns its threshold": "neuron N { state u = 0.0; v = u + x; s = heaviside(v - learn(1.0)); u = v * (1 - s) }",
    "two states": f"{HEAD} state a = 0.0; v = u + x - a; {SPIKE} u = v * (1 - s); a = 0.5 * a + s }}",
    "no state": "neuron N { s = heaviside(x - 1) }",
}  # fmt: skip


def run(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Spikes, and the gradients of the input and the parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * randn(*y.shape, seed=2).to(y.dtype)).sum().backward()
    grads = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    return [y.detach(), *(grad for grad in grads if grad is not None)]


def assert_equal(program: NeuronProgram) -> None:
    text = program.text()
    for x in (2 * randn(5, 3, 2, 4, 4), 2 * randn(3, 2, 4, 4)):
        mine, theirs = (run(make(text, 5, 3).double(), x) for make in (Neuron, SpikingJellyNeuron))
        assert len(mine) == len(theirs) == 2 + len(program.learnables)
        assert 0 < float(mine[0].mean()) < 1
        assert torch.equal(mine[0], theirs[0])
        for a, b in zip(mine[1:], theirs[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("neuron", ["IF", "LIF", "PLIF", "IF_soft", "LIF_soft", "PLIF_soft"])
@pytest.mark.parametrize("detach", [False, True])
def test_neurons_of_the_standard_library(compiled: Compile, neuron: str, detach: bool) -> None:
    options = {"v_threshold": 0.8, "detach_reset": detach}
    if "LIF" in neuron:
        options["tau"] = 1.7
    if not neuron.endswith("soft"):
        options["v_rest"] = -0.1
    program = compiled(neuron, ATAN, **options)
    found = match_neuron(program)
    assert found.neuron == neuron.removesuffix("_soft")
    assert found.detach_reset is detach
    assert found.v_reset == options.get("v_rest")
    assert type(found.v_threshold) is float
    assert (found.surrogate, found.shape) == ("ATan", (("alpha", 2.7),))
    assert_equal(program)


@pytest.mark.parametrize("name", OTHERS)
def test_other_equations_are_no_neuron_of_theirs(compiled: Compile, name: str) -> None:
    text = OTHERS[name]
    arguments = {"tau": Learn(2.0, above=1.0)} if "(tau =" in text else {}
    program = compiled(text, **arguments)
    assert match_neuron(program) is None
    with pytest.raises(ValueError, match="no neuron with these equations"):
        SpikingJellyNeuron(program.text(), 4, 3)


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates(compiled: Compile, name: str) -> None:
    text = surrogate_text(name)
    for value in (0.7, 1.3, 2.5):
        program = compiled("IF", re.sub(r"= [\d.]+", f"= {value}", text, count=1))
        if name == "q_pseudo_spike" and value < 1:
            continue  # a power of numbers below 0
        given = dict(program.surrogate.parameters)
        assert value in given.values()
        row = SURROGATES[name]
        assert match_surrogate(program.surrogate) == (
            row.theirs,
            tuple(row.to_theirs(given).items()),
        )
        assert_equal(program)


# -- networks -------------------------------------------------------------------------------------


def graph(neuron: str, stages: str = "resnet18(width = 8) via sew") -> Graph:
    own = {"settings": f"neuron = {neuron}", "stem": "conv(8) -> norm -> spike"}
    return text(small(stages, input="image(3, 16, 16)", **own))


@pytest.mark.parametrize("neuron", ["IF", "LIF(tau = 1.5, detach_reset = true)", "PLIF"])
def test_a_network_is_the_eager_one(neuron: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        theirs = emit(graph(neuron), 3, backend="spikingjelly").double()
    mine = emit(graph(neuron), 3).double()
    assert sum(isinstance(m, SpikingJellyNeuron) for m in theirs.modules()) == 20
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    x = randn(4, 3, 16, 16)
    results = []
    for model in (mine, theirs):
        spikes: list[Tensor] = []
        for layer in model.modules():
            if isinstance(layer, Neuron):
                layer.register_forward_hook(lambda _m, _i, y, seen=spikes: seen.append(y.detach()))
        y = model(x)
        (y * randn(4, 5, seed=2)).sum().backward()
        results.append((spikes, [y.detach(), *(p.grad for p in model.parameters())]))
    (spikes, values), (their_spikes, their_values) = results
    assert len(spikes) == 20
    assert all(torch.equal(a, b) for a, b in zip(spikes, their_spikes, strict=True))
    assert all(bool(s.any()) for s in spikes)
    for a, b in zip(values, their_values, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_what_they_have_not_stays_ours_with_one_notice() -> None:
    mixed = "resnet18(width = 8)[0 .. 1] via origin -> resnet18(width = 8)[2 .. 3] via origin with (neuron = MSLIF)"
    with pytest.warns(RuntimeWarning, match="neuron") as notices:
        model = emit(graph("IF", mixed), backend="spikingjelly")
    assert [("MSLIF" in str(n.message), "`IF`" in str(n.message)) for n in notices] == [
        (True, False)
    ]
    kinds = {type(m) for m in model.modules() if isinstance(m, Neuron)}
    assert kinds == {Neuron, SpikingJellyNeuron}


def test_without_spikingjelly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "spikingjelly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "spikingjelly", None)
    with pytest.raises(ImportError, match=r"pip install 'danetc\[spikingjelly\]'"):
        emit(graph("IF"), backend="spikingjelly")
