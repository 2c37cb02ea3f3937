"""Optimizers, learning rates, and parameters that change with the steps of a training."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.items import OPTIMIZERS
from danetc.dsl.recipe.settings import Phase, part_of
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.user_code import function_at


def freeze(model: nn.Module, parts: Collection[str]) -> None:
    """Exclude parts of a model, by their paths, from training, and put them into evaluation mode."""
    for name, module in model.named_modules():
        if part_of(name, parts):
            module.eval().requires_grad_(False)


def make_optimizer(
    model: nn.Module, item: Item, scales: Mapping[str, float] = MappingProxyType({})
) -> torch.optim.Optimizer:
    """Return the optimizer over all parameters of a model that are not frozen.

    With ``decay = weights`` only the weights of convolutions and linear layers decay. ``scales`` are
    factors of the learning rate by the paths of parts; that of a group is its ``scale``.
    """
    given: dict[str, Any] = dict(item.arguments)
    kinds = nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear
    layers = [each for each in model.modules() if isinstance(each, kinds)]
    weights = {x for each in layers for key, x in each._parameters.items() if key != "bias"}
    some = given.pop("decay", "all") == "weights"
    members: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part, spared = part_of(name, scales), some and parameter not in weights
            scale = 1.0 if part is None else scales[part]
            members.setdefault((spared, scale), []).append(parameter)
    lr, decay = given["lr"], given.get("weight_decay", 0.0)
    groups: list[dict[str, Any]] = [
        {"params": found, "scale": scale, "lr": lr * scale, "weight_decay": decay * (not spared)}
        for (spared, scale), found in sorted(members.items(), key=lambda item: item[0])
    ]
    if "function" in given:
        return _made(groups, given)
    if "beta1" in given:
        given["betas"] = given.pop("beta1"), given.pop("beta2")
    make: type[torch.optim.Optimizer] = getattr(torch.optim, OPTIMIZERS[item.name].torch)
    if "fused" in inspect.signature(make).parameters:
        given["fused"] = True  # use one kernel for all weights if possible
    return make(groups, **given)


def _made(groups: Sequence[Mapping[str, Any]], given: dict[str, Any]) -> torch.optim.Optimizer:
    """Return the optimizer that the user's ``function`` makes of groups with ``lr`` and ``weight_decay``.

    The ``scale`` of a group is the ratio of its learning rate to ``lr``. Raises TrainingError for a result
    that cannot be scheduled, stepped or resumed.
    """
    function, lr, _ = (given.pop(key) for key in ("function", "lr", "weight_decay"))
    wanted = {parameter for group in groups for parameter in group["params"]}
    make, base = function_at("the optimizer", function, ["groups"], given), torch.optim.Optimizer
    made = make([{key: group[key] for key in ("params", "lr", "weight_decay")} for group in groups])
    if not isinstance(made, base):
        raise TrainingError(
            f"the optimizer `{function}` gives {repr(made)[:60]}, not a torch.optim.Optimizer"
        )
    found, kind = made.param_groups, type(made)
    step = inspect.signature(made.step).parameters.values()
    needed = [x for x in step if x.default is x.empty and x.kind is x.POSITIONAL_OR_KEYWORD]
    own = (kind.state_dict, kind.load_state_dict) != (base.state_dict, base.load_state_dict)
    wrong = {
        "has other parameters than its groups": {x for g in found for x in g["params"]} != wanted,
        "has groups without `lr`": not all("lr" in group for group in found),
        "needs a closure in `step`": bool(needed),
        "replaces `state_dict`, but checkpoints store `state` and `param_groups`": own,
    }
    if reasons := [reason for reason, holds in wrong.items() if holds]:
        raise TrainingError(f"the optimizer `{function}` {', and '.join(reasons)}")
    for group in found:
        group["scale"] = float(group["lr"]) / lr
    return made


class Average:
    """Exponential moving average of a model's weights and buffers, in ``module``."""

    def __init__(self, model: nn.Module, ema: float) -> None:
        self.module, self._move = copy.deepcopy(model), get_ema_multi_avg_fn(ema)

    @torch.no_grad()
    def update(self, model: nn.Module, first: bool) -> None:
        """Add the weights after a step. The average starts at those of the ``first`` one."""
        averages, values = (each.state_dict().values() for each in (self.module, model))
        pairs = [*zip(averages, values, strict=True)]
        means = [pair for pair in pairs if not first and pair[0].is_floating_point()]
        if means:  # one kernel for all
            self._move(*map(list, zip(*means, strict=True)), None)
        for average, value in pairs:
            if first or not average.is_floating_point():
                average.copy_(value)


