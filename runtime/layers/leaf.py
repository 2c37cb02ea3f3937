"""Base classes that mark modules."""

from __future__ import annotations

from torch import nn


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
