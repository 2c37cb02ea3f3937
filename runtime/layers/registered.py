"""Modules that a layer calls but that are registered elsewhere in the model.

A fused neuron calls the norms before it, and a loop the layers of its step. The user may replace such a module or
register hooks on it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from weakref import ref

from torch import nn

from danetc.runtime.kernels import torch_internals as internals


class Registration:
    """The place where a module is registered: its path below ``top``.

    References are weak, since ``top`` contains the layer that owns this. A copy or a pickle of ``top`` has its own.
    """

    __slots__ = ("_holder", "_name", "_path", "_top")

    def __init__(self, top: nn.Module | None, path: str) -> None:
        self._path, _, self._name = path.rpartition(".")
        self._top = _weak(top)
        self._holder = _weak(None if top is None else top.get_submodule(self._path))

    @staticmethod
    def between(model: nn.Module, path: str, other: str) -> Registration:
        """Return the place of the module ``other`` in the smallest scope that also contains ``path``."""
        scope: list[str] = []
        rest = other.split(".")
        for name in path.split(".")[:-1]:
            if len(rest) == 1 or rest[0] != name:
                break
            scope.append(rest.pop(0))
        return Registration(model.get_submodule(".".join(scope)), ".".join(rest))

    def now(self, known: nn.Module) -> nn.Module | None:
        """Return the registered module; None if its scope was replaced, ``known`` if ``top`` no longer exists.

        Raises AttributeError if the place is empty.
        """
        top = self._top()
        if top is None:
            return known
        holder = self._holder()
        found: nn.Module | None = top
        for name in self._path.split(".") if self._path else ():
            found = None if found is None else found._modules.get(name)
        # (A list, for torch.compile.)
        is_below = found is holder or any([module is holder for module in top.modules()])  # noqa: C419
        if holder is None or not is_below:
            return None
        found = holder._modules.get(self._name)
        return holder.get_submodule(self._name) if found is None else found

    def __deepcopy__(self, memo: dict[int, Any]) -> Registration:
        result = Registration(None, f"{self._path}.{self._name}" if self._path else self._name)
        top = memo.get(id(self._top()))
        if top is not None:  # else only the layer is copied, without its model
            result._top, result._holder = _weak(top), _weak(copy.deepcopy(self._holder(), memo))
        return result

    def __getstate__(self) -> tuple[Any, ...]:
        return self._top(), self._holder(), self._path, self._name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        top, holder, self._path, self._name = state
        self._top, self._holder = _weak(top), _weak(holder)


def _weak(module: nn.Module | None) -> Callable[[], nn.Module | None]:
    return (lambda: None) if module is None else ref(module)


def has_hooks(module: nn.Module) -> bool:
    """True if a call of ``module`` runs hooks."""
    tables = [module.__dict__[name] for name in internals.HOOKS]
    return any(tables) or any(internals.global_hooks())
