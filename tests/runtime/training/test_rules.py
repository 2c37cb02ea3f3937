"""Gradient rules against the code of their authors.

``rules.npz`` has what the authors' code computes, in float64 for OTTT and SLTT and in float32 for e-prop:
github.com/pkuxmq/OTTT-SNN (c15d5da; ``make_layers``, ``WrapedSNNOp`` and ``OnlineLIFNode`` in the loop of
``train_cifar.py``), github.com/qymeng94/SLTT (0758ecd; ``SLTTNeuron`` in the loop of ``train_SLTTK.py``) and
github.com/IGITUGraz/eligibility_propagation (efd02e6; ``EligALIF`` and its ``compute_loss_gradient``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import danetc
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.model.built import Model
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.backward import Part, make_backward
from danetc.runtime.training.losses import Objective
from tests.runtime.training.common import digits, phase, run, small

AUTHORS = {
    key: torch.from_numpy(value)
    for key, value in np.load(Path(__file__).with_name("rules.npz")).items()
}
SGD = "optimizer = sgd(lr = 0.5, momentum = 0.9)"
SOFT = """use std
neuron soft(tau = 2.0) {
  state u = 0.0
  v = u * (1 - 1 / tau) + x
  s = heaviside(v - 1)
  u = v - detach(s)
}
network net {
  input = image(2, 8, 8); steps = 4; neuron = soft; surrogate = sigmoid(alpha = 4)
  a   = in -> conv(4, bias = true) -> spike
  b   = (2.74 * a) -> avgpool(2) -> conv(6, bias = true) -> spike
  out = (2.74 * b) -> linear(5)
}"""
ALIF = f"""use std
neuron alif(decay = {math.exp(-1 / 10)!r}, decay_b = {math.exp(-1 / 15)!r}) {{
  state v = 0.0; state b = 0.0; state z = 0.0
  b = decay_b * b + z
  v = decay * v + x - 0.5 * detach(z)
  s = heaviside((v - 0.5 - 0.3 * b) / 0.5)
  z = s
}}
neuron leaky(decay = {math.exp(-1 / 8)!r}) {{ state y = 0.0; y = decay * y + (1 - decay) * x; s = y }}
surrogate tent {{ dy = 0.3 * max(1 - abs(x), 0) }}
network net {{
  input = events(5, 1, 1); steps = 20; neuron = alif; surrogate = tent
  a   = in -> linear(8, bias = false)
  h   = (a + (h -> delay(1) -> linear(8, bias = false))) -> spike
  out = h -> linear(2, bias = false) -> leaky
}}"""


def numbered(prefix: str) -> list[Tensor]:
    found = {k: v for k, v in AUTHORS.items() if k.startswith(f"{prefix}/")}
    return [found[f"{prefix}/{i}"] for i in range(len(found))]


def convolutional(backend: str = "eager") -> Model:
    """The network of OTTT and SLTT with the authors' first weights."""
    model = danetc.build(text=SOFT, backend=backend).double().train()
    with torch.no_grad():
        for parameter, start in zip(model.parameters(), numbered("start"), strict=True):
            parameter.copy_(start)
    return model


def backward(model: Model, rule: str, update: Callable[[], object] = lambda: None) -> Tensor:
    """Run a rule, as the training does, and return the outputs."""
    chosen = phase(f"epochs = 1; {SGD}; gradient = {rule}")
    loss = Objective(chosen.loss, model.signature, model=model)
    x, label = AUTHORS["x"], AUTHORS["label"]
    parts: Any = x, lambda y, **rest: loss(y, label, x, **rest), Tensor.backward, torch.enable_grad
    outputs, _ = make_backward(chosen.gradient)(Part(model, model, *parts, update))
    return outputs  # type: ignore[no-any-return]


def assert_near(found: list[Tensor], expected: list[Tensor]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-13)


def gradients(model: Model) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    return [each for each in found if each is not None]


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        ("online(trace = 0.5, trace_first = false)", "ottt"),
        ("online", "sltt"),
        ("truncated(1)", "sltt"),
        ("online(steps = 4)", "sltt"),
        ("online(steps = 2)", "slttk"),
    ],
)
def test_gradients_are_the_authors(rule: str, theirs: str, backend: str) -> None:
    model = convolutional(backend)
    torch.manual_seed(7)  # of the steps that are drawn
    torch.testing.assert_close(backward(model, rule), AUTHORS["ottt/outputs"], rtol=1e-12, atol=0)
    assert_near(gradients(model), numbered(f"{theirs}/gradients"))


