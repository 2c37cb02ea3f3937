"""Gradient rules against plain loops over time and against their authors' code.

``rules.npz`` holds results of the authors' code, in float64 for OTTT and SLTT and in float32 for e-prop:
github.com/pkuxmq/OTTT-SNN (c15d5da; ``make_layers``, ``WrapedSNNOp`` and ``OnlineLIFNode`` in the loop of
``train_cifar.py``), github.com/qymeng94/SLTT (0758ecd; ``SLTTNeuron`` in the loop of ``train_SLTTK.py``) and
github.com/IGITUGraz/eligibility_propagation (efd02e6; ``EligALIF`` and its ``compute_loss_gradient``).
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import danetc
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.model.built import Model
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.backward import Part, check_represented, make_backward
from danetc.runtime.training.losses import Objective
from tests.runtime.training.common import STILL, digits, phase, run
from tests.surrogates import sigmoid, step

SGD = "epochs = 1; batch = 50; optimizer = sgd(lr = 0.5, momentum = 0.9)"
NET = """use std
network net(t = 6) {
  input = image(1, 8, 8); steps = t; neuron = LIF(tau = 2.0, v_threshold = 0.4)
  surrogate = sigmoid(alpha = 4)
  stem = conv(6) -> groupnorm(2) -> spike -> conv(6, stride = 2) -> groupnorm(2) -> spike
  head = avgpool -> linear(10) -> mean_over_time
}
"""
LABELS = torch.tensor([0, 1, 2, 9])


def made(t: int = 6, head: str = "-> mean_over_time") -> Model:
    text = NET.replace("-> mean_over_time", head)
    return danetc.build(text=text, backend="eager", seed=1, set={"t": t}).double().train()


def images(model: Model) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, 1, 8, 8, generator=generator).to(next(model.parameters()).dtype)


def learned(
    model: Model,
    rule: str,
    x: Tensor | None = None,
    loss: Tensor | Callable[[Tensor], Tensor] = LABELS,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The outputs, the loss (by default cross-entropy to labels) and the gradients of a step."""
    chosen, x = phase(f"{SGD}; gradient = {rule}"), images(model) if x is None else x
    objective = Objective(chosen.loss, model.signature, model=model)

    def loss_of(y: Tensor, **rest: Any) -> Tensor:
        return objective(y, loss, x, **rest) if isinstance(loss, Tensor) else loss(y)

    model.zero_grad()
    part = Part(model, model, x, loss_of, backward, torch.enable_grad)
    outputs, found = make_backward(chosen.gradient)(part)
    return outputs, found, {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


def assert_near(found: Any, expected: list[Tensor], rtol: float = 1e-11) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=rtol, atol=1e-13)


class Plain:
    """The network as a plain loop over time, whose layers learn from traces of their inputs."""

    def __init__(self, model: Model, trace: float) -> None:
        self.weights = [value.detach().clone().requires_grad_() for value in model.parameters()]
        self.potentials = [torch.zeros(()), torch.zeros(())]
        self.trace = trace
        self.traces: dict[int, Any] = {}

    def layer(self, place: int, x: Tensor, call: Any) -> Tensor:
        weight = self.weights[place]
        self.traces[place] = self.trace * self.traces.get(place, 0) + x.detach()
        learning = call(self.traces[place], weight)
        y: Tensor = call(x, weight.detach()) + learning - learning.detach()
        return y

    def step(self, x: Tensor) -> Tensor:
        for layer in (0, 1):
            x = self.layer(3 * layer, x, partial(F.conv2d, stride=1 + layer, padding=1))
            x = F.group_norm(x, 2, *self.weights[3 * layer + 1 : 3 * layer + 3])
            v = (self.potentials[layer] + x) / 2
            x = step(v - 0.4, sigmoid(4))
            self.potentials[layer] = v * (1 - x)
        return self.layer(6, x.mean((-2, -1)), F.linear) + self.weights[7]

    def gradients(self, x: Tensor, steps: int) -> tuple[Tensor, list[Any]]:
        """The loss of 6 steps, and the gradients through groups of ``steps`` steps."""
        total = torch.zeros((), dtype=x.dtype)
        for first in range(0, 6, steps):
            outputs = [self.step(x) for _ in range(first, min(first + steps, 6))]
            loss = F.cross_entropy(torch.stack(outputs).mean(0), LABELS) * len(outputs) / 6
            loss.backward()
            total += loss.detach()
            self.potentials = [u.detach() for u in self.potentials]
        return total, [value.grad for value in self.weights]


