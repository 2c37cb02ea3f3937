"""Layers that a model has at several places: one module, whose weights its state dict has once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


def once(model: nn.Module, places: Mapping[str, str]) -> None:
    """Let the state dict leave out the layers at some places, which are those of the places behind
    them, and take it without them."""
    names: dict[str, str] = {}
    for later, first in places.items():
        layer = model.get_submodule(later)
        entries = [*layer.named_parameters(), *layer.named_buffers()]
        names |= {f"{later}.{name}": f"{first}.{name}" for name, _ in entries}
    model.register_state_dict_post_hook(_LeaveOut(names))
    model.register_load_state_dict_pre_hook(_PutIn(names))


@dataclass
class _LeaveOut:
    """``names`` has for each entry that a state dict leaves out the one that is the same."""

    names: Mapping[str, str]

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.names:
            state.pop(prefix + name, None)


@dataclass
class _PutIn:
    """Gives a state dict the entries that it leaves out, as ``_LeaveOut`` has them."""

    names: Mapping[str, str]

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, same in self.names.items():
            if prefix + same in state:
                state.setdefault(prefix + name, state[prefix + same])
