"""Folded models, for inference alone, and their convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.torch_internals import InternalUse
from danetc.runtime.layers import sparse
from danetc.runtime.layers.laid_out import Layouts, is_laid_out, layouts
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.layers.small_maps import Window, as_matrix, convolved, is_forward_faster
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
        weight = self.weight
        if not internals.has_values(x):
            return super().forward(x.contiguous(memory_format=torch.channels_last))
        laid = layouts(self)
        out = sparse.convolved(self, x, laid)
        if out is not None:
            return out
        window = Window.of(weight, self.stride, self.padding, self.dilation)
        return self.convolve(x, window, laid)

    def convolve(self, x: Tensor, window: Window, laid: Layouts) -> Tensor:
        """As ``forward``, with the layouts of the weight."""
        if is_forward_faster(x, self.weight, window):
            return convolved(x, lambda rows: self._multiply(rows, laid), window)
        out: Tensor = _packing().convolve(
            x, laid.form(self, "convolution", self._packed), self.bias, self.padding, self.stride,
            self.dilation, self.groups, "none", [], "",
        )  # fmt: skip
        return out

    def _packed(self, weight: Tensor) -> Any:
        return _packing().kernel(weight, self.padding, self.stride, self.dilation, self.groups)

    def _multiply(self, rows: Tensor, laid: Layouts) -> Tensor:
        matrix = laid.form(self, "product", lambda weight: _packing().matrix(as_matrix(weight)))
        return _packing().multiply(rows, matrix, self.bias, "none", [], "")


def _has_packing(x: Tensor, layer: nn.Conv2d) -> bool:
    """True if the weight is laid out for ``x``, a fake tensor as if it were real."""
    if not internals.is_known(x):
        return False
    return is_laid_out(x, layer) and bool(torch.backends.mkldnn.enabled) and _can_pack()


@lru_cache(maxsize=1)
def _can_pack() -> bool:
    return internals.has(InternalUse.PACKED_WEIGHTS) and torch.backends.mkldnn.is_available()


class _Packing(NamedTuple):
    """Operators that lay out the weights of a convolution and convolve, and the same for a product."""

    kernel: Callable[..., Tensor]
    convolve: Callable[..., Tensor]
    matrix: Callable[..., Tensor]
    multiply: Callable[..., Tensor]


@lru_cache(maxsize=1)
def _packing() -> _Packing:
    find = internals.find
    return _Packing(
        find("ops.mkldnn._reorder_convolution_weight").default,
        find("ops.mkldnn._convolution_pointwise").default,
        find("ops.mkldnn._reorder_linear_weight").default,
        find("ops.mkldnn._linear_pointwise").default,
    )


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
                "Train the model it was made from, and fold that again"
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
            "a folded model gives no gradients: take them of the model it was made from"
        )
