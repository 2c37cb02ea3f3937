"""A model for inference alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from danetc.runtime.model import Model
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of the norms of a network, by their qualified names.

    ``folded`` ones are part of the layers before them, ``moved`` ones stand before an addition in
    place of behind it, ``kept`` ones stand where they stood.
    """

    folded: tuple[str, ...]
    moved: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.folded)} norms folded, {len(self.moved)} moved before an addition, "
            f"{len(self.kept)} kept"
        )


class InferenceModel(Model):
    """A model that is always in eval mode and gives no gradients. ``norms`` says what was folded.

    Takes and gives what the model it was made from does. Runs under ``torch.no_grad``; under
    ``torch.inference_mode`` where the caller enters it.
    """

    norms: Folded

    def train(self, mode: bool = True) -> Self:
        """Raises RuntimeError for ``mode=True``."""
        if mode:
            raise RuntimeError(
                "a folded model is for inference: its norms are part of its convolutions. "
                "Train the model it was made from, and fold that again"
            )
        return super().train(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            if any(isinstance(x, Tensor) and x.requires_grad for x in args):
                raise RuntimeError(
                    "a folded model gives no gradients: take them of the model it was made from"
                )
            with torch.no_grad():
                return super().__call__(*args, **kwargs)
        return super().__call__(*args, **kwargs)
