"""Gradients part by part against plain loops over time, and their memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import danetc
from danetc.runtime.model.built import Model
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.backward import Part, check_represented, make_backward
from danetc.runtime.training.losses import Objective
from tests.runtime.training.common import digits, phase, run
from tests.surrogates import sigmoid, step

NET = """use std
network net(t = 6) {
  input = image(1, 8, 8); steps = t; neuron = LIF(tau = 2.0, v_threshold = 0.4)
  surrogate = sigmoid(alpha = 4)
  stem = conv(6) -> groupnorm(2) -> spike -> conv(6, stride = 2) -> groupnorm(2) -> spike
  head = avgpool -> linear(10) HEAD
}
"""
LABELS = torch.tensor([0, 1, 2, 9])


def made(backend: str = "eager", head: str = "-> mean_over_time", t: int = 6) -> Model:
    model = danetc.build(text=NET.replace("HEAD", head), backend=backend, seed=1, set={"t": t})
    return model.double().train() if backend == "eager" else model.train()


def images(model: Model) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    dtype = next(model.parameters()).dtype
    return torch.randn(4, 1, 8, 8, generator=generator).to(dtype)


def learned(
    model: Model, text: str, backward: Callable[[Tensor], object] = Tensor.backward
) -> tuple[Tensor, list[Tensor]]:
    """The loss of a step, and the gradients of the weights."""
    chosen = phase(f"epochs = 1; optimizer = sgd(lr = 0.1); gradient = {text}")
    objective = Objective(chosen.loss, model.signature, model=model)
    model.zero_grad()
    x = images(model)
    part = Part(
        model,
        model,
        x,
        lambda y, **rest: objective(y, LABELS, x, **rest),
        backward,
        torch.enable_grad,
    )
    _, loss = make_backward(chosen.gradient)(part)
    return loss, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


class Plain:
    """The same network as a plain loop over time: what a step gives, from the layers' weights."""

    def __init__(self, model: Model) -> None:
        weights = dict(model.named_parameters())
        self.weights = {
            name: value.detach().clone().requires_grad_() for name, value in weights.items()
        }
        self.potentials: list[Tensor | None] = [None, None]
        self.traces: dict[str, Tensor] = {}

    def layer(self, name: str, x: Tensor, trace: float, call: Any) -> Tensor:
        """A weighted layer, whose weights learn from a trace of its inputs."""
        weight = self.weights[f"{name}.weight"]
        if not trace:
            return call(x, weight)
        past = self.traces.get(name)
        self.traces[name] = x.detach() if past is None else trace * past + x.detach()
        learning = call(self.traces[name], weight)
        return call(x, weight.detach()) + learning - learning.detach()

    def step(self, x: Tensor, trace: float = 0.0) -> Tensor:
        for place, stride in enumerate((1, 2)):
            conv, norm = (
                [name.removesuffix(".weight") for name in self.weights
                 if name.startswith("stem.") and kind in name and name.endswith(".weight")][place]
                for kind in ("conv", "norm")
            )  # fmt: skip
            x = self.layer(conv, x, trace, lambda a, w, s=stride: F.conv2d(a, w, None, s, 1))
            x = F.group_norm(x, 2, self.weights[f"{norm}.weight"], self.weights[f"{norm}.bias"])
            u = self.potentials[place]
            v = x / 2 if u is None else u / 2 + x / 2
            s = step(v - 0.4, sigmoid(4))
            self.potentials[place] = v * (1 - s)
            x = s
        x = x.mean((-2, -1))
        bias = self.weights["head.linear.bias"]
        return self.layer("head.linear", x, trace, lambda a, w: F.linear(a, w)) + bias

    def forget(self) -> None:
        self.potentials = [None if u is None else u.detach() for u in self.potentials]


