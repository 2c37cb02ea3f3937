"""Loss terms against explicit formulas, what they read of a network, and what training reports of them."""

import csv
import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import danetc
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.built import Model
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.losses import Objective, of_term
from danetc.tasks.training.directory import metrics_csv
from tests.runtime.training.common import STILL, Trained, gradients, phase, run
from tests.surrogates import sigmoid, step

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


BODY = "epochs = 1; optimizer = sgd(lr = 0.1); loss = "


def made(seed: int = 1) -> Model:
    return danetc.build(text=NET, backend="eager", seed=seed).train()


def images() -> Tensor:
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def objective(loss: str, model: Model, **rest: Any) -> Objective:
    return Objective(phase(BODY + loss).loss, model.signature, model=model, **rest)


def watched(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The inputs and outputs of a model's neurons in the next pass."""
    seen: list[tuple[Tensor, Tensor]] = []
    for module in model.modules():
        if isinstance(module, Neuron):
            module.register_forward_hook(lambda _, inputs, out: seen.append((inputs[0], out)))
    return seen


def wrong(late: Tensor) -> Tensor:
    """The mean squared error of the mean over the steps of an output."""
    return (late.mean(0) - F.one_hot(LABELS, 10)).square().mean()


def same_gradients(model: nn.Module, found: Tensor, expected: Tensor) -> None:
    """Assert that two losses of one pass have equal values and equal gradients, which are not all 0."""
    torch.testing.assert_close(found, expected)
    one, other = (gradients(model, loss) for loss in (found, expected))
    assert any(x.abs().max() > 1e-6 for x in one.values())
    torch.testing.assert_close(one, other)


def test_terms_of_outputs_add_up() -> None:
    model = made()
    loss = objective("cross_entropy(output = early) + 0.4 * mse(output = late)", model)
    early, late = outputs = model(images())
    expected = F.cross_entropy(early, LABELS) + 0.4 * wrong(late)
    same_gradients(model, loss(outputs, LABELS), expected)
    assert loss.answers(outputs) is early, "accuracy is that of the first term's output"
    shares = F.one_hot(LABELS, 10) * 0.7 + 0.03
    term = objective("mse(output = late)", model)
    torch.testing.assert_close(term(outputs, shares), (late.mean(0) - shares).square().mean())
    terms = phase(
        f'{BODY} mse(output = late) + firing_rate + distill("runs/t", output = late)'
    ).loss
    judged = Objective(terms, model.signature)(outputs, LABELS)  # test images: only outputs
    torch.testing.assert_close(judged, wrong(late))


def test_cross_entropy_takes_the_mean_over_time_and_tet_every_step() -> None:
    output = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1])
    entropy, tet = (
        of_term(phase(BODY + text).loss[0].item)
        for text in ("cross_entropy(label_smoothing = 0.1)", "tet(weight = 0.2, target = 2)")
    )
    smooth = torch.full((5, 3), 0.1 / 3) + F.one_hot(labels, 3) * 0.9
    for mean in (output, output.mean(0)):
        expected = -(smooth * output.mean(0).log_softmax(-1)).sum(-1).mean()
        assert torch.allclose(entropy(mean, labels), expected)
    plain = -output.log_softmax(-1)[:, torch.arange(5), labels].mean()
    assert torch.allclose(tet(output, labels), 0.8 * plain + 0.2 * ((output - 2) ** 2).mean())
    with pytest.raises(TrainingError, match="mean_over_time"):
        tet(output[0], labels)


@pytest.mark.parametrize("which", ["", "neuron = quarter", 'layers = "late.*"'])
def test_a_rate_counts_units_and_may_be_of_one_neuron_alone(which: str) -> None:
    """The term of several layers is the mean of their terms."""
    for how, far in (("", lambda x: x**2), ("target = 0.3, power = 1", lambda x: (x - 0.3).abs())):
        model = made()
        arguments = ", ".join(filter(None, (which, how)))
        loss = objective(f"0.5 * mse(output = late) + 2 * firing_rate({arguments})", model)
        seen = watched(model)
        outputs = model(images())
        (_, spikes), (_, quarters) = seen
        rates = [(quarters / 0.25).mean(), *[spikes.mean()] * (not which)]
        term = torch.stack([far(rate) for rate in rates]).mean()
        same_gradients(model, loss(outputs, LABELS), 0.5 * wrong(outputs[1]) + 2 * term)


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
    """Fused layers, recomputed segments and loops match plain layers in values, gradients and statistics."""
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
        torch.testing.assert_close(seen, plain, rtol=1e-3, atol=1e-5)
    assert all(map(torch.equal, found[3][1].values(), plain.values())), "recompute is exact"
    with pytest.raises(TrainingError, match=r"it has LIF \(a.spike, h.spike, b.spike\)$"):
        objective("cross_entropy + firing_rate(neuron = signs)", model)  # only in weights


