"""Modules that torch.fx keeps whole when it traces a model again."""

from __future__ import annotations

from torch import nn


class Leaf(nn.Module):
    """A module whose call stays one call under ``fx.symbolic_trace``.

    What depends on ``training`` has to be read at each call; traced through, it would be fixed to
    the mode of the moment, and ``eval()`` would change nothing any more. fx takes for leaves what
    says that it comes from torch.nn, and asks the module, not its class: so the module says so,
    and the class stays where pickle finds it.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.__module__ = "torch.nn.modules"


class ReadsWhatItMoves:
    """What marks a module whose output in training depends on the buffers that it has just moved."""
