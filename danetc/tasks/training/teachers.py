"""The networks that terms of a loss learn from (``distill``)."""

from __future__ import annotations

from danetc.dsl.recipe.settings import Phase, named_in_losses
from danetc.runtime.model.built import Model
from danetc.tasks.model_directory import load


def teachers_of(phase: Phase, backend: str) -> dict[str, Model]:
    """The teachers of a phase by their directories, with their weights. Raises UserError."""
    return {
        directory: load(directory, backend=backend, memory="none").requires_grad_(False)
        for directory in named_in_losses([phase], "teacher")
    }
