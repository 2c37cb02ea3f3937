"""The memory of a training step, measured by taking one on the device at hand."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from danetc.dsl.recipe.item import Item
from danetc.runtime.bench.memory import peak_bytes
from danetc.runtime.model.built import Model
from danetc.runtime.training.backward import LossFunction, Part, make_backward
from danetc.runtime.training.optim import Average
from danetc.runtime.training.settings import autocast
from danetc.runtime.training.state import random_state


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes of all tensors at the peak of a step; ``fixed`` are those that do not go with the batch:
    weights, their gradients, the optimizer's state, copies.
    """

    total: int
    fixed: int


@dataclass(frozen=True, slots=True)
class Step:
    """A training step on random images: ``images`` [N, ...] or [T, N, ...] (``frames``), and the
    ``loss`` of what a model gives for a part of them, that part's labels [N], and that part.

    ``gathered`` says that the gradients of all weights stand all the time, as those do that several
    processes add up; ``whole`` that it is a step of a whole training: on a CPU the
    batches that are read meanwhile, copies of the weights, and a checkpoint that is being written
    lie in the same memory.
    """

    images: Tensor
    labels: Tensor
    loss: LossFunction
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    frames: bool = False
    precision: str = "float32"
    gradient: Item = Item("bptt")
    parts: int = 1
    averaged: bool = False
    clip: float | None = None
    gathered: bool = False
    whole: bool = False

    def peak(self, model: Model) -> Peak:
        """All tensors at the peak of a step: weights, the optimizer's state, gradients, the batch,
        what is saved for the backward pass, and what operations work with.

        Trains ``model`` for two steps: in the first kernels are compiled and the optimizer makes
        its state. The global random state is left as it is.
        """
        device = self.images.device
        model.to(device).train()
        average: AveragedModel | None = None
        if self.averaged:
            average = Average(model, 0.5)
        optimizer = self.optimizer(model)
        backward = make_backward(self.gradient)
        scaler = torch.amp.GradScaler(
            device.type, init_scale=1.0, enabled=self.precision == "mixed"
        )
        along = 1 if self.frames else 0

        def step() -> None:
            optimizer.zero_grad(set_to_none=not self.gathered)
            for images, labels in zip(
                self.images.tensor_split(self.parts, along),
                self.labels.tensor_split(self.parts),
                strict=True,
            ):
                backward(
                    Part(
                        model,
                        model,
                        images,
                        labels,
                        self.loss,
                        lambda: autocast(self.precision, device),
                        lambda loss: scaler.scale(loss / self.parts),
                    )
                )
            if self.clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), self.clip)
            scaler.step(optimizer)
            scaler.update()
            if average is not None:
                average.update_parameters(model)

        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            step()
            if not self.gathered:
                optimizer.zero_grad()
            kept = [*_tensors(model), *_state(optimizer)]
            kept += [] if average is None else _tensors(average)
            standing, batch = size_of(kept), size_of([self.images, self.labels])
            gradients = size_of(model.parameters())
            if self.gathered:
                standing += gradients
            if self.whole and device.type == "cpu":
                batch *= 3  # the one before, and the next
                standing *= 2
                standing += size_of(_tensors(average or model))
                standing += 2 * size_of(random_state(device).values())
            peak = _peak(step, device)
        return Peak(standing + batch + peak, standing + (0 if self.gathered else gradients))


def _peak(step: Callable[[], None], device: torch.device) -> int:
    """Bytes on the device at the peak of a step, beyond what was there before."""
    if device.type != "cuda":
        return peak_bytes(step)
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _state(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, those of one memory once."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())
