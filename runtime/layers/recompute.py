"""Segments of a network that save only their inputs and run again in the backward pass.

Under the policy ``recompute`` a scope runs its nodes segment by segment. Tensors that autograd would save inside a
segment are dropped, except for small ones: parameters, statistics per channel, packed spikes and counts. When the
backward pass first needs a dropped one, the segment runs again. The autograd graph is that of the policy ``none``, so
that outputs, gradients and buffers are the same bit for bit.

The second run has the random state, autocast and buffers of the first, and writes to no buffer. Neurons with a
whole-numbered output record it in the first run and do not compute it again (``replay``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.layers.leaf import ReadsWhatItMoves
from danetc.runtime.layers.replay import ReplayLog, with_log


class _AllFound(Exception):
    """The second run has computed all tensors that are needed."""


class _Slot(NamedTuple):
    """Held by autograd in place of a dropped tensor."""

    frame: _Frame
    place: int


Run = Callable[[Sequence[Any]], tuple[Any, ...]]


class _Frame:
    """One forward pass through a segment, with what it needs to run again."""

    def __init__(
        self, run: Run, inputs: Sequence[Any], kinds: Sequence[Kind], modules: Sequence[nn.Module]
    ) -> None:
        self.run = run
        self.modules = modules
        self.weights = {
            p.untyped_storage()._cdata for module in modules for p in module.parameters()
        }
        self.inputs = [_save(value, kind) for value, kind in zip(inputs, kinds, strict=True)]
        self.log = ReplayLog()
        self.before: dict[tuple[nn.Module, str], Tensor] = {
            (module, name): buffer.clone()
            for top in modules
            for module in top.modules()
            if isinstance(module, ReadsWhatItMoves)
            for name, buffer in module.named_buffers(recurse=False)
        }
        self.sizes: list[tuple[torch.Size, torch.dtype]] = []
        self.found: dict[int, Tensor] = {}
        devices = {"cpu"} | {x.device.type for x in inputs if isinstance(x, Tensor)}
        self.autocast = [
            (
                device,
                torch.is_autocast_enabled(device),
                torch.get_autocast_dtype(device),
                torch.is_autocast_cache_enabled(),
            )
            for device in sorted(devices)
            if torch.amp.is_autocast_available(device)
        ]
        self.random: Tensor | None = None
        self.random_cuda: dict[torch.device, Tensor] = {}

    def note_random(self, inputs: Sequence[Any]) -> None:
        """Save the state of the random generators before the segment draws."""
        self.random = torch.get_rng_state()
        places = {x.device for x in inputs if isinstance(x, Tensor) and x.device.type == "cuda"}
        self.random_cuda = {place: torch.cuda.get_rng_state(place) for place in places}

    def pack(self, x: Tensor) -> Tensor | _Slot:
        """Return what autograd holds for ``x``: a slot, or ``x`` itself if it is small."""
        self.log.resolve()
        if self._is_small(x):
            return x
        self.sizes.append((x.shape, x.dtype))
        self.log.saved += 1
        return _Slot(self, len(self.sizes) - 1)

    def _is_small(self, x: Tensor) -> bool:
        """True for tensors that are not worth dropping: weights, vectors and packed values."""
        return x.dim() <= 1 or x.dtype == torch.uint8 or x.untyped_storage()._cdata in self.weights

    @staticmethod
    def unpack(held: Tensor | _Slot) -> Tensor:
        if isinstance(held, Tensor):
            return held
        if held.place not in held.frame.found:
            held.frame.replay()
        return held.frame.found.pop(held.place)

    def replay(self) -> None:
        """Run the segment again and catch the tensors that autograd saves."""
        self.found.clear()
        place = 0

        def catch(x: Tensor) -> None:
            nonlocal place
            if self._is_small(x):
                return
            if place >= len(self.sizes) or self.sizes[place] != (x.shape, x.dtype):
                raise RuntimeError(
                    "a segment saved other tensors when it ran again for the backward pass: "
                    "change neither the mode (train, eval) nor the modules in between"
                )
            self.found[place] = x.detach()
            place += 1
            if place == len(self.sizes):
                raise _AllFound

        self.log.rewind()
        with ExitStack() as stack:
            for device, enabled, dtype, cached in self.autocast:
                stack.enter_context(torch.autocast(device, dtype, enabled, cached))
            stack.enter_context(self._random_state())
            stack.enter_context(_copied_buffers(self.modules, self.before))
            stack.enter_context(with_log(self.log))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(saved_tensors_hooks(catch, _not_asked))
            stack.enter_context(suppress(_AllFound))
            self.run([restore() for restore in self.inputs])
        if place < len(self.sizes):
            raise RuntimeError(
                f"a segment saved {place} tensors when it ran again, and {len(self.sizes)} before: "
                "change neither the mode (train, eval) nor the modules in between"
            )

    @contextmanager
    def _random_state(self) -> Iterator[None]:
        if self.random is None:
            yield
            return
        with torch.random.fork_rng(devices=list(self.random_cuda)):
            torch.set_rng_state(self.random)
            for place, state in self.random_cuda.items():
                torch.cuda.set_rng_state(state, place)
            yield


def _not_asked(held: Any) -> Tensor:
    raise AssertionError("nothing goes back through the second run of a segment")


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


@contextmanager
def _copied_buffers(
    modules: Sequence[nn.Module], before: Mapping[tuple[nn.Module, str], Tensor]
) -> Iterator[None]:
    """Let ``modules`` work on copies of their buffers, with the values ``before`` if those matter."""
    owners = {module for top in modules for module in top.modules()}
    originals = [(module, dict(module.named_buffers(recurse=False))) for module in owners]
    try:
        for module, buffers in originals:
            for name, buffer in buffers.items():
                setattr(module, name, before.get((module, name), buffer).clone())
        yield
    finally:
        for module, buffers in originals:
            for name, buffer in buffers.items():
                setattr(module, name, buffer)


def recomputed(
    run: Run,
    inputs: Sequence[Any],
    kinds: Sequence[Kind],
    modules: Sequence[nn.Module],
    random: bool,
) -> tuple[Any, ...]:
    """Return ``run(inputs)``, saving only the inputs, packed according to their ``kinds``. ``modules`` are those that it
    calls; ``random`` says that it draws random numbers."""
    frame = _Frame(run, inputs, kinds, modules)
    if random:
        frame.note_random(inputs)
    with with_log(frame.log), saved_tensors_hooks(frame.pack, frame.unpack):
        outputs = run(inputs)
    frame.log.finish()
    return outputs