@pytest.mark.parametrize("head", ["-> mean_over_time", ""], ids=["mean", "steps"])
@pytest.mark.parametrize(
    ("rule", "steps", "trace"),
    [
        ("bptt", 6, 0.0),
        ("truncated(6)", 6, 0.0),
        ("truncated(4)", 4, 0.0),
        ("truncated(1)", 1, 0.0),
        ("online", 1, 0.0),
        ("online(trace = 0.5)", 1, 0.5),
    ],
)
def test_gradients_equal_a_plain_loop_s(head: str, rule: str, steps: int, trace: float) -> None:
    model = made(head=head)
    _, loss, found = learned(model, rule)
    wanted, expected = Plain(model, trace).gradients(images(model), steps)
    torch.testing.assert_close(loss, wanted)
    assert_near(found.values(), expected, rtol=1e-9)
    assert all(gradient.abs().max() > 0 for gradient in expected)


def saved(rule: str, t: int) -> int:
    """The largest number of bytes that autograd holds at a time."""
    held = [0]

    def pack(value: Tensor) -> Tensor:
        held[-1] += value.nbytes
        return value

    def backward(loss: Tensor) -> None:
        loss.backward()
        held.append(0)  # the backward pass has freed them

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        learned(made(t), rule, backward=backward)
    return max(held)


@pytest.mark.parametrize("rule", ["truncated(2)", "online(trace = 0.5)"])
def test_what_is_saved_does_not_grow_with_the_steps(rule: str) -> None:
    assert saved(rule, 16) == pytest.approx(saved(rule, 4), rel=0.02)


RECORDED = np.load(Path(__file__).with_name("rules.npz"))
AUTHORS = {key: torch.from_numpy(value) for key, value in RECORDED.items()}
DETACHED = """use std
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
EVENTS = AUTHORS["eprop/x"].double().transpose(0, 1)[..., None, None]


def numbered(prefix: str) -> list[Tensor]:
    count = sum(key.startswith(f"{prefix}/") for key in AUTHORS)
    return [AUTHORS[f"{prefix}/{i}"] for i in range(count)]


def convolutional(backend: str = "eager") -> Model:
    """The network of OTTT and SLTT with the authors' initial weights."""
    model = danetc.build(text=DETACHED, backend=backend).double().train()
    for value, start in zip(model.state_dict().values(), numbered("start"), strict=True):
        value.copy_(start)
    return model


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
    torch.manual_seed(7)  # for the steps that are drawn
    outputs, _, found = learned(convolutional(backend), rule, AUTHORS["x"], AUTHORS["label"])
    torch.testing.assert_close(outputs, AUTHORS["ottt/outputs"], rtol=1e-12, atol=0)
    assert_near(found.values(), numbered(f"{theirs}/gradients"))


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_a_training_updates_after_each_step(backend: str) -> None:
    memory = Memory(AUTHORS["x"].float(), AUTHORS["label"])
    data = DataSet("made", "made", tuple("abcde"), memory, memory, (8, 8), "made", False)
    rule = "gradient = online(trace = 0.5, trace_first = false, update = step)"
    done = run(convolutional(backend), data, replace(phase(f"{SGD}; {rule}"), batch=3))
    assert_near(done.weights.values(), numbered("ottt/online/weights"))


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_eprop_is_the_eligibility_traces_of_the_authors(backend: str) -> None:
    model = danetc.build(text=ALIF, backend=backend).double().train()
    for value, name in zip(model.state_dict().values(), ("w_in", "w_rec", "w_out"), strict=True):
        value.copy_(AUTHORS[f"eprop/{name}"].T)
    target, outputs = (AUTHORS[f"eprop/{key}"].double().transpose(0, 1) for key in ("target", "y"))
    found = {}
    for rule in ("eprop", "bptt"):
        y, _, grads = learned(model, rule, EVENTS, lambda y: 0.5 * (y - target).square().sum())
        torch.testing.assert_close(y, outputs, rtol=1e-4, atol=1e-5)
        found[rule] = [*grads.values()]
    recurrent = ~torch.eye(8, dtype=torch.bool)  # the authors' neurons do not feed themselves
    for place, key, same in ((0, "in", torch.ones(5, 8) > 0), (1, "rec", recurrent)):
        mine, theirs = found["eprop"][place].T[same], AUTHORS[f"eprop/gradients/{key}"].double()
        near = 1e-6 * float(theirs.abs().max())
        torch.testing.assert_close(mine, theirs[same], rtol=1e-5, atol=near)
        assert not torch.allclose(found["bptt"][place].T[same], mine, rtol=1e-2)


def test_a_traced_recurrent_layer_learns_by_eprop_without_keeping_all_steps() -> None:
    """This holds for leaky neurons with a detached reset, and a readout without memory."""
    text = ALIF.replace("- 0.3 * b", "").replace("state b = 0.0;", "").replace("-> leaky", "")
    text = re.sub(r"\n  b = .*|, decay_b = [0-9.]*|neuron leaky.*", "", text)
    model = danetc.build(text=text).double().train()
    rules = "eprop", f"online(trace = {math.exp(-1 / 10)!r})"
    one, other = (learned(model, r, EVENTS, lambda y: (y - 1).square().sum())[2] for r in rules)
    for name in ("a.linear.weight", "h.linear.weight"):
        torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=1e-12)
        assert one[name].abs().max() > 1e-3


