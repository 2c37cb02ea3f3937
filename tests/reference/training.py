"""A training step of a recipe: the loss, the learning rate, the optimizer and the mean of weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from danetc.dsl.recipe.item import Item, Summand
from danetc.dsl.recipe.settings import Phase
from tests.reference import functions as f
from tests.reference.tape import Array, Var, stack

# -- losses ---------------------------------------------------------------------------------------


OF_AN_OUTPUT = ("cross_entropy", "mse", "tet")
LOSSES = (*OF_AN_OUTPUT, "firing_rate")
"""The losses of an output, and the loss of firing rates. This module has no other losses."""


Rates = Callable[[str], Sequence[Var]]


def loss(terms: tuple[Summand, ...], output: Var, labels: Array, rates: Rates | None = None) -> Var:
    """The mean loss over N of an output [N, classes] or [T, N, classes]. ``rates`` returns the firing
    rates of layers in training, for a neuron's name or for all. Without ``rates``, this is the loss of
    test images, which has no term for firing rates."""
    kept = [term for term in terms if rates is not None or term.item.name in OF_AN_OUTPUT]
    first, *others = (term.factor * _loss(term.item, output, labels, rates) for term in kept)
    return sum(others, first)


def _loss(item: Item, output: Var, labels: Array, rates: Rates | None) -> Var:
    arguments: dict[str, Any] = dict(item.arguments)
    if item.name == "firing_rate":
        assert rates is not None
        found = rates(str(arguments["neuron"] or ""))
        far = stack([np.absolute(rate - float(arguments["target"])) for rate in found])
        power = float(arguments["power"])
        if power != 1:
            above = far.data > 0  # a power above 1 has the slope 0 at 0
            raised = np.exp(power * np.log(f.where(above, far, 1.0)))
            far = f.where(above, raised, 0.0)
        return far.mean((0,)).reshape()
    if item.name != "tet" and len(output.shape) == 3:
        output = output.mean((0,))
    if item.name == "mse":
        far = output - Var(np.eye(output.shape[-1])[labels])
        return (far * far).mean(tuple(range(len(far.shape)))).reshape()
    smoothing = float(arguments["label_smoothing"])
    if item.name == "cross_entropy":
        return _entropy(output, labels, smoothing)
    distance = output - float(arguments["target"])
    everywhere = tuple(range(len(output.shape)))
    weight = float(arguments["weight"])
    entropy = _entropy(output, labels, smoothing)
    return (1 - weight) * entropy + weight * (distance * distance).mean(everywhere).reshape()


def _entropy(output: Var, labels: Array, smoothing: float) -> Var:
    """The mean over all axes but classes. ``smoothing`` of the target is spread over all classes."""
    classes = output.shape[-1]
    wanted = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    shifted = output - output.data.max(-1, keepdims=True)
    total = classes * np.exp(shifted).mean((-1,))
    surprise = Var(wanted) * (np.log(total) - shifted)
    mean: Var = classes * surprise.mean(tuple(range(len(output.shape)))).reshape()
    return mean


# -- learning rates -------------------------------------------------------------------------------


def share(phase: Phase, done: int, steps: int) -> float:
    """The share of the learning rate in the step after the first ``done``. An epoch has ``steps``."""
    epoch = done / steps
    if epoch < phase.warmup:
        return min(1.0, (done + 1) / steps / phase.warmup)
    arguments: dict[str, Any] = dict(phase.schedule.arguments)
    if phase.schedule.name == "constant":
        return 1.0
    if phase.schedule.name == "step":
        passed = [each for each in arguments["epochs"] if each <= epoch]
        return float(arguments["factor"]) ** len(passed)
    last, first = phase.epochs - 1 / steps, phase.warmup
    way = 1.0 if last <= first else min(1.0, (epoch - first) / (last - first))
    end = float(arguments["end"])
    return end + (1 - end) * (1 + math.cos(math.pi * way)) / 2


# -- optimizers -----------------------------------------------------------------------------------


@dataclass
class Optimizer:
    """SGD (with ``velocity``) or AdamW (with two moments). ``decaying`` has the weights that decay."""

    item: Item
    decaying: frozenset[str]
    velocity: dict[str, Array] = field(default_factory=dict)
    mean: dict[str, Array] = field(default_factory=dict)
    square: dict[str, Array] = field(default_factory=dict)
    steps: int = 0

    def step(self, weights: dict[str, Array], grads: Mapping[str, Array], share: float) -> None:
        arguments: dict[str, Any] = dict(self.item.arguments)
        rate = float(arguments["lr"]) * share
        self.steps += 1
        for name, grad in grads.items():
            whole = arguments["decay"] == "all" or name in self.decaying
            decay = float(arguments["weight_decay"]) if whole else 0.0
            if self.item.name == "sgd":
                momentum = float(arguments["momentum"])
                grad = grad + decay * weights[name]
                known = self.velocity.get(name)
                kept = grad if known is None else momentum * known + grad
                self.velocity[name] = kept
                direction = grad + momentum * kept if arguments["nesterov"] else kept
                weights[name] = weights[name] - rate * direction
                continue
            beta1, beta2 = float(arguments["beta1"]), float(arguments["beta2"])
            zero = np.zeros_like(grad)
            self.mean[name] = beta1 * self.mean.get(name, zero) + (1 - beta1) * grad
            self.square[name] = beta2 * self.square.get(name, zero) + (1 - beta2) * grad * grad
            mean = self.mean[name] / (1 - beta1**self.steps)
            root = np.sqrt(self.square[name] / (1 - beta2**self.steps))
            weights[name] = weights[name] * (1 - rate * decay) - rate * mean / (root + 1e-8)


def clipped(grads: Mapping[str, Array], most: float | None) -> Mapping[str, Array]:
    """Scale all gradients together to a norm of at most ``most``."""
    if most is None:
        return grads
    norm = math.sqrt(sum(float((grad * grad).sum()) for grad in grads.values()))
    factor = min(1.0, most / (norm + 1e-6))
    return {name: grad * factor for name, grad in grads.items()}


def averaged(
    mean: dict[str, Array] | None, weights: Mapping[str, Array], decay: float
) -> dict[str, Array]:
    """The running mean of the weights and buffers. It starts with those of the first step."""
    if mean is None:
        return dict(weights)
    return {name: decay * mean[name] + (1 - decay) * value for name, value in weights.items()}
