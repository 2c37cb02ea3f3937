"""The request of a training, and the checked plan made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from danetc.arguments import BACKENDS, Memory, check_choice, check_whole
from danetc.dsl.files import open_regular
from danetc.dsl.recipe.settings import Recipe, named_in_losses
from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError
from danetc.pretrained import directory_of, weights_of
from danetc.runtime.data import DataSet, Policy
from danetc.runtime.system.files import digest, naming
from danetc.setting import Setting
from danetc.tasks.memory import Chosen
from danetc.tasks.model_directory import WEIGHTS
from danetc.tasks.networks import CompiledNetwork


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Description of a training, as the command line, Python, a grid and a search give it.

    ``None`` stands for the recipe's own value or for the default.

    Attributes:
        spec: Spec file, or name of a shipped spec.
        text: Source of the spec, instead of the file.
        output: Directory of the run.
        fresh: Move an existing run aside and start over.
        override: Resume an existing run although its settings have changed.
        allow_changed: Names of files in the run that were changed on purpose.
        no_code: Refuse a recipe that runs Python code.
        allow_code: Functions that may run although only a record names them.
        repeated: The run.json that this training repeats.

    Raises UserError for a value out of range.
    """

    spec: str
    text: str | None = None
    data: str
    network: str | None = None
    recipe: str | None = None
    output: Path | None = None
    settings: Mapping[str, Setting]
    seed: int | None = None
    seeds: int | None = None
    init: str | None = None
    backend: str | None = None
    memory: Memory = "none"
    channels_last: bool = False
    train_output: str | None = None
    deterministic: bool = True
    classes: int | None = None
    subset_seed: int = 0
    on_unreadable: Policy = "stop"
    fresh: bool = False
    override: bool = False
    allow_changed: tuple[str, ...] = ()
    no_code: bool = False
    allow_code: tuple[str, ...] = ()
    repeated: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, BACKENDS)
        check_choice("on_unreadable", self.on_unreadable, ("stop", "skip"))
        check_whole("seed", self.seed, 0, 2**32 - 1)
        check_whole("seeds", self.seeds, 1)
        check_whole("classes", self.classes, 2)
        check_whole("subset_seed", self.subset_seed, 0)

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> TrainingRequest:
        """Return the request that ``to_json`` wrote."""
        values = json.loads(text)
        for name in ("allow_changed", "allow_code"):
            values[name] = tuple(values[name])
        values["output"] = None if values["output"] is None else Path(values["output"])
        return cls(**values)

    def command(self) -> list[str]:
        """Return the ``danetc train`` command of this request, for people to read and to run."""
        words = ["danetc", "train"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("spec", "settings", "deterministic") or value == field.default:
                continue
            option = f"--{field.name.replace('_', '-')}"
            for each in value if isinstance(value, tuple) else (value,):
                words += [option] if each is True else [option, str(each)]
        for name, setting in self.settings.items():
            words += ["--set", f"{name}={override_text(setting)}"]
        return [*words, *([] if self.deterministic else ["--fastest"]), "--", self.spec]


@dataclass(frozen=True)
class TrainingPlan:
    """A checked training: nothing of it depends on chance or on the machine any more.

    ``policies`` are the memory policies of the phases by name. ``directory`` is that of the run, or
    of all trials.
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
        """Whether the trials have directories of their own."""
        return len(self.seeds) > 1

    def settings(self, seed: int) -> dict[str, Any]:
        """Everything that decides the numbers of a run, as JSON data: what a resume compares.

        What only decides where they are computed, how fast, and how often they are saved is not
        among them.
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
"""Settings of a recipe that change no number of a run. (Its own seed stands beside.)"""


def _file(path: Path) -> str:
    """A file by its name and what is in it."""
    try:
        with naming(path), open_regular(path) as stream:
            data = stream.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return f"{path.name} (SHA-256 {digest(data)})"
