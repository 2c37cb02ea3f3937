"""Losses by a recipe's name, of the outputs of a network with or without time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from danetc.dsl.recipe.item import Item
from danetc.runtime.model.signature import Signature
from danetc.runtime.training.errors import TrainingError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of an output, [N, classes] or [T, N, classes], and labels [N] or shares of classes [N, classes].
A mean over N, so that the mean over parts of a batch, weighted by their images, is the whole's."""


def over_time(output: Tensor) -> Tensor:
    """[N, classes] as it is; the mean over T of [T, N, classes]."""
    return output.mean(0) if output.dim() == 3 else output


def make_loss(item: Item) -> Loss:
    """The loss that a recipe names. Raises TrainingError where it is given what it cannot take."""
    function, given = LOSSES[item.name], dict(item.arguments)
    return lambda output, labels: function(output, labels, **given)


def _cross_entropy(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    return F.cross_entropy(over_time(output), labels, label_smoothing=label_smoothing)


def _tet(
    output: Tensor, labels: Tensor, weight: float, target: float, label_smoothing: float
) -> Tensor:
    """Temporal efficient training (Deng et al., ICLR 2022, Eq. 9 and 12)."""
    if output.dim() != 3:
        raise TrainingError(
            "the loss `tet` needs the output of every time step, but the network's head averages "
            "over time; leave `mean_over_time` out of the head, or use `cross_entropy`"
        )
    entropies = [F.cross_entropy(step, labels, label_smoothing=label_smoothing) for step in output]
    distance = F.mse_loss(output, torch.full_like(output, target))
    return (1 - weight) * torch.stack(entropies).mean() + weight * distance


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": _cross_entropy,
    "tet": _tet,
}
"""Of an output and labels, with the arguments of the loss's row in ``dsl.recipe.schema``."""


Choose = Callable[[Any], Tensor]


def chosen_output(signature: Signature, name: str | None) -> tuple[Choose, int]:
    """What picks the output to train from what a model gives, and its number of classes.

    Raises TrainingError where there are several outputs and none is named, and for an output that
    is no vector of classes.
    """
    outputs = signature.outputs
    listed = ", ".join(outputs)
    if name is None and len(outputs) > 1:
        raise TrainingError(
            f"the network has {len(outputs)} outputs ({listed}) and the loss is of one; say which "
            f"with --train-output NAME"
        )
    if name is not None and name not in outputs:
        raise TrainingError(f"the network has no output `{name}`; it has {listed}")
    chosen = name if name is not None else next(iter(outputs))
    shape = outputs[chosen]
    if len(shape) != 1:
        raise TrainingError(
            f"the output `{chosen}` is a map of {' x '.join(map(str, shape))}, not a vector of "
            "classes; end the head with `linear(classes)`"
        )
    if len(outputs) == 1:
        return lambda output: output, shape[0]
    place = list(outputs).index(chosen)
    return lambda output: output[place], shape[0]