def test_a_traced_first_layer_has_another_gradient_and_the_others_the_same() -> None:
    model = convolutional()
    backward(model, "online(trace = 0.5)")
    first, bias, *rest = gradients(model)
    theirs = numbered("ottt/gradients")
    assert_near([bias, *rest], theirs[1:])
    assert first.norm() / theirs[0].norm() == pytest.approx(1.735, abs=1e-3)


def test_updates_after_each_step_are_the_authors() -> None:
    model = convolutional()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    rule = "online(trace = 0.5, trace_first = false, update = step)"
    outputs = backward(model, rule, update)
    optimizer.step()
    torch.testing.assert_close(outputs, AUTHORS["ottt/online/outputs"], rtol=1e-11, atol=1e-13)
    assert_near([p.detach() for p in model.parameters()], numbered("ottt/online/weights"))


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_a_training_updates_after_each_step(backend: str) -> None:
    memory = Memory(AUTHORS["x"].float(), AUTHORS["label"])
    data = DataSet("made", "made", tuple("abcde"), memory, memory, (8, 8), "made", False)
    rule = "gradient = online(trace = 0.5, trace_first = false, update = step)"
    done = run(convolutional(backend), data, phase(f"epochs = 1; batch = 3; {SGD}; {rule}"))
    assert_near([*done.weights.values()], numbered("ottt/online/weights"))


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_eprop_is_the_eligibility_traces_of_the_authors(backend: str) -> None:
    model = danetc.build(text=ALIF, backend=backend).double().train()
    theirs = {k.removeprefix("eprop/"): v for k, v in AUTHORS.items() if k.startswith("eprop/")}
    weights = {"a.linear.weight": "w_in", "h.linear.weight": "w_rec", "linear.weight": "w_out"}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(theirs[weights[name]].T)
    x = theirs["x"].double().transpose(0, 1)[..., None, None]
    target = theirs["target"].double().transpose(0, 1)
    found = {}
    for rule in ("eprop", "bptt"):
        model.zero_grad()
        parts: Any = x, lambda y, **rest: 0.5 * (y - target).square().sum(), Tensor.backward
        chosen = phase(f"epochs = 1; {SGD}; gradient = {rule}").gradient
        y, _ = make_backward(chosen)(Part(model, model, *parts, torch.enable_grad))
        torch.testing.assert_close(y.transpose(0, 1), theirs["y"].double(), rtol=1e-4, atol=1e-5)
        found[rule] = {
            weights[n]: p.grad for n, p in model.named_parameters() if p.grad is not None
        }
    others = ~torch.eye(
        8, dtype=torch.bool
    )  # the authors have no connections of a neuron to itself
    for weight, theirs_of in (("w_rec", theirs["gradients/rec"]), ("w_in", theirs["gradients/in"])):
        mine = found["eprop"][weight].T
        same = others if weight == "w_rec" else torch.ones_like(mine, dtype=torch.bool)
        scale = float(theirs_of.abs().max())
        torch.testing.assert_close(
            mine[same], theirs_of.double()[same], rtol=1e-5, atol=1e-6 * scale
        )
        assert not torch.allclose(found["bptt"][weight].T[same], mine[same], rtol=1e-2)


def test_a_traced_recurrent_layer_learns_by_eprop_without_keeping_all_steps() -> None:
    """For leaky neurons whose reset is detached, and a readout without memory."""
    text = ALIF.replace("- 0.3 * b", "").replace("state b = 0.0;", "").replace("-> leaky", "")
    text = re.sub(r"\n  b = .*|, decay_b = [0-9.]*|neuron leaky.*", "", text)
    model = danetc.build(text=text).double().train()
    x = AUTHORS["eprop/x"].double().transpose(0, 1)[..., None, None]
    found = []
    for rule in ("eprop", f"online(trace = {math.exp(-1 / 10)!r})"):
        model.zero_grad()
        parts: Any = x, lambda y, **rest: (y - 1).square().sum(), Tensor.backward
        chosen = phase(f"epochs = 1; {SGD}; gradient = {rule}").gradient
        make_backward(chosen)(Part(model, model, *parts, torch.enable_grad))
        found.append([p.grad for name, p in model.named_parameters() if name != "linear.weight"])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
        assert one.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("online(steps = 3)", r"exceeds the network's T of 2 time steps; use at most 2"),
        ("eprop", r"of which the network has none; use `gradient = bptt`"),
        ("online(update = step); accumulate = 2", r"2 parts; set `accumulate = 1`"),
    ],
)
def test_what_does_not_fit_the_rule_is_refused(rule: str, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        run(small(), digits(), phase(f"epochs = 1; batch = 50; {SGD}; gradient = {rule}"))
