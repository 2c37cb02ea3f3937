"""Trainings that start from the directory of a network, with its spec, weights and recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from danetc.compiler import check_text
from danetc.dsl.loading import Module
from danetc.dsl.reading import shipped_specs
from danetc.errors import UserError
from danetc.pretrained import directory_of
from danetc.requests import TrainingRequest
from danetc.tasks.model_directory import RUN, TRIALS, open_directory, open_trained
from danetc.tasks.training.directory import read_run
from danetc.tasks.training.repeat import recipe_text


def start_of(request: TrainingRequest) -> Path | None:
    """Return the directory from which a training starts, or None if its spec is a text or a file.

    Raises UserError if the directory is damaged or contains trials.
    """
    if request.text is not None or request.spec is None or request.spec in shipped_specs():
        return None
    place = directory_of(request.spec)
    if os.path.isfile(place / TRIALS):
        raise UserError(f"{place} holds trials; choose one of {place}/seed-...")
    return open_trained(open_directory(place).path).path if os.path.isdir(place) else None


def recipes_for(start: Path, name: str | None) -> Module:
    """Return a module with the recipe of the run in a directory.

    If there is no run, or if ``name`` selects a recipe, the module contains the recipes of std.
    Raises UserError if the record of the run is damaged.
    """
    record = None if name else read_run(start)
    text = "use std"
    if record is not None:
        try:
            text = recipe_text(record["settings"]["recipe"], record["facts"]["recipe"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{start / RUN} is damaged: it has no recipe ({error})") from error
    return check_text(text, f"the recipe of {start}" if record else "std").module


def refuse_within(start: Path, places: Iterable[tuple[int, Path]]) -> None:
    """Raise UserError if a training would write into the directory that it starts from."""
    for _, place in places:
        if start.resolve() in (place.resolve(), *place.resolve().parents):
            raise UserError(
                f"the training starts from {start} and must not write there; choose another "
                "directory with -o DIR"
            )
