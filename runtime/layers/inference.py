"""Folded models, for inference alone, and their convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.torch_internals import InternalUse
from danetc.runtime.layers import sparse
from danetc.runtime.layers.laid_out import form, is_laid_out
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.model.built import Model
from danetc.runtime.model.stepping import States


class InferenceConv2d(Leaf, nn.Conv2d):
    """A convolution whose weight is laid out once, as the CPU's convolutions read it.

    With many channels and few pixels, laying it out takes longer than the convolution. For few spikes it reads only the
    weights that they need (``sparse``). The output has channels last in memory. Outside float32 on a CPU, and traced, it
    is a plain convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.padding, str) or not _has_packing(x, self):
            return super().forward(x)
        if not internals.has_values(x):
            return super().forward(x.contiguous(memory_format=torch.channels_last))
        by_spike = sparse.convolved(self, x)
        return self.convolve(x) if by_spike is None else by_spike

    def convolve(self, x: Tensor) -> Tensor:
        """As ``forward``, of real tensors with all weights."""
        lay_out = internals.find("ops.mkldnn._reorder_convolution_weight").default
        run = internals.find("ops.mkldnn._convolution_pointwise").default
        options = self.stride, self.dilation, self.groups
        packed = form(self, "convolution", lambda weight: lay_out(weight, self.padding, *options))
        out: Tensor = run(x, packed, self.bias, self.padding, *options, "none", [], "")
        return out


def _has_packing(x: Tensor, layer: nn.Conv2d) -> bool:
    """True if the weight is laid out for ``x``, a fake tensor as if it were real."""
    known = internals.is_known(x) and is_laid_out(x, layer)
    can = known and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return can and internals.has(InternalUse.PACKED_WEIGHTS)


@dataclass(frozen=True, slots=True)
class Folded:
    """Qualified names of the norms that were folded into the layers before them, moved before an addition, or kept."""

    folded: tuple[str, ...]
    moved: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.folded)} norms folded, {len(self.moved)} moved before an addition, "
            f"{len(self.kept)} kept"
        )


@dataclass(frozen=True, slots=True)
class FoldedFactors:
    """Qualified names of the learnt factors of channels that were folded into their readers, and the reasons for those
    that were kept."""

    folded: tuple[str, ...]
    kept: Mapping[str, str]

    def __str__(self) -> str:
        reasons = "".join(f"\n{name} stays: {why}" for name, why in self.kept.items())
        return f"{len(self.folded)} learnt factors folded, {len(self.kept)} kept{reasons}"


class InferenceModel(Model):
    """A model that is always in eval mode and has no gradients; ``norms`` and ``factors`` list what was folded.

    Inputs and outputs are those of the model that it was made from. Runs under ``torch.no_grad``.
    """

    norms: Folded
    factors: FoldedFactors

    def train(self, mode: bool = True) -> Self:
        """Raises RuntimeError for ``mode=True``."""
        if mode:
            raise RuntimeError(
                "a folded model is for inference: its norms are part of its convolutions. "
                "Train the model from which it was made, and fold that model again"
            )
        return super().train(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _no_gradients(args)
        with torch.no_grad():
            return super().__call__(*args, **kwargs)

    def stream(
        self, x: Tensor | Sequence[Tensor], states: States | None = None
    ) -> tuple[Any, States]:
        _no_gradients(x if isinstance(x, tuple | list) else (x,))
        with torch.no_grad():
            return super().stream(x, states)


def _no_gradients(inputs: Sequence[Any]) -> None:
    """Raise RuntimeError if gradients are required."""
    wanted = any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
    if wanted and torch.is_grad_enabled():
        raise RuntimeError(
            "a folded model has no gradients: compute them with the model from which it was made"
        )