def test_membranes_are_those_before_the_reset() -> None:
    model = made()
    loss = objective("mse(output = late) + membrane(target = 0.5, neuron = LIF)", model)
    seen = watched(model)
    outputs = model(images())
    x, _ = seen[0]
    tau = 1 + F.softplus(next(model.a.spike.parameters()))
    u, potentials = torch.zeros_like(x), []
    for _ in range(3):  # the input is static
        potentials.append((1 - 1 / tau) * u + x / tau)
        u = potentials[-1] * (1 - step(potentials[-1] - 0.5, sigmoid(4)))
    expected = wrong(outputs[1]) + (torch.stack(potentials).mean() - 0.5).square()
    same_gradients(model, loss(outputs, LABELS), expected)


def test_a_teacher_is_learnt_from() -> None:
    """The teacher runs once for each input, even if the loss is computed several times."""
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


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (
            "cross_entropy(output = lat)",
            "the recipe's loss: the network has no output `lat`; it has `early`, `late`",
        ),
        ("cross_entropy", r"cross_entropy\(output = early\)"),
        ("firing_rate", "does not depend on the labels"),
        (
            "mse(output = late) + firing_rate(neuron = IF)",
            r"no neuron `IF`; it has LIF \(a.spike\), quarter \(late.spike\)",
        ),
        ("mse(output = late) + membrane(neuron = quarter)", "no threshold"),
        (
            'mse(output = late) + membrane(layers = "b.*")',
            r"no neuron that fires in layers `b\.\*`; it has",
        ),
        (
            'mse(output = late) + distill("runs/t", output = early)',
            r"gives early \(4\), late \(4\).* 10 classes",
        ),
    ],
)
def test_what_does_not_fit_the_network(loss: str, says: str) -> None:
    teacher = danetc.build(text=NET.replace("linear(10)", "linear(4)"), backend="eager")
    with pytest.raises(TrainingError, match=says):
        objective(loss, made(), teachers={"runs/t": teacher})


@pytest.mark.thorough
def test_a_teacher_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipes = """
recipe alone { epochs = 1; optimizer = adamw(lr = 0.01); loss = mse }
recipe taught = alone { loss = mse + distill("runs/teacher") }
"""
    Path("net.danet").write_text(STILL + recipes)
    train = partial(danetc.train, "net.danet", data="digits", backend="eager")
    train(recipe="alone", output="runs/teacher", seed=1)
    taught, alone = (
        train(recipe=name, output=f"runs/{name}", seed=2).record["epochs"][0]["train_loss"]
        for name in ("taught", "alone")
    )
    assert taught != alone
    train(recipe="alone", output="runs/teacher", seed=3, fresh=True)
    with pytest.raises(danetc.UserError, match="teachers"):
        train(recipe="taught", output="runs/taught", seed=2)


STANDING = "epochs = 1; batch = 50; optimizer = sgd(lr = 1e-30); "
"""The weights stay as they are, so all trainings see the same network."""


def trained(few: DataSet, loss: str, more: str = "gradient = bptt") -> Trained:
    model = danetc.build(text=STILL, seed=1, backend="eager")
    return run(model, few, phase(f"{STANDING} {more}; loss = {loss}"))


@pytest.mark.parametrize("more", ["accumulate = 2", "gradient = truncated(1)", "ema = 0.5"])
def test_a_term_is_what_it_is_alone(few: DataSet, more: str) -> None:
    whole = trained(few, "cross_entropy + 3 * mse", more)
    alone = {name: trained(few, name, more).history for name in ("cross_entropy", "mse")}
    assert [rows[0]["terms"] for rows in alone.values()] == [{}, {}]
    assert "term" not in metrics_csv(alone["mse"])
    entropy, error = (rows[0]["train_loss"] for rows in alone.values())
    expected = {"cross_entropy": entropy, "mse": 3 * error}
    (epoch,) = whole.epochs
    assert epoch.terms == pytest.approx(expected, rel=1e-5)
    assert whole.reports[-1].terms == epoch.terms
    assert sum(epoch.terms.values()) == pytest.approx(epoch.train_loss, rel=1e-6)
    (row,) = csv.DictReader(io.StringIO(metrics_csv(whole.history)))
    assert float(row["term_mse"]) == epoch.terms["mse"]


def test_terms_of_neurons_and_names_that_repeat(few: DataSet) -> None:
    rates = [f"{factor} * firing_rate(target = {target})" for factor, target in ((0.5, 0), (2, 1))]
    found = [trained(few, f"cross_entropy + {term}").epochs[0] for term in rates]
    (epoch,) = trained(few, " + ".join(["cross_entropy", *rates])).epochs
    assert list(epoch.terms) == ["cross_entropy", "firing_rate_1", "firing_rate_2"]
    for number, alone in enumerate(found, 1):
        rate = alone.train_loss - alone.terms["cross_entropy"]
        assert epoch.terms[f"firing_rate_{number}"] == pytest.approx(rate, rel=1e-4)
