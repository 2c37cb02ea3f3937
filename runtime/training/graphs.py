"""The forward and backward pass of a training step as a CUDA graph: recorded once, then one launch per step.

Recorded kernels read and write the same memory at each replay, so inputs are copied to where they were
recorded, and gradients are found where they were. The optimizer, clipping and the loss scaler, which
read the host, run as usual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danetc.dsl.recipe.settings import Phase
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.distributed import World
from danetc.runtime.training.guards import is_out_of_memory

DEVICES = ("cuda",)
"""Types of devices that have graphs."""
WARM_UP = 3
"""Steps before the recorded one, in which kernels are compiled and algorithms are chosen."""


def check_graphs(phase: Phase, world: World) -> None:
    """Raise TrainingError if the steps of a phase cannot be recorded."""
    gradient = phase.gradient.name
    reasons = {
        f"the device is {world.device.type}": world.device.type not in DEVICES,
        f"{world.size} processes exchange gradients in the backward pass": world.size > 1,
        f"`accumulate = {phase.accumulate}` adds the gradients of parts": phase.accumulate > 1,
        f"`gradient = {gradient}` has several backward passes": gradient != "bptt",
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise TrainingError(
            f"phase `{phase.name}` cannot use CUDA graphs: {'; '.join(found)}; train it without "
            "--cuda-graphs"
        )


class GraphedPass:
    """A function of tensors that is recorded as a CUDA graph when inputs of a form come for the fourth time.

    ``run(*inputs, share=share)`` must compute on the device alone and leave gradients in ``parameters``, which
    have none before. Inputs of any other form, as the last batch of an epoch, run as usual.
    """

    def __init__(self, run: Callable[..., object], parameters: Sequence[nn.Parameter]) -> None:
        self._run, self._parameters = run, parameters
        self._seen: Counter[object] = Counter()
        self._form: object = None
        self._graph: Any = None
        self._inputs: list[Tensor] = []
        self._grads: list[Tensor | None] = []

    def __call__(self, *inputs: Tensor, share: float) -> None:
        form = (*((x.shape, x.stride(), x.dtype) for x in inputs), share)
        self._seen[form] += 1
        if self._graph is None and self._seen[form] > WARM_UP:
            self._form = form
            self._record(inputs, share)
        if form != self._form:
            self._run(*inputs, share=share)
            return
        for place, x in zip(self._inputs, inputs, strict=True):
            place.copy_(x)
        self._graph.replay()
        for parameter, grad in zip(self._parameters, self._grads, strict=True):
            parameter.grad = grad

    def _record(self, inputs: Sequence[Tensor], share: float) -> None:
        self._inputs = [torch.empty_like(x).copy_(x) for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, which pin memory for the loader, may go on.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._run(*self._inputs, share=share)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise TrainingError(
                "the step cannot be recorded as a CUDA graph, since something in it reads values of the "
                f"device, as a hook, a loss or a layer of your own may do: {error}; train without "
                "--cuda-graphs"
            ) from error
        self._grads = [parameter.grad for parameter in self._parameters]
