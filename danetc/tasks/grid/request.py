"""What a grid of trainings is asked for, by ``danetc compare`` and ``danetc search`` alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from danetc.arguments import BACKENDS, check_choice, check_whole
from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError
from danetc.setting import Setting
from danetc.tasks.grid.engines import EngineRequest
from danetc.tasks.grid.results import Accuracy
from danetc.tasks.training.request import TrainingRequest

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class GridRequest:
    """Networks, the training that all cells share, where they are trained, and which accuracy counts.

    The ``training`` has no spec; its ``output`` is the directory of the grid.
    """

    specs: tuple[str, ...]
    networks: tuple[str, ...]
    training: TrainingRequest
    engine: EngineRequest
    accuracy: Accuracy = "last"

    @property
    def folder(self) -> Path:
        """The directory of the grid."""
        assert self.training.output is not None
        return self.training.output


def grid_request(
    specs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    networks: Sequence[str],
    engine: EngineRequest,
    accuracy: Accuracy,
    **training: Any,
) -> GridRequest:
    """The request of a call from Python, checked as click checks that of the command line.

    ``training`` are fields of ``TrainingRequest``. Raises UserError.
    """
    several = [specs] if isinstance(specs, str | os.PathLike) else specs
    base = TrainingRequest(spec="", **training)
    check_choice("backend", base.backend, BACKENDS)
    check_choice("on_unreadable", base.on_unreadable, ("stop", "skip"))
    check_choice("accuracy", accuracy, ("last", "best"))
    check_whole("seed", base.seed, 0, 2**32 - 1)
    check_whole("seeds", base.seeds, 1)
    check_whole("classes", base.classes, 2)
    check_whole("subset_seed", base.subset_seed, 0)
    if base.fresh and base.override:
        raise UserError("choose one of fresh and override")
    return GridRequest(
        tuple(os.fspath(each) for each in several), tuple(networks), base, engine, accuracy
    )


def parsed_axes(
    grid: Mapping[str, str | Sequence[Setting]], parse: Callable[[str], Parsed]
) -> list[Parsed]:
    """The axes of a call from Python: of lists of values, or of what stands behind ``--grid NAME=``.

    Raises UserError.
    """
    texts = {
        name: values if isinstance(values, str) else ",".join(map(override_text, values))
        for name, values in grid.items()
    }
    try:
        return [parse(f"{name}={text}") for name, text in texts.items()]
    except ValueError as error:
        raise UserError(str(error)) from error
