"""The small networks of ``conftest`` in plain PyTorch, without danetc."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.surrogates import sigmoid, step

TAU, THRESHOLD = 2.0, 1.0
slope = sigmoid(4.0)


@dataclass
class Layer:
    """The values of a layer of LIF neurons after the convolution ``behind``, as lists over time.

    ``spikes`` are the neuron's outputs. The reset reads another node of autograd, so the gradient of
    ``spikes`` comes only from later layers and that of ``states`` only from later steps.
    """

    behind: str
    inputs: list[Tensor] = field(default_factory=list)
    potentials: list[Tensor] = field(default_factory=list)
    spikes: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)

    def run(self, xs: list[Tensor]) -> list[Tensor]:
        u = torch.zeros_like(xs[0])
        for x in xs:
            v = (1 - 1 / TAU) * u + x / TAU
            s = step(v - THRESHOLD, slope)
            u = v * (1 - s)
            leaving = s * 1
            for value in (leaving, u):
                if value.requires_grad:
                    value.retain_grad()
            self.inputs.append(x)
            self.potentials.append(v)
            self.spikes.append(leaving)
            self.states.append(u)
        return self.spikes


@dataclass
class Plain:
    """A forward pass; ``layers`` and ``weighted`` (inputs of weight layers) by danetc's names."""

    state: Mapping[str, Tensor]
    layers: dict[str, Layer] = field(default_factory=dict)
    weighted: dict[str, list[Tensor]] = field(default_factory=dict)
    blocks: list[list[Tensor]] = field(default_factory=list)

    def conv(self, name: str, xs: list[Tensor]) -> list[Tensor]:
        self.weighted[name] = xs
        return [F.conv2d(x, self.state[f"{name}.weight"], padding=1) for x in xs]

    def norm(self, name: str, xs: list[Tensor]) -> list[Tensor]:
        mean, var, weight, bias = (
            self.state[f"{name}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return [(x - mean) / torch.sqrt(var + 1e-5) * weight + bias for x in xs]

    def spike(self, name: str, xs: list[Tensor]) -> list[Tensor]:
        self.layers[name] = Layer([*self.weighted][-1])
        return self.layers[name].run(xs)

    def forward(self, image: Tensor, steps: int, sew: bool) -> Tensor:
        """The logits of an image [N, C, H, W]."""
        stem = self.norm("stem.norm", self.conv("stem.conv", [image] * steps))
        out = self.spike("stem.spike", stem)
        given: list[list[Any]] = []
        for i in range(3):
            # Origin under the rule: x_i is the sum of all o_j. SEW: a chain.
            read = given[-1:] if sew else given
            x = [sum(parts) for parts in zip(*read, strict=True)] if given else out
            at = f"stages.0.blocks.{i}"
            y = self.norm(f"{at}.branch.norm1", self.conv(f"{at}.branch.conv1", x))
            y = self.spike(f"{at}.branch.spike{'1' if sew else ''}", y)
            y = self.norm(f"{at}.branch.norm2", self.conv(f"{at}.branch.conv2", y))
            if sew:
                y = self.spike(f"{at}.branch.spike2", y)
            y = [a + b for a, b in zip(y, x, strict=True)]
            given.append(y if sew else self.spike(f"{at}.spike", y))
        self.blocks = given
        pooled = torch.stack(given[-1]).mean((0, 3, 4))
        self.weighted["head.linear"] = [pooled]
        return F.linear(pooled, self.state["head.linear.weight"], self.state["head.linear.bias"])
