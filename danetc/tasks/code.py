"""Decision whether danetc runs code that a file names. Code that the user typed is not asked about.

Data of ``python:...`` run if the user typed them with ``--data``, and are refused if only the record of a
directory names them. Functions in the losses of a recipe run in a training, which prints them first; if
the recipe comes from a record, the user also has to name them.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.recipe.settings import Recipe, named_in_losses
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.requests import TrainingRequest


def refuse_recorded_data(text: str, record: Path) -> None:
    """Raise UserError if data that only a record names are code."""
    from danetc.runtime.data.sources import find
    from danetc.runtime.system.errors import DataError

    try:
        is_code = find(text)[0].name == "python"
    except DataError:  # reported where the data are opened
        return
    if is_code:
        raise _refusal(record, text, f"--data {shlex.quote(visible(text))}")


def admit_functions(
    recipe: Recipe, request: TrainingRequest, note: Note, record: Path | None
) -> None:
    """Print the Python functions that a training by this recipe runs, before it runs any.

    Raises UserError if ``request`` refuses code, and if the recipe comes from a ``record`` and the user
    has not named the function.
    """
    for place in named_in_losses(recipe.phases, "function"):
        if request.no_code:
            raise UserError(
                f"the recipe `{recipe.name}` runs code, {visible(place)}, which --no-code refuses"
            )
        if record is not None and place not in request.allow_code:
            raise _refusal(record, place, f"--allow-code {shlex.quote(visible(place))}")
        file, _, name = place.rpartition(":")
        note(
            f"the recipe `{recipe.name}` runs code: {name} of {Path(file).expanduser().absolute()}"
        )


def _refusal(record: Path, code: str, flag: str) -> UserError:
    return UserError(
        f"{record} names code, {visible(code)}, but code that a directory names is not run; "
        f"if you trust it, name it yourself: {flag}"
    )
