"""Layers whose weight is computed by another layer in each pass."""

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
    layer.__class__ = computing(type(layer))
    return layer


@cache
def computing(kind: type) -> type:
    """Return the class whose ``weight`` is computed whenever it is read."""
    members = {"weight": property(computed_weight), "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


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
