"""Segments of a network that save only their inputs and run again in the backward pass.

The policy ``recompute`` runs each segment of a scope under ``torch.utils.checkpoint``. The autograd graph is the same as
with the policy ``none``, so outputs, gradients and buffers are equal bit for bit.

Inputs are packed into bits if they are whole numbers. The second run uses the random state, autocast and buffers of the
first, and does not write to buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.layers.leaf import ReadsWhatItMoves


def recomputed(
    run: Callable[..., tuple[Any, ...]],
    inputs: Sequence[Any],
    kinds: Sequence[Kind],
    modules: Sequence[nn.Module],
    random: bool,
) -> tuple[Any, ...]:
    """Return ``run(*inputs)``, saving only the inputs, packed according to their ``kinds``. ``modules`` are those that it
    calls; ``random`` says that it draws random numbers."""
    saved = [_save(value, kind) for value, kind in zip(inputs, kinds, strict=True)]
    device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
    owners = [module for top in modules for module in top.modules()]
    before: dict[tuple[nn.Module, str], Tensor] = {
        (module, name): buffer.clone()
        for module in owners
        if isinstance(module, ReadsWhatItMoves)
        for name, buffer in module.named_buffers(recurse=False)
    }
    modes = {module: module.training for module in owners}
    first = [inputs]

    def body(place: Tensor) -> tuple[Any, ...]:
        return run(*(first.pop() if first else [restore() for restore in saved]))

    outputs: tuple[Any, ...] = checkpoint(
        body,
        torch.empty(0, device=device),  # tells whose random state to save
        use_reentrant=False,
        preserve_rng_state=random,
        context_fn=lambda: (nullcontext(), SecondRun(modes, before)),
    )
    return outputs


class SecondRun:
    """Context of a second run of modules: they work on copies of their buffers, with the values ``before`` if those matter.

    ``modes`` are the modules with the mode (training or not) of their first run.
    """

    running: ClassVar[int] = 0
    """Number of contexts that are entered at this moment."""

    def __init__(
        self, modes: Mapping[nn.Module, bool], before: Mapping[tuple[nn.Module, str], Tensor]
    ) -> None:
        self.modes, self.before = modes, before

    def __enter__(self) -> None:
        if any(module.training != training for module, training in self.modes.items()):
            raise RuntimeError(
                "a segment runs again for the backward pass in another mode than before: change neither "
                "the mode (train, eval) nor the modules in between"
            )
        self.originals = {
            (module, name): buffer
            for module in self.modes
            for name, buffer in module.named_buffers(recurse=False)
        }
        for (module, name), buffer in self.originals.items():
            setattr(module, name, self.before.get((module, name), buffer).clone())
        SecondRun.running += 1

    def __exit__(self, *error: object) -> None:
        SecondRun.running -= 1
        for (module, name), buffer in self.originals.items():
            setattr(module, name, buffer)


def _save(value: Any, kind: Kind) -> Callable[[], Any]:
    """Save an input of a segment, packed if possible, and return a function that restores it."""
    if not isinstance(value, Tensor):
        return lambda: value
    needs = value.requires_grad
    saved = SavedTensor(value, kind)
    held = saved.save(value).detach()

    def restore() -> Tensor:
        x = saved.restore(held).detach()
        if saved.packs:
            saved.remember(x, held)
        return x.requires_grad_(needs)

    return restore
