"""SpikingJelly's neurons in place of ours: found by their equations, equal spikes and gradients."""

from __future__ import annotations

import copy
import pickle
import sys
import warnings

import pytest
import torch
from torch import Tensor

from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.equations import Learn, NeuronProgram
from danetc.dsl.neuron.kernel_text import MODULE_ATTRIBUTES
from danetc.dsl.neuron.spikingjelly import NeuronMatch, counterpart, surrogate_counterpart
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.spikingjelly import SpikingJellyNeuron
from tests.runtime.conftest import Compile

ATAN = "surrogate atan(alpha = 2.7) { z = 1.5707963267948966 * alpha * x;  dy = alpha / 2 / (1 + z * z) }"
HEAD = "neuron N(v_threshold = 1.0) { state u = 0.0; "
SPIKE = "s = heaviside(v - v_threshold); "
# Neurons as a user may write them, and what they are.
WRITTEN = {
    "leak as a difference": (
        f"{HEAD} v = u + (x - u) / 1.5; {SPIKE} u = v * (1 - s) }}",
        ("LIF", 1.0, 0.0, False, 1.5, True),
    ),
    "decay of the state alone": (
        f"{HEAD} v = 0.25 * u + x; {SPIKE} u = v - v * detach(s) }}",
        ("LIF", 1.0, 0.0, True, 4 / 3, False),
    ),
    "reset below rest": (
        f"{HEAD} v = x + u; {SPIKE} r = 1 - s; u = r * v - 0.5 * s }}",
        ("IF", 1.0, -0.5, False, 2.0, True),
    ),
    "soft": (
        "neuron N(th = 0.6) { state u = 0.0; h = u + x - th; s = heaviside(h); u = h + th * (1 - s) }",
        ("IF", 0.6, None, False, 2.0, True),
    ),
    "gate with bounds": (
        "neuron N(k = learn(0.3, above = 0, below = 1)) { state u = 0.0; v = (1 - k) * u + k * x; "
        "s = heaviside(v - 1); u = v * (1 - detach(s)) }",
        ("PLIF", 1.0, 0.0, True, 2.0, True),
    ),
    "gate of the state alone": (
        "neuron N { state u = 0.2; k = sigmoid(learn(0.4)); v = u - k * (u - 0.2) + x; "
        "s = heaviside(v - 1); u = v * (1 - s) + 0.2 * s }",
        ("PLIF", 1.0, 0.2, False, 2.0, False),
    ),
}  # fmt: skip
# Near misses: one thing is different in each.
OTHERS = {
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
SURROGATES = {
    "y = 1 / (1 + exp(-2.5 * x))": ("Sigmoid", 2.5),
    "z = sigmoid(3 * x); dy = 3 * z * (1 - z)": ("Sigmoid", 3.0),
    "dy = 0.8 / (1 + (3.141592653589793 * 0.8 * x) * (3.141592653589793 * 0.8 * x))": ("ATan", 1.6),
    "dy = max(1.5 - 2.25 * abs(x), 0)": ("PiecewiseQuadratic", 1.5),
    "dy = 1.5 * max(1 - abs(1.5 * x), 0)": ("PiecewiseQuadratic", 1.5),
    "dy = 0.6 * exp(-1.2 * abs(x))": ("PiecewiseExp", 1.2),
    "dy = 1 / (2 * 2.0 * (1 / 2.0 + abs(x)) * (1 / 2.0 + abs(x)))": ("SoftSign", 2.0),
    "dy = 3 / ((1 + abs(x)) * (1 + abs(x)))": ("SuperSpike", 3.0),
    "dy = 2 / 1.7724538509055159 * exp(-4 * x * x)": ("Erf", 2.0),
    "dy = (abs(x) < 0.25) / 0.5": ("Rect", 2.0),
    "z = sigmoid(3 * x); dy = 2 * z * (1 - z)": None,
    "dy = 0.8 / (1 + 2 * x * x)": None,
    "dy = max(1.5 - 2 * abs(x), 0)": None,
    "dy = (abs(x) < 0.25) / 0.6": None,
    "dy = 1 / (1 + abs(2 * x + 1))": None,
    "dy = exp(-2 * abs(x - 1))": None,
    "dy = 0.5": None,
}


def randn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settings(found: NeuronMatch) -> tuple[object, ...]:
    return (
        found.neuron, found.v_threshold, found.v_reset, found.detach_reset,
        pytest.approx(found.tau), found.decay_input,
    )  # fmt: skip


def run(layer: Neuron, x: Tensor) -> list[Tensor]:
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
    found = counterpart(program)
    assert found is not None
    assert found.neuron == neuron.removesuffix("_soft")
    assert found.detach_reset is detach
    assert found.v_reset == options.get("v_rest")
    assert type(found.v_threshold) is float
    assert (found.surrogate, found.alpha) == ("ATan", pytest.approx(2.7))
    assert_equal(program)


@pytest.mark.parametrize("name", WRITTEN)
def test_equations_written_otherwise(compiled: Compile, name: str) -> None:
    text, (neuron, threshold, reset, *rest) = WRITTEN[name]
    arguments = {"k": Learn(0.3, above=0.0, below=1.0)} if "(k =" in text else {}
    program = compiled(text, **arguments)
    found = counterpart(program)
    assert found is not None
    assert found.v_reset is None or type(found.v_reset) is float
    assert settings(found) == (neuron, pytest.approx(threshold), reset, *rest)
    assert_equal(program)


@pytest.mark.parametrize("name", OTHERS)
def test_other_equations_are_no_neuron_of_theirs(compiled: Compile, name: str) -> None:
    text = OTHERS[name]
    arguments = {"tau": Learn(2.0, above=1.0)} if "(tau =" in text else {}
    program = compiled(text, **arguments)
    assert counterpart(program) is None
    with pytest.raises(ValueError, match="no neuron with these equations"):
        SpikingJellyNeuron(program.text(), 4, 3)


@pytest.mark.parametrize("neuron", ["ALIF", "MSLIF", "readout", "ReLU"])
def test_neurons_that_they_have_not(compiled: Compile, neuron: str) -> None:
    assert counterpart(compiled(neuron)) is None


@pytest.mark.parametrize("text", SURROGATES)
def test_surrogates(compiled: Compile, text: str) -> None:
    program = compiled("IF", f"surrogate sg {{ {text} }}")
    assert program.surrogate is not None
    found = surrogate_counterpart(program.surrogate)
    expected = SURROGATES[text]
    if expected is None:
        assert found is None
        assert counterpart(program) is None
        return
    assert found == (expected[0], pytest.approx(expected[1]))
    assert_equal(program)


def test_single_and_half_precision(compiled: Compile) -> None:
    program = compiled("PLIF", tau=1.7)
    x = 2 * randn(4, 2, 3, 4, 4).float()
    mine, theirs = (run(make(program.text(), 4, 3), x) for make in (Neuron, SpikingJellyNeuron))
    assert float((mine[0] != theirs[0]).float().mean()) < 0.01
    y = SpikingJellyNeuron(program.text(), 4, 3)(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert float((y.float() != theirs[0]).float().mean()) < 0.05


def test_no_state_outlives_a_call_and_copies_are_whole(compiled: Compile) -> None:
    layer = SpikingJellyNeuron(compiled("PLIF").text(), 4, 3).double()
    x = 2 * randn(4, 2, 3, 4, 4)
    first = layer(x)
    layer(randn(2, 3, 3, 5, 5))
    assert torch.equal(layer(x), first)
    for clone in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(clone(x), first)
    assert [name for name, _ in layer.named_parameters()] == ["w"]
    assert not list(layer.named_modules())[1:]
    assert {name for name in dir(layer) if not name.startswith("_")} <= {"w"} | MODULE_ATTRIBUTES


# -- networks -------------------------------------------------------------------------------------


def graph(neuron: str, stages: str = "resnet18(width = 8) via sew") -> Graph:
    text = f"""use std
    network small {{
      input = image(3, 16, 16);  steps = 3;  neuron = {neuron};  surrogate = sigmoid(alpha = 4)
      stem = conv(8) -> norm -> spike
      stages = {stages}
      head = avgpool -> mean_over_time -> linear(5)
    }}"""
    return graph_of(check_text(text), None, {})


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