WHOLE = NET.replace("stem = conv(6)", "stem = conv(6) -> softmax(over = time)")


@pytest.mark.parametrize(
    ("text", "setting", "says"),
    [
        (STILL, "online(steps = 3)", r"exceeds the network's T of 2 time steps; use at most 2"),
        (STILL, "eprop", r"of which the network has none; use `gradient = bptt`"),
        (STILL, "online(update = step); accumulate = 2", r"2 parts; set `accumulate = 1`"),
        (WHOLE, "online; loss = mse", r"step by step, .* use `gradient = bptt`"),
        (NET, "online; loss = mse + firing_rate", "read neurons"),
    ],
)
def test_what_does_not_fit_the_rule_is_refused(text: str, setting: str, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        run(danetc.build(text=text, seed=1), digits(), phase(f"{SGD}; gradient = {setting}"))


SOFT = """use std
neuron soft_IF { state u = 0.0; v = u + x; s = heaviside(v - 1); u = v - s }  # allow W0102
# allow W0102
neuron soft_LIF { state u = 0.0; v = 0.8 * u + 0.3 * x; s = 2 * heaviside(v - learn(0.5)); u = v - s / 4 }
network net {
  input = image(1, 8, 8); steps = 6; neuron = soft_IF; surrogate = atan
  stem = conv(6) -> norm -> spike -> conv(6, stride = 2) -> norm -> spike
  head = avgpool -> linear(10) -> mean_over_time
}
"""

STEM = "stem = conv(6) -> norm -> spike -> conv(6, stride = 2) -> norm -> spike\n  head = avgpool"
LOOP = "h = ((in -> conv(2)) + (h -> delay(1) -> conv(2))) -> spike\n  out = h -> avgpool"


def test_representation_is_the_gradient_of_clamped_means() -> None:
    """In float64. ``zoo/dsr`` records the authors' gradients with leaks and learnt thresholds."""
    model = danetc.build(text=SOFT, backend="eager", seed=1).double().train()
    _, loss, found = learned(model, "representation")
    weights = [value.detach().clone().requires_grad_() for value in model.parameters()]
    conv1, scale1, shift1, conv2, scale2, shift2, linear, bias = weights

    def fire(x: Tensor) -> Tensor:
        potential, spikes = torch.zeros_like(x[0]), []
        for current in x.detach():
            potential = potential + current
            spikes.append((potential >= 1).double())
            potential = potential - spikes[-1]
        rate = x.mean(0).clamp(0, 1)
        return torch.stack(spikes) + (rate - rate.detach())

    x = F.conv2d(images(model), conv1, padding=1)
    x = F.batch_norm(x, None, None, scale1, shift1, training=True)
    x = F.conv2d(fire(x.expand(6, *x.shape)).flatten(0, 1), conv2, stride=2, padding=1)
    x = F.batch_norm(x, None, None, scale2, shift2, training=True)
    rates = fire(x.unflatten(0, (6, 4))).mean((0, 3, 4))
    expected = F.cross_entropy(F.linear(rates, linear, bias), LABELS)
    torch.testing.assert_close(loss, expected.detach())
    assert_near(found.values(), [*torch.autograd.grad(expected, weights)], rtol=1e-9)
    assert all(gradient.abs().max() > 1e-5 for gradient in found.values())


@pytest.mark.parametrize("neuron", ["soft_IF", "soft_LIF"])
def test_representation_is_equal_on_all_backends(neuron: str) -> None:
    text = SOFT.replace("neuron = soft_IF", f"neuron = {neuron}")
    ways = [("eager", "none"), ("eager", "recompute"), ("fused", "none"), ("fused", "recompute")]
    found = []
    for backend, memory in ways:
        model = danetc.build(text=text, backend=backend, memory=memory, seed=1).train()
        found.append([*learned(model, "representation")[2].values(), *model.buffers()])
        assert not any(module._forward_hooks for module in model.modules())
    assert all(map(torch.equal, *found[:2])), "recompute is exact"
    for other in found[2:]:
        for one, each in zip(found[0], other, strict=True):
            torch.testing.assert_close(each, one, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("neuron = soft_IF", "neuron = LIF", "`stem.spike1`: what it subtracts"),
        ("v = u + x;", "v = u + x * x;", "its membrane is not a leak"),
        (
            "s = heaviside(v - 1); u = v - s",
            "o = heaviside(v - 1); s = o + 1; u = v - o",
            "its output is",
        ),
        ("s = heaviside(v - 1); u", "s = round(min(max(v, 0), 4)); u", "not that of one heaviside"),
        ("head = avgpool", "head = threshold(0.5) -> avgpool", "needs one state"),
        (STEM, LOOP, "it runs in a loop"),
    ],
)
def test_neurons_without_a_rate(old: str, new: str, says: str) -> None:
    model = danetc.build(text=SOFT.replace(old, new), backend="eager")
    with pytest.raises(TrainingError, match=says):
        check_represented(model)
