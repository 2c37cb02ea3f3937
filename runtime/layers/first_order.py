"""Gradients that are no functions to torch."""

from __future__ import annotations

import torch


def refuse_second_order() -> None:
    """For a backward pass that works out of torch's sight.

    Raises RuntimeError where it is to be differentiated again: torch would take what it gives for constants.
    """
    if torch.is_grad_enabled():  # which it is in a backward pass with create_graph=True alone
        raise RuntimeError(
            "the gradient of this layer cannot be differentiated again: leave out create_graph=True"
        )
