"""Segments of a network that save only their inputs and run again in the backward pass.

Under the policy ``recompute`` a scope runs its nodes segment by segment, each under torch's checkpoint. The autograd
graph is that of the policy ``none``, so that outputs, gradients and buffers are the same bit for bit.

Inputs are saved in bits where they are whole-numbered. The second run has the random state, autocast and buffers of the
first, and writes to no buffer. Neurons with a whole-numbered output record it in the first run and do not compute it
again (``replay``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.layers.leaf import ReadsWhatItMoves
from danetc.runtime.layers.replay import ReplayLog, with_log

Run = Callable[[Sequence[Any]], tuple[Any, ...]]


def recomputed(
    run: Run,
    inputs: Sequence[Any],
    kinds: Sequence[Kind],
    modules: Sequence[nn.Module],
    random: bool,
) -> tuple[Any, ...]:
    """Return ``run(inputs)``, saving only the inputs, packed according to their ``kinds``. ``modules`` are those that it
    calls; ``random`` says that it draws random numbers."""
    saved = [_save(value, kind) for value, kind in zip(inputs, kinds, strict=True)]
    device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
    before: dict[tuple[nn.Module, str], Tensor] = {
        (module, name): buffer.clone()
        for top in modules
        for module in top.modules()
        if isinstance(module, ReadsWhatItMoves)
        for name, buffer in module.named_buffers(recurse=False)
    }
    log, first = ReplayLog(), [inputs]

    def body(place: Tensor) -> tuple[Any, ...]:
        return run(first.pop() if first else [restore() for restore in saved])

    outputs: tuple[Any, ...] = checkpoint(
        body,
        torch.empty(0, device=device),  # tells whose random state to save
        use_reentrant=False,
        preserve_rng_state=random,
        context_fn=lambda: (with_log(log), _SecondRun(log, modules, before)),
    )
    log.resolve(force=True)
    return outputs


class _SecondRun:
    """Context of the second run, entered once per backward pass: ``modules`` work on copies of their buffers, with the
    values ``before`` if those matter."""

    def __init__(
        self,
        log: ReplayLog,
        modules: Sequence[nn.Module],
        before: Mapping[tuple[nn.Module, str], Tensor],
    ) -> None:
        self.log, self.before = log, before
        self.owners = {module: module.training for top in modules for module in top.modules()}

    def __enter__(self) -> None:
        if any(module.training != training for module, training in self.owners.items()):
            raise RuntimeError(
                "a segment runs again for the backward pass in another mode than before: change neither "
                "the mode (train, eval) nor the modules in between"
            )
        self.originals = [(each, dict(each.named_buffers(recurse=False))) for each in self.owners]
        for module, buffers in self.originals:
            for name, buffer in buffers.items():
                setattr(module, name, self.before.get((module, name), buffer).clone())
        self.log.rewind()
        self.logged = with_log(self.log)
        self.logged.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.logged.__exit__(None, None, None)
        for module, buffers in self.originals:
            for name, buffer in buffers.items():
                setattr(module, name, buffer)


def _save(value: Any, kind: Kind) -> Callable[[], Any]:
    """Save an input of a segment, packed if its kind allows it; return a function that restores it."""
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
