"""Learnable constants: ``learn(...)`` in a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Learnt(nn.Module):
    """Learnable numbers of the shape ``size``, initialised by ``raw``.

    Returns ``size``, or [T, 1, *size] if each of ``steps`` has its own. The parameter is ``weight``; bounded numbers are
    computed from ``weight_raw``.
    """

    def __init__(
        self,
        raw: float,
        *size: int,
        steps: int = 0,
        above: float | None = None,
        below: float | None = None,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.above = above
        self.below = below
        bounded = above is not None or below is not None
        self.name = "weight_raw" if bounded else "weight"
        shape = (steps, *size) if steps else size
        self.register_parameter(self.name, nn.Parameter(torch.full(shape, raw)))

    def forward(self) -> Tensor:
        value: Tensor = getattr(self, self.name)
        if self.above is not None and self.below is not None:
            value = self.above + (self.below - self.above) * torch.sigmoid(value)
        elif self.above is not None:
            value = self.above + nn.functional.softplus(value)
        elif self.below is not None:
            value = self.below - nn.functional.softplus(value)
        return value.unsqueeze(1) if self.steps else value

    def at(self, step: int) -> Tensor:
        """Return the numbers of one time step, as a sequence of that step. Raises ValueError after the last."""
        if not self.steps:
            return self.forward()
        if step >= self.steps:
            raise ValueError(f"the network has numbers for {self.steps} steps, not for more")
        return self.forward()[step : step + 1]

    def extra_repr(self) -> str:
        shape = list(self.get_parameter(self.name).shape)
        bounds = {"above": self.above, "below": self.below}
        return ", ".join([str(shape), *(f"{k}={v}" for k, v in bounds.items() if v is not None)])
