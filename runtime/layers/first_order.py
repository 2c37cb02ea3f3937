"""Refusal of second derivatives."""

from __future__ import annotations

from torch import Tensor

from danetc.runtime.kernels.torch_internals import is_backward_transformed


def refuse_second_order(
    grad: Tensor, instead: str = "build the model with backend='eager'"
) -> None:
    """Raise RuntimeError if a backward pass that torch cannot differentiate will be differentiated or transformed;
    torch would take its results for constants."""
    if is_backward_transformed(grad):
        raise RuntimeError(
            "the gradient of this layer cannot be differentiated again, nor transformed "
            f"(create_graph=True, is_grads_batched=True, torch.func, forward-mode AD): {instead}"
        )
