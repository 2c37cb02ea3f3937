"""The networks that terms of a loss learn from (``distill``)."""

from __future__ import annotations

from collections.abc import Iterable

from danetc.dsl.recipe.settings import Phase
from danetc.runtime.model.built import Model
from danetc.tasks.model_directory import load


def directories_of(phases: Iterable[Phase]) -> list[str]:
    """The directories of the teachers that phases name, each once."""
    items = (term.item for phase in phases for term in phase.loss)
    return list(dict.fromkeys(str(item["teacher"]) for item in items if "teacher" in item))


def teachers_of(phase: Phase, backend: str) -> dict[str, Model]:
    """The teachers of a phase by their directories, with their weights. Raises UserError."""
    return {
        directory: load(directory, backend=backend, memory="none").requires_grad_(False)
        for directory in directories_of([phase])
    }
