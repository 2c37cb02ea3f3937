"""Hooks that show forward passes to observers without changing them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from danetc.dsl.errors import UserError
from danetc.runtime.layers.concatenation import whole

Hook = Callable[[Any, tuple[Tensor, ...], Any], None]
"""Sees a module, its detached inputs and its output."""


class MeasureError(UserError):
    """A network or its data cannot be measured. ``str()`` says why and what to do."""


@contextmanager
def observed(
    model: nn.Module, layers: Iterable[tuple[str, Hook]], outputs: Iterable[tuple[str, Hook]] = ()
) -> Iterator[None]:
    """Call hooks in every forward pass of ``model``, each with a module of a name.

    A module may be several of the ``layers``, whose hooks then take turns; each of the ``outputs``
    sees every call. Hooks run without gradients and return nothing, so that results stay the same.
    """
    own: dict[nn.Module, list[Hook]] = {}
    for name, see in layers:
        own.setdefault(model.get_submodule(name), []).append(_watching(name, see))
    found = [(module, _in_turn(hooks)) for module, hooks in own.items()]
    found += [(model.get_submodule(name), _watching(name, see)) for name, see in outputs]
    with ExitStack() as stack:
        for module, hook in found:
            stack.enter_context(module.register_forward_hook(hook))
        yield


def _in_turn(hooks: list[Hook]) -> Hook:
    turns = itertools.cycle(hooks)
    return lambda module, args, out: next(turns)(module, args, out)


def _watching(place: str, see: Hook) -> Hook:
    """Return a hook that runs without gradients and adds the place to errors."""

    def hook(module: Any, args: tuple[Tensor, ...], out: Any) -> None:
        with torch.no_grad():
            try:
                see(module, tuple(whole(x).detach() for x in args), out)
            except ValueError as error:
                raise MeasureError(f"{place}: {error}") from error

    return hook