def plain(
    model: Model, steps: int, trace: float = 0.0, at_once: bool = False
) -> tuple[Tensor, list[Tensor]]:
    net, x, t = Plain(model), images(model), model.signature.steps
    total = torch.zeros((), dtype=x.dtype)
    for first in range(0, t, steps):
        outputs = [net.step(x, trace) for _ in range(first, min(first + steps, t))]
        loss = F.cross_entropy(torch.stack(outputs).mean(0), LABELS) * len(outputs) / t
        loss.backward()
        total += loss.detach()
        net.forget()
    return total, [value.grad for value in net.weights.values() if value.grad is not None]


@pytest.mark.parametrize("head", ["-> mean_over_time", ""], ids=["mean", "steps"])
@pytest.mark.parametrize(
    ("text", "steps", "trace"),
    [
        ("bptt", 6, 0.0),
        ("truncated(6)", 6, 0.0),
        ("truncated(4)", 4, 0.0),
        ("truncated(1)", 1, 0.0),
        ("online", 1, 0.0),
        ("online(trace = 0.5)", 1, 0.5),
    ],
)
def test_gradients_equal_a_plain_loop_s(head: str, text: str, steps: int, trace: float) -> None:
    model = made(head=head)
    loss, found = learned(model, text)
    wanted, expected = plain(model, steps, trace)
    torch.testing.assert_close(loss, wanted)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert a.abs().max() > 0


@pytest.mark.parametrize("text", ["truncated(2)", "online(trace = 0.5)"])
def test_what_is_saved_does_not_grow_with_the_steps(text: str) -> None:
    most = []
    for t in (4, 16):
        held = [0]

        def pack(value: Tensor, held: list[int] = held) -> Tensor:
            held[-1] += value.nbytes
            return value

        def backward(loss: Tensor, held: list[int] = held) -> None:
            loss.backward()
            held.append(0)  # it has freed what was saved

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            learned(made(t=t), text, backward)
        most.append(max(held))
    assert most[1] == pytest.approx(most[0], rel=0.02)


@pytest.mark.parametrize(
    ("layer", "loss", "says"),
    [
        ("conv(6) -> softmax(over = time)", "mse", r"step by step, .* use `gradient = bptt`"),
        ("conv(6)", "mse + firing_rate", "read neurons"),
    ],
)
def test_what_needs_all_steps_is_refused(layer: str, loss: str, says: str) -> None:
    text = NET.replace("HEAD", "-> mean_over_time").replace("stem = conv(6)", f"stem = {layer}")
    chosen = phase(f"epochs = 1; optimizer = sgd(lr = 0.1); gradient = online; loss = {loss}")
    with pytest.raises(TrainingError, match=says):
        run(danetc.build(text=text, backend="eager", seed=1), digits(), chosen)


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
    """In float64. The recorded gradients of ``zoo/dsr`` are the authors', with leaks and learnt thresholds."""
    model = danetc.build(text=SOFT, backend="eager", seed=1).double().train()
    loss, found = learned(model, "representation")
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

    def normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, scale, shift, training=True)

    x = normed(F.conv2d(images(model), conv1, padding=1), scale1, shift1)
    first = fire(x.expand(6, *x.shape)).flatten(0, 1)
    second = normed(F.conv2d(first, conv2, stride=2, padding=1), scale2, shift2)
    rates = fire(second.unflatten(0, (6, 4))).mean((0, 3, 4))
    expected = F.cross_entropy(F.linear(rates, linear, bias), LABELS)
    torch.testing.assert_close(loss, expected.detach())
    for mine, theirs in zip(found, torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    assert all(gradient.abs().max() > 1e-5 for gradient in found)


@pytest.mark.parametrize("neuron", ["soft_IF", "soft_LIF"])
def test_representation_is_equal_on_all_backends(neuron: str) -> None:
    text = SOFT.replace("neuron = soft_IF", f"neuron = {neuron}")
    ways = [("eager", "none"), ("eager", "recompute"), ("fused", "none"), ("fused", "recompute")]
    found = []
    for backend, memory in ways:
        model = danetc.build(text=text, backend=backend, memory=memory, seed=1).train()
        found.append([*learned(model, "representation")[1], *model.buffers()])
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
