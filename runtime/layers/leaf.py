"""Base classes of layers, and the refusal of second derivatives."""

from __future__ import annotations

from torch import Tensor, nn

from danetc.runtime.kernels.torch_internals import is_backward_transformed


class Leaf(nn.Module):
    """A module whose call stays one call under ``fx.symbolic_trace``.

    Otherwise a trace would fix what depends on ``training``. fx treats modules that claim to come from torch.nn as
    leaves, and asks the object; the class stays where pickle finds it.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.__module__ = "torch.nn.modules"


class ReadsWhatItMoves:
    """A module whose output in training depends on the buffers that it has just updated."""


def refuse_second_order(
    grad: Tensor, instead: str = "build the model with backend='eager'"
) -> None:
    """Raise RuntimeError if a backward pass that torch cannot differentiate will be differentiated or transformed;
    torch would treat the results as constants."""
    if is_backward_transformed(grad):
        raise RuntimeError(
            "the gradient of this layer cannot be differentiated again, nor transformed "
            f"(create_graph=True, is_grads_batched=True, torch.func, forward-mode AD): {instead}"
        )