def schedule(phase: Phase, epoch: float, batch: float) -> float:
    """Return the factor of the learning rate at a time in epochs, of which a batch takes ``batch``.

    The last batch of the warm-up has factor 1, and that of the phase the end of a cosine.
    """
    if epoch < phase.warmup:
        return min(1.0, (epoch + batch) / phase.warmup)
    length = phase.epochs - batch - phase.warmup
    done = min(1.0, (epoch - phase.warmup) / length) if length > 0 else 1.0
    return float(SCHEDULES[phase.schedule.name](epoch, done, **dict(phase.schedule.arguments)))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES: Mapping[str, Callable[..., float]] = {
    "constant": lambda epoch, done: 1.0,
    "step": lambda epoch, done, factor, epochs: (
        factor ** sum(milestone <= epoch + 1e-9 for milestone in epochs)
    ),
    "cosine": lambda epoch, done, end: _cosine(1.0, end, done),
}
"""Factor of the learning rate after the warm-up, of the time in epochs and the share of that part
of the phase, by the name in ``dsl.recipe.items``, whose arguments follow."""


def value_at(phase: Phase, item: Item, done: int, steps: int) -> float:
    """Return the value of a changed parameter after ``done`` steps, at ``steps`` steps per epoch.

    It reaches its end with the last step of its ``epochs``, by default those of the phase.
    """
    start, end = item["start"], item["end"]
    last = (item["epochs"] or phase.epochs) * steps - 1
    share = min(1.0, done / last) if last > 0 else 1.0
    return end if share == 1 else CHANGES[item.name](start, end, share)


CHANGES: Mapping[str, Callable[[float, float, float], float]] = {
    "linear": lambda start, end, share: start + (end - start) * share,
    "cosine": _cosine,
    "exponential": lambda start, end, share: float(start * (end / start) ** share),
}
"""Value between start and end, by the share of the way and the name in ``dsl.recipe.items``."""


class Schedules:
    """Learning rate of a phase of ``steps`` steps per epoch, and parameters that it changes in ``models``.

    Values depend on the recipe and the step alone, so checkpoints do not store them.
    """

    def __init__(
        self, phase: Phase, steps: int, optimizer: torch.optim.Optimizer, *models: nn.Module
    ) -> None:
        self._phase, self._steps, self._optimizer = phase, steps, optimizer
        layers = [layer for model in models for layer in model.modules()]
        self._places: list[tuple[Item, list[Tensor]]] = []
        for change in phase.change:
            names = [getattr(layer, "scheduled", {}).get(change.path) for layer in layers]
            values = [getattr(x, name) for x, name in zip(layers, names, strict=True) if name]
            if not values:
                raise ValueError(f"no layer has {change.path} for a schedule")
            self._places.append((change.item, values))

    def put(self, done: int) -> None:
        """Set all values after ``done`` steps of the phase."""
        phase, steps = self._phase, self._steps
        epoch, step = divmod(done, steps)
        self.rate = phase.optimizer["lr"] * schedule(phase, epoch + step / steps, 1 / steps)
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate * group["scale"]
        for item, values in self._places:
            for each in values:
                each.fill_(value_at(phase, item, done, steps))
