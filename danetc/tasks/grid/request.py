"""The request behind ``danetc compare`` and ``danetc search``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from danetc.arguments import check_choice, check_whole
from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError
from danetc.setting import Setting
from danetc.tasks.training.request import TrainingRequest

Accuracy = Literal["last", "best"]
ENGINES = ("local", "ray")
AnAxis = TypeVar("AnAxis", covariant=True)


@dataclass(frozen=True, kw_only=True)
class GridRequest(Generic[AnAxis]):
    """Networks, axes, the training that all cells share, and the engine that runs it.

    Attributes:
        networks: Names of the networks to use of files with several; all if empty.
        training: Training of every cell, without its spec; ``output`` is the directory of the grid.
        accuracy: Epoch whose test accuracy counts.
        jobs: Number of trainings at a time; chosen by the engine if None.
        address: Address of the Ray cluster.
        cpus, gpus: Resources of each run on the cluster.

    Raises UserError for a value out of range.
    """

    specs: tuple[str, ...]
    networks: tuple[str, ...] = ()
    axes: tuple[AnAxis, ...] = ()
    training: TrainingRequest
    accuracy: Accuracy = "last"
    engine: str = "local"
    jobs: int | None = None
    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        check_choice("accuracy", self.accuracy, ("last", "best"))
        check_choice("engine", self.engine, ENGINES)
        check_whole("jobs", self.jobs, 1, 100_000)
        if self.training.fresh and self.training.override:
            raise UserError("choose one of fresh and override")
        cluster = self.address, self.cpus, self.gpus
        if self.engine == "local" and any(each is not None for each in cluster):
            raise UserError(
                "address, cpus and gpus are those of a cluster: choose the engine ray (--engine ray)"
            )

    @property
    def folder(self) -> Path:
        """Directory of the grid."""
        assert self.training.output is not None
        return self.training.output


def spec_names(
    specs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[str, ...]:
    """Return the specs of a call from Python, one or several, as texts."""
    several = [specs] if isinstance(specs, str | os.PathLike) else specs
    return tuple(os.fspath(each) for each in several)


def parsed_axes(
    grid: Mapping[str, str | Sequence[Setting]], parse: Callable[[str], AnAxis]
) -> tuple[AnAxis, ...]:
    """Return the axes of a call from Python: lists of values, or texts as after ``--grid NAME=``.

    Raises UserError.
    """
    texts = {
        name: values if isinstance(values, str) else ",".join(map(override_text, values))
        for name, values in grid.items()
    }
    try:
        return tuple(parse(f"{name}={text}") for name, text in texts.items())
    except ValueError as error:
        raise UserError(str(error)) from error
