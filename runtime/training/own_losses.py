"""Terms of losses from a user's Python file: ``python("my_loss.py:focal", gamma = 2.0)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.user_code import UserCodeError, found_at


def function_of(place: str, takes: int, numbers: Mapping[str, float]) -> Callable[..., Any]:
    """Return the function ``FILE.py:NAME``.

    Raises TrainingError if there is none, or if it does not accept ``takes`` tensors and the
    numbers as keyword arguments.
    """
    try:
        function = found_at(place)
    except UserCodeError as error:
        raise TrainingError(f"the loss `{place}`: {error}") from error
    name = place.rpartition(":")[2]
    if not callable(function):
        raise TrainingError(
            f"the loss `{place}`: {name} is of type {type(function).__name__}, no function"
        )
    try:
        inspect.signature(function).bind(*[None] * takes, **numbers)
    except TypeError as error:
        given = ", ".join([*("output", "labels")[:takes], *numbers])
        raise TrainingError(
            f"the loss `{place}` is called as {name}({given}), which it does not take: {error}"
        ) from error
    except ValueError:
        pass  # a function without a signature
    found: Callable[..., Any] = function
    return found


def checked(value: Any, place: str, source: Tensor) -> Tensor:
    """Return the result of such a function. Raises TrainingError unless it is a differentiable scalar."""
    if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
        what = f"a tensor {list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else ""
        raise TrainingError(
            f"the loss `{place}` gives {what or repr(value)[:60]}, not one real number: a tensor "
            "without dimensions, as `.mean()` gives"
        )
    if torch.is_grad_enabled() and source.requires_grad and not value.requires_grad:
        raise TrainingError(
            f"the loss `{place}` passes no gradient to what it is of: compute it by functions of "
            "torch, without `.detach()`, `.item()` or `argmax`"
        )
    return value
