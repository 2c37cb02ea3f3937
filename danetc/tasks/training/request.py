"""The plan of a training, after the request has been checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danetc.dsl.reading import open_regular
from danetc.dsl.recipe.settings import Recipe, named_in_losses
from danetc.errors import UserError
from danetc.pretrained import directory_of, weights_of
from danetc.requests import TrainingRequest
from danetc.runtime.data import DataSet
from danetc.runtime.system.files import digest, naming
from danetc.tasks.memory import Chosen
from danetc.tasks.model_directory import WEIGHTS
from danetc.tasks.networks import CompiledNetwork


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training. It does not depend on random numbers or on the machine.

    ``policies`` are the memory policies of the phases by name; ``directory`` is that of the run, or of
    all trials.
    """

    request: TrainingRequest
    compiled: CompiledNetwork
    recipe: Recipe
    data: DataSet
    directory: Path
    seeds: tuple[int, ...]
    backend: str
    policies: Mapping[str, Chosen]

    @property
    def several(self) -> bool:
        """True if the trials have directories of their own."""
        return len(self.seeds) > 1

    def settings(self, seed: int) -> dict[str, Any]:
        """Return the settings that determine the numbers of a run, as JSON data.

        Not among them is what only determines where they are computed, how fast, and how often they
        are saved.
        """
        recipe = self.recipe.as_dict()
        del recipe["origins"]
        for key in INDIFFERENT:
            recipe.pop(key, None)
        phases: Any = recipe.pop("phases")
        request = self.request
        return {
            "network": self.compiled.graph.name,
            "spec": self.compiled.resolved,
            "recipe": {**recipe, "phases": {phase.pop("name"): phase for phase in phases}},
            "data": {
                "text": self.data.text,
                "fingerprint": self.data.fingerprint,
                "subset": None if self.data.subset is None else list(self.data.subset),
                "on_unreadable": self.data.on_unreadable,
            },
            "seed": seed,
            "init": None if request.init is None else _file(weights_of(request.init)),
            "backend": self.backend,
            "channels_last": request.channels_last,
            "train_output": request.train_output,
            "deterministic": request.deterministic,
            "teachers": {
                name: _file(directory_of(name) / WEIGHTS)
                for name in named_in_losses(self.recipe.phases, "teacher")
            },
            "loss_functions": {
                name: _file(Path(name.rpartition(":")[0]))
                for name in named_in_losses(self.recipe.phases, "function")
            },
        }


INDIFFERENT = ("workers", "trials", "seed", "checkpoint_every", "checkpoint_minutes", "keep_every")
"""Settings of a recipe that change no number of a run. (The seed of the run is recorded.)"""


def _file(path: Path) -> str:
    """Return the name of a file with the digest of its contents."""
    try:
        with naming(path), open_regular(path) as stream:
            data = stream.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return f"{path.name} (SHA-256 {digest(data)})"
