"""Terms of losses that a user's Python file has: ``python("my_loss.py:focal", gamma = 2.0)``."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.training.errors import TrainingError


def file_of(place: str) -> str:
    """The file of ``FILE.py:NAME``."""
    return place.rpartition(":")[0]


@lru_cache(maxsize=64)
def _loaded(path: Path, changed: int) -> Any:
    """The module of a file as it is now; it runs once."""
    spec = importlib.util.spec_from_file_location(f"danetc_loss_{path.stem}_{changed}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look there
    spec.loader.exec_module(module)
    return module


def function_of(place: str, takes: int, numbers: Mapping[str, float]) -> Callable[..., Any]:
    """The function of ``FILE.py:NAME``, called with so many tensors and with numbers by their names.

    Raises TrainingError where there is none, and where it does not take these.
    """
    path, _, name = place.rpartition(":")
    file = Path(path).absolute()
    if not file.is_file():
        raise TrainingError(f"the loss `{place}` is of a file that is not there: {file}")
    try:
        module = _loaded(file, file.stat().st_mtime_ns)
    except Exception as error:
        raise TrainingError(
            f"the loss `{place}`: running {file.name} ends with {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        there = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        listed = f"it has {', '.join(there)}" if there else "it has none"
        raise TrainingError(f"{file.name} has no function `{name}` for a loss; {listed}")
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
    """What such a function gave of ``source``. Raises TrainingError for what is no loss."""
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
