"""A training step as a benchmark takes it, again and again on the same batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Read = Callable[[Tensor], Tensor]
Prepare = Callable[[Tensor], Tensor]


class TrainingStep:
    """A step of fused SGD with momentum on one fixed batch: forward, cross-entropy, backward, update.

    ``prepare`` makes of the batch what the model takes (it is part of the step), ``read`` makes
    logits [N, classes] of what it gives, ``reset`` runs before every forward pass. A step that is
    ``half`` runs under autocast to bfloat16.
    """

    half = False

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        labels: Tensor,
        *,
        prepare: Prepare | None = None,
        read: Read | None = None,
        reset: Callable[[], None] | None = None,
    ) -> None:
        self.model = model.to(x.device).train()
        self.x = x
        self.labels = labels
        self.prepare = prepare
        self.read = read
        self.reset = reset
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, fused=True)

    @property
    def device(self) -> torch.device:
        return self.x.device

    def loss(self) -> Tensor:
        """The forward pass alone, with all it keeps for a backward pass."""
        if self.reset is not None:
            self.reset()
        with torch.autocast(self.device.type, torch.bfloat16, self.half):
            y = self.model(self.x if self.prepare is None else self.prepare(self.x))
            return F.cross_entropy(y if self.read is None else self.read(y), self.labels)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


def mean_over_steps(y: Tensor) -> Tensor:
    """[N, classes] of [T, N, classes]."""
    return y.mean(0)
