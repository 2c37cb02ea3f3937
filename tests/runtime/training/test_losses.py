"""Terms of losses against formulas written out, and what they read of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import danetc
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.built import Model
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.losses import Objective
from tests.runtime.training.common import phase

NET = """use std
neuron quarter { state u = 0.0; v = 0.5 * u + x; s = round(min(max(v, 0), 4)) / 4; u = v - s }
network net {
  input = image(1, 8, 8); steps = 3; neuron = LIF(tau = learn(2.0, above = 1), v_threshold = 0.5)
  surrogate = sigmoid(alpha = 4)
  a = in -> conv(8) -> norm -> spike
  early = a -> avgpool -> linear(10) -> mean_over_time
  late = a -> conv(8, stride = 2) -> norm -> quarter -> avgpool -> linear(10)
  out = outputs(early = early, late = late)
}
"""
LABELS = torch.tensor([0, 1, 2, 3, 9, 1])


def made(backend: str = "eager", seed: int = 1, **rest: Any) -> Model:
    return danetc.build(text=NET, backend=backend, seed=seed, **rest).train()


def images() -> Tensor:
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def objective(loss: str, model: Model, **rest: Any) -> Objective:
    terms = phase(f"epochs = 1; optimizer = sgd(lr = 0.1); loss = {loss}").loss
    return Objective(terms, model.signature, model=model, **rest)


def layers(model: nn.Module) -> tuple[list[Neuron], dict[Neuron, tuple[Tensor, Tensor]]]:
    """The neurons of a model, and what each takes and gives in the passes to come."""
    neurons = [module for module in model.modules() if isinstance(module, Neuron)]
    seen: dict[Neuron, tuple[Tensor, Tensor]] = {}
    for neuron in neurons:
        neuron.register_forward_hook(
            lambda module, inputs, out: seen.__setitem__(module, (inputs[0], out))
        )
    return neurons, seen


def same_gradients(model: nn.Module, found: Tensor, expected: Tensor) -> None:
    """That two losses of one pass have the same value and the same gradients, which are some."""
    torch.testing.assert_close(found, expected)
    weights = list(model.parameters())
    a = torch.autograd.grad(found, weights, retain_graph=True, allow_unused=True)
    b = torch.autograd.grad(expected, weights, allow_unused=True)
    assert [x is None for x in a] == [x is None for x in b]
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    assert any(x.abs().max() > 1e-6 for x, _ in pairs)
    for x, y in pairs:
        torch.testing.assert_close(x, y)


def test_terms_of_outputs_add_up() -> None:
    model = made()
    loss = objective("cross_entropy(output = early) + 0.4 * mse(output = late)", model)
    early, late = outputs = model(images())
    wrong = (late.mean(0) - F.one_hot(LABELS, 10)).square().mean()
    same_gradients(model, loss(outputs, LABELS), F.cross_entropy(early, LABELS) + 0.4 * wrong)
    assert loss.answers(outputs) is early, "accuracy is that of the first term's output"
    shares = F.one_hot(LABELS, 10) * 0.7 + 0.03
    term = objective("mse(output = late)", model)
    torch.testing.assert_close(term(outputs, shares), (late.mean(0) - shares).square().mean())


@pytest.mark.parametrize("backend", ["eager", "fused", "spikingjelly"])
def test_firing_rates_are_means_of_spikes(backend: str) -> None:
    text = NET.replace("tau = learn(2.0, above = 1), ", "").replace(
        "quarter -> avg", "spike -> avg"
    )
    model = danetc.build(text=text, backend=backend, seed=1).train()
    loss = objective("mse(output = late) + 2 * firing_rate(target = 0.3, power = 1)", model)
    plain = danetc.build(text=text, backend="eager", seed=1).train()
    neurons, seen = layers(plain)
    x = images()
    value, (_, late) = loss(model(x), LABELS), plain(x)
    rates = [seen[neuron][1].mean() for neuron in neurons]
    wrong = (late.mean(0) - F.one_hot(LABELS, 10)).square().mean()
    expected = wrong + 2 * torch.stack([(rate - 0.3).abs() for rate in rates]).mean()
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    value.backward()
    expected.backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        if a.grad is not None or b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("which", ["neuron = quarter", 'layers = "late.*"'])
def test_a_rate_counts_units_and_may_be_of_one_neuron_alone(which: str) -> None:
    model = made()
    loss = objective(f"0.5 * mse(output = late) + firing_rate({which})", model)
    neurons, seen = layers(model)
    outputs = model(images())
    rate = (seen[neurons[1]][1] / 0.25).mean()
    wrong = (outputs[1].mean(0) - F.one_hot(LABELS, 10)).square().mean()
    same_gradients(model, loss(outputs, LABELS), 0.5 * wrong + rate**2)


LOOP = """use std
neuron signs { s = 2 * heaviside(x) - 1 }
network net {
  input = image(2, 6, 6); steps = 3; neuron = LIF; surrogate = atan
  a = in -> conv(3) -> norm -> spike
  h = (a + (h -> delay(1) -> conv(3))) -> spike
  b = ((h -> conv(3) -> norm) + (a -> conv(3, weight = signs) -> norm)) -> spike
  out = b -> avgpool -> linear(3) -> mean_over_time
}
"""
TERMS = "firing_rate(0.3), membrane(0.2), membrane(0.1, of = current), membrane(0.3, of = spikes)"


@pytest.mark.parametrize("term", TERMS.split("), "))
def test_terms_of_neurons_are_equal_on_all_backends(term: str) -> None:
    """Fused layers, segments that run again and loops have the values, gradients and statistics of plain layers."""
    ways = [("eager", "none"), ("fused", "none"), ("fused", "recompute"), ("eager", "recompute"),
            ("spikingjelly", "none")]  # fmt: skip
    found = []
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    for backend, memory in ways:
        model = danetc.build(text=LOOP, backend=backend, memory=memory, seed=1).train()
        loss = objective(f"cross_entropy + 3 * {term.rstrip(')')})", model)
        values = [loss(model(x), torch.tensor([0, 1, 2, 0])) for _ in range(2)]
        values[1].backward()
        seen = dict(model.named_buffers()) | {k: p.grad for k, p in model.named_parameters()}
        found.append([loss.seen[-1], seen])
    (terms, plain), *others = found
    assert terms[1] > 1e-3
    for value, seen in others:
        torch.testing.assert_close(value, terms, rtol=1e-4, atol=1e-5)
        for key, each in plain.items():
            torch.testing.assert_close(seen[key], each, rtol=1e-3, atol=1e-5)
    assert all(map(torch.equal, found[3][1].values(), plain.values())), "recompute is exact"
    with pytest.raises(TrainingError, match=r"it has LIF \(a.spike, h.spike, b.spike\)$"):
        objective("cross_entropy + firing_rate(neuron = signs)", model)  # not those of weights


def test_membranes_are_those_before_the_reset() -> None:
    model = made()
    loss = objective("mse(output = early) + membrane(target = 0.5, neuron = LIF)", model)
    (lif, _), seen = layers(model)
    outputs = model(images())
    x, spikes = seen[lif]
    tau = 1 + F.softplus(next(lif.parameters()))
    u, potentials = torch.zeros_like(x), []
    for t in range(3):  # the input is static
        potentials.append((1 - 1 / tau) * u + x / tau)
        # gradients flow through the reset, by the surrogate's slope
        slope = (
            4
            * torch.sigmoid(4 * (potentials[-1] - 0.5))
            * torch.sigmoid(-4 * (potentials[-1] - 0.5))
        )
        spike = spikes[t].detach() + (slope.detach() * (potentials[-1] - potentials[-1].detach()))
        u = potentials[-1] * (1 - spike)
    wrong = (outputs[0] - F.one_hot(LABELS, 10)).square().mean()
    expected = wrong + (torch.stack(potentials).mean() - 0.5).square()
    same_gradients(model, loss(outputs, LABELS), expected)


def test_a_teacher_is_learnt_from() -> None:
    """It sees a batch once, in however many parts the network runs."""
    model, teacher = made(), made(seed=2).eval()
    text = 'cross_entropy(output = late) + 0.5 * distill("runs/t", temperature = 2, output = early)'
    loss = objective(text, model, teachers={"runs/t": teacher})
    x = images()
    outputs = model(x)
    with torch.no_grad():
        known = (teacher(x)[0] / 2).softmax(-1)
    divergence = (known * (known.log() - (outputs[0] / 2).log_softmax(-1))).sum(-1).mean()
    expected = F.cross_entropy(outputs[1].mean(0), LABELS) + 0.5 * 4 * divergence
    calls: list[Tensor] = []
    teacher.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0]))
    same_gradients(model, loss(outputs, LABELS, x), expected)
    assert all(weight.grad is None for weight in teacher.parameters())
    torch.testing.assert_close(loss(outputs, LABELS, x), expected)
    loss(outputs, LABELS, x.clone())
    assert [call is x for call in calls] == [True, False]


def test_test_images_are_judged_by_the_outputs_alone() -> None:
    model = made()
    terms = phase(
        "epochs = 1; optimizer = sgd(lr = 0.1); "
        'loss = mse(output = late) + firing_rate + distill("runs/t", output = late)'
    ).loss
    outputs = model(images())
    found = Objective(terms, model.signature)(outputs, LABELS)
    torch.testing.assert_close(found, (outputs[1].mean(0) - F.one_hot(LABELS, 10)).square().mean())


@pytest.mark.parametrize(
    ("loss", "how", "says"),
    [
        (
            "cross_entropy(output = lat)",
            {},
            "the recipe's loss: the network has no output `lat`; it has `early`, `late`",
        ),
        ("cross_entropy", {}, r"cross_entropy\(output = early\)"),
        ("firing_rate", {}, "does not depend on the labels"),
        (
            "mse(output = late) + firing_rate(neuron = IF)",
            {},
            r"no neuron `IF`; it has LIF \(a.spike\), quarter \(late.spike\)",
        ),
        ("mse(output = late) + membrane(neuron = quarter)", {}, "no threshold"),
        (
            'mse(output = late) + membrane(layers = "b.*")',
            {},
            r"no neuron that fires in layers `b\.\*`; it has",
        ),
        (
            'mse(output = late) + distill("runs/t", output = early)',
            {},
            r"gives early \(4\), late \(4\).* 10 classes",
        ),
    ],
)
def test_what_does_not_fit_the_network(loss: str, how: dict[str, str], says: str) -> None:
    teacher = danetc.build(text=NET.replace("linear(10)", "linear(4)"), backend="eager")
    with pytest.raises(TrainingError, match=says):
        objective(loss, made(**how), teachers={"runs/t": teacher})


@pytest.mark.thorough
def test_a_teacher_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = NET.replace("outputs(early = early, late = late)", "early")
    one = "\n".join(
        line for line in one.splitlines() if " late =" not in line and "quarter" not in line
    )
    text = f"""{one}
recipe alone {{ epochs = 1; optimizer = adamw(lr = 0.01); loss = mse }}
recipe taught = alone {{ loss = mse + distill("runs/teacher") }}
"""
    Path("net.danet").write_text(text)
    arguments: dict[str, Any] = {"data": "digits", "backend": "eager"}
    danetc.train("net.danet", recipe="alone", output="runs/teacher", seed=1, **arguments)
    trained = danetc.train("net.danet", recipe="taught", output="runs/net", seed=2, **arguments)
    alone = danetc.train("net.danet", recipe="alone", output="runs/alone", seed=2, **arguments)
    assert trained.record["epochs"][0]["train_loss"] != alone.record["epochs"][0]["train_loss"]
    danetc.train(
        "net.danet", recipe="alone", output="runs/teacher", seed=3, fresh=True, **arguments
    )
    with pytest.raises(danetc.UserError, match="teachers"):
        danetc.train("net.danet", recipe="taught", output="runs/net", seed=2, **arguments)
