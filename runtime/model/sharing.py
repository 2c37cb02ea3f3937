"""Layers that a model has at several places: one module, whose weights its state dict holds once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn


def once(model: nn.Module, places: Mapping[str, str]) -> None:
    """Make the state dict omit the layers at some places, each mapped to the place whose layer it shares."""
    names: dict[str, str] = {}
    for later, first in places.items():
        layer = model.get_submodule(later)
        entries = [*layer.named_parameters(), *layer.named_buffers()]
        names |= {f"{later}.{name}": f"{first}.{name}" for name, _ in entries}
    model.register_state_dict_post_hook(partial(_omit, names))
    model.register_load_state_dict_pre_hook(partial(_restore, names))


def _omit(
    names: Mapping[str, str], module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any
) -> None:
    for name in names:
        state.pop(prefix + name, None)


def _restore(
    names: Mapping[str, str], module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any
) -> None:
    for name, same in names.items():
        if prefix + same in state:
            state.setdefault(prefix + name, state[prefix + same])
