"""Optimizers, learning rates, and parameters that change with the steps of a training."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.items.optimizers import OPTIMIZERS
from danetc.dsl.recipe.settings import Phase


def make_optimizer(model: nn.Module, item: Item) -> torch.optim.Optimizer:
    """The optimizer over all parameters of a model, in the order of ``named_parameters``.

    ``decay = weights`` gives the weight decay to the weights of convolutions and linear layers:
    biases, norms, neurons and numbers learnt by themselves then have none.
    """
    given: dict[str, Any] = dict(item.arguments)
    everywhere = given.pop("decay", "all") == "all"
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if not everywhere:
        decaying = {
            module.weight
            for module in model.modules()
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        }
        some = [p for p in model.parameters() if p in decaying]
        others = [p for p in model.parameters() if p not in decaying]
        groups = [{"params": some}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
    if "beta1" in given:
        given["betas"] = given.pop("beta1"), given.pop("beta2")
    make: type[torch.optim.Optimizer] = getattr(torch.optim, OPTIMIZERS[item.name].torch)
    if "fused" in inspect.signature(make).parameters:
        given["fused"] = True  # one kernel for all weights, where torch has it
    return make(groups, **given)


class Average(AveragedModel):
    """The running mean of a model's weights and buffers: the first step's are taken as they are, and
    each later step moves them by ``1 - ema`` towards its own.

    torch's own update copies the count of steps to the device each time, and waits for it.
    """

    def __init__(self, model: nn.Module, ema: float) -> None:
        super().__init__(model, use_buffers=True)
        self._move = get_ema_multi_avg_fn(ema)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        mean = [*self.module.parameters(), *self.module.buffers()]
        now = [*model.parameters(), *model.buffers()]
        if self.n_averaged == 0:  # on the CPU, as the count is
            for own_value, value in zip(mean, now, strict=True):
                own_value.copy_(value)
        else:
            for floats in (True, False):
                chosen = [
                    pair
                    for pair in zip(mean, now, strict=True)
                    if pair[0].is_floating_point() is floats
                ]
                if chosen:
                    own, others = (list(side) for side in zip(*chosen, strict=True))
                    self._move(own, others, self.n_averaged)
        self.n_averaged += 1


def make_average(model: nn.Module, ema: float) -> Average:
    """The running mean of a model's weights and buffers, as a recipe's ``ema`` says it."""
    return Average(model, ema)


def make_scheduler(optimizer: torch.optim.Optimizer, phase: Phase, steps: int) -> LambdaLR:
    """The schedule of a phase whose epochs have so many steps; ``step()`` after each of them."""

    def share(done: int) -> float:
        epoch, step = divmod(done, steps)
        return schedule(phase, epoch + step / steps, 1 / steps)

    return LambdaLR(optimizer, share)


def advance(scheduler: LambdaLR) -> None:
    """One step. (A scaler that skipped a step of float16 is no mistake to be warned of.)"""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        scheduler.step()


def put_at(scheduler: LambdaLR, done: int) -> None:
    """Set a scheduler to where it is after ``done`` steps, its learning rates bit for bit.

    Rates are a function of the recipe and the step, so nothing else needs to be remembered.
    """
    scheduler.last_epoch = done
    for group, base, share in zip(
        scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = base * share(done)


def schedule(phase: Phase, epoch: float, batch: float) -> float:
    """The share of the learning rate at a time in epochs (0 at the start of training).

    ``batch`` is the length of one batch in epochs: the warm-up reaches 1 with its last batch, and
    the cosine its end with the last of all.
    """
    if epoch < phase.warmup:
        return min(1.0, (epoch + batch) / phase.warmup)
    given: dict[str, Any] = dict(phase.schedule.arguments)
    length = phase.epochs - batch - phase.warmup
    done = min(1.0, (epoch - phase.warmup) / length) if length > 0 else 1.0
    return float(SCHEDULES[phase.schedule.name](epoch, done, **given))


def _constant(epoch: float, done: float) -> float:
    return 1.0


def _step(epoch: float, done: float, factor: float, epochs: tuple[float, ...]) -> float:
    return factor ** sum(milestone <= epoch + 1e-9 for milestone in epochs)


def _cosine(epoch: float, done: float, end: float) -> float:
    return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2


SCHEDULES: Mapping[str, Callable[..., float]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
}
"""The share of the learning rate after the warm-up, from the time in epochs, the share of the time
after the warm-up that is done, and the arguments of the schedule's row in ``dsl.recipe.items``."""


def value_at(phase: Phase, item: Item, done: int, steps: int) -> float:
    """The value at the step that ``done`` others were before, of a phase with epochs of ``steps``.

    It ends with the last step of its epochs, those of the phase where it has none.
    """
    start, end = item.number("start"), item.number("end")
    last = (item.number("epochs") or phase.epochs) * steps - 1
    share = min(1.0, done / last) if last > 0 else 1.0
    return end if share == 1 else CHANGES[item.name](start, end, share)


def _linear(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _exponential(start: float, end: float, share: float) -> float:
    return float(start * (end / start) ** share)


CHANGES: Mapping[str, Callable[[float, float, float], float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
}
"""From a value to another, by the share of the way: the rows of ``dsl.recipe.items``."""


class Changes:
    """What a phase changes in some models: a network and the mean of its weights.

    A value follows from the step alone, so a training that goes on has what one left alone has.
    """

    def __init__(self, phase: Phase, steps: int, *models: nn.Module) -> None:
        self.phase, self.steps = phase, steps
        self._places: list[tuple[Item, list[Tensor]]] = []
        for change in phase.change:
            layers = [layer for model in models for layer in model.modules()]
            names = [(layer, getattr(layer, "scheduled", {})) for layer in layers]
            values = [
                getattr(layer, has[change.path]) for layer, has in names if change.path in has
            ]
            if not values:
                raise ValueError(f"no layer has {change.path} for a schedule")
            self._places.append((change.item, values))

    def put(self, done: int) -> None:
        """Set them to what they are after ``done`` steps of the phase."""
        for item, values in self._places:
            value = value_at(self.phase, item, done, self.steps)
            for each in values:
                each.fill_(value)
