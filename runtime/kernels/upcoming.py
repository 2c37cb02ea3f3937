"""Which calls of models are under way, and what was asked of kernels while one was looked through.

See ``look_ahead``, which finds the kernels that a call is going to need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Kernel(Protocol):
    """What is compiled: a function of tensors, once for each ``key``."""

    @property
    def function(self) -> Callable[..., Sequence[Tensor]]: ...
    @property
    def recipe(self) -> Callable[[], Kernel] | None:
        """What makes it in another process; None where that is not known."""

    def key(self, args: Sequence[Tensor]) -> tuple[object, ...]: ...
    def load(self, args: Sequence[Tensor], settings: dict[str, Any]) -> bool: ...
    def compile(self, args: Sequence[Tensor], settings: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    """A kernel to be made for arguments like these, of which the form counts and no value."""

    kernel: Kernel
    args: tuple[Tensor, ...]


class Notes:
    """What kernels are called with while a call of a model is looked through, by tensors of the
    class ``fake``."""

    def __init__(self, fake: type[Tensor]) -> None:
        self.fake = fake
        self.jobs: dict[tuple[object, ...], Job] = {}
        self._outputs: dict[tuple[object, ...], list[tuple[Any, ...]]] = {}

    def run(self, kernel: Kernel, args: Sequence[Tensor]) -> Sequence[Tensor]:
        """Note a call, and give outputs of the form that it has."""
        key = (kernel, *kernel.key(args))
        self.jobs.setdefault(key, Job(kernel, tuple(args)))
        form = (*key, *[x.shape for x in args])
        known = self._outputs.get(form)
        if known is None:  # what is inside a kernel is long, and many layers are alike
            found = kernel.function(*args)
            self._outputs[form] = [(x.shape, x.stride(), x.dtype, x.device) for x in found]
            return found
        return tuple(
            torch.empty_strided(shape, stride, dtype=dtype, device=device)
            for shape, stride, dtype, device in known
        )


notes: Notes | None = None
"""Those of the call that is being looked through at this moment."""


@dataclass(slots=True)
class ModelCall:
    """A call of a model that is under way."""

    model: nn.Module
    args: tuple[Any, ...]
    gradients: bool


_local = threading.local()


@contextmanager
def call_of(model: nn.Module, args: tuple[Any, ...]) -> Iterator[None]:
    """While ``model`` is called with these arguments, in this thread."""
    before = getattr(_local, "call", None)
    _local.call = ModelCall(model, args, torch.is_grad_enabled())
    try:
        yield
    finally:
        _local.call = before


def call_under_way() -> ModelCall | None:
    """That of this thread."""
    return getattr(_local, "call", None)


def is_under_way() -> bool:
    """Whether ``take_call`` would give one."""
    return call_under_way() is not None


def take_call() -> ModelCall | None:
    """The call that is under way in this thread; None where there is none, and the second time."""
    found: ModelCall | None = getattr(_local, "call", None)
    _local.call = None
    return found
