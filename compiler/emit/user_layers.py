"""Layers that users write in Python."""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.compiler.ir.ops.user import is_allowed
from danetc.dsl.diagnostics.visible import visible
from danetc.runtime.kernels.torch_internals import is_fake
from danetc.runtime.system.user_code import UserCodeError, found_at, where_it_failed


def user_module(place: str, shape: str, spikes: bool, /, **arguments: Any) -> nn.Module:
    """Return a module of the class ``FILE.py:NAME``, made with these arguments.

    It takes frames [B, ...] and must return [B, *shape] (``8x4x4``), which is 0 or 1 for ``spikes``.
    Raises UserCodeError if the code is not allowed, does not exist or fails, and, when the module is
    called, if it returns something else.
    """
    if not is_allowed(place):
        raise UserCodeError(
            f"the network has a layer in Python, {place}, which runs only if you name it; if you trust "
            f"it: --allow-code {shlex.quote(visible(place))}, in Python danetc.allow_code({place!r})"
        )
    create = found_at(place)
    if not (isinstance(create, type) and issubclass(create, nn.Module)):
        raise UserCodeError(f"{place} is not a class derived from torch.nn.Module")
    try:
        made = create(**arguments)
    except Exception as error:
        raise UserCodeError(f"{place}: {where_it_failed(error)}") from error
    made.register_forward_hook(partial(_check, place, (*map(int, shape.split("x")),), spikes))
    return made


def _check(
    place: str, shape: tuple[int, ...], spikes: bool, module: nn.Module, given: Any, found: Any
) -> None:
    """Raise UserCodeError if the result of a layer is not what the spec declares."""
    if torch.compiler.is_compiling() or isinstance(found, fx.Proxy):
        return
    declared, returned = f"real numbers {[given[0].shape[0], *shape]}", type(found).__name__
    if isinstance(found, Tensor):
        returned = (
            f"{'real numbers' if found.is_floating_point() else found.dtype} {[*found.shape]}"
        )
    if returned != declared:
        raise UserCodeError(
            f"{place} returns {returned} for {[*given[0].shape]}, but the spec declares {declared}; "
            "declare another shape with `like`, `width`, `rows` and `columns`"
        )
    if spikes and not is_fake(found):
        binary = ((found == 0) | (found == 1)).all()
        message = f"{place} returns other numbers than 0 and 1, though it `gives = spikes`"
        if found.is_cuda:  # without waiting for the device
            torch._assert_async(binary, message)
        elif not binary:
            raise UserCodeError(message)
