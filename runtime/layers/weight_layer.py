"""Layers whose weight is computed by another layer in each pass, and masks that are drawn once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


def with_weight_layer(layer: Any, weight_layer: nn.Module) -> Any:
    """Let ``weight_layer`` compute the ``weight`` of a layer from its parameter, which becomes ``weight_raw``.

    It takes and returns a map [1, O, I, K]: output channels, input channels of a group, entries of the kernel.
    """
    entries = layer._parameters.items()
    layer._parameters = {"weight_raw" if key == "weight" else key: each for key, each in entries}
    layer.weight_layer = weight_layer
    layer.__class__ = computing(type(layer))  # type: ignore[arg-type]
    return layer


@cache
def computing(kind: type) -> type:
    """Return the class whose ``weight`` is computed whenever it is read."""
    members = {"weight": property(computed_weight), "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


class Mask(nn.Module):
    """Multiplies by 0 or 1, a buffer of the shape ``size`` that is drawn once.

    Each entry is kept with the probability ``kept``. If that is None, the channels are divided into
    ``parts``, and each entry of channel c is kept in c or in the channel at the same place of another
    part, at random; all keep equally many, up to one.
    """

    def __init__(self, kept: float | None, parts: int | None, *size: int) -> None:
        super().__init__()
        self.kept, self.parts = kept, parts
        self.register_buffer("mask", torch.empty(size))
        self.draw()

    @torch.no_grad()
    def draw(self, source: torch.Generator | None = None) -> None:
        """Draw the mask anew."""
        mask = self.get_buffer("mask")
        if self.kept is not None:
            kept = torch.rand(mask.shape, generator=source, device="cpu") < self.kept
        else:
            parts, entries = self.parts or 1, mask[0].numel()
            numbers = torch.rand(len(mask) // parts, entries, generator=source, device="cpu")
            part = numbers.argsort(1).argsort(1) * parts // entries  # the one that keeps an entry
            kept = torch.cat([part == each for each in range(parts)])
        mask.copy_(kept.reshape(mask.shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.get_buffer("mask")

    def extra_repr(self) -> str:
        share = f"kept={self.kept}" if self.kept is not None else f"parts={self.parts}"
        return f"{list(self.get_buffer('mask').shape)}, {share}"


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over the modules of a model by their names, without those that compute weights."""
    inner = {
        module
        for layer in model.modules()
        if "weight_raw" in layer._parameters and "weight_layer" in layer._modules
        for module in layer.get_submodule("weight_layer").modules()
    }
    return (each for each in model.named_modules() if each[1] not in inner)


@torch.no_grad()
def computed_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with computed weights in place of weight layers and what they read."""
    state: dict[str, Tensor] = dict(model.state_dict())
    for name in [name for name in state if name.endswith(".weight_raw")]:
        path = name.removesuffix("_raw")
        layer: Any = model.get_submodule(path.removesuffix(".weight"))
        if "weight_layer" in layer._modules:  # else bounded numbers that are learnt
            state = {key: x for key, x in state.items() if not key.startswith(f"{path}_")}
            state[path] = layer.weight
    return state


def computed_weight(layer: Any) -> Tensor:
    """Return the weight that the layer computes with."""
    x = layer.weight_raw
    groups = layer.groups if isinstance(layer, nn.ConvTranspose2d) else 0
    if groups:  # its inputs come first
        x = x.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    y: Tensor = layer.weight_layer(x.reshape(1, *x.shape[:2], -1)).reshape(x.shape)
    return y.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1) if groups else y
