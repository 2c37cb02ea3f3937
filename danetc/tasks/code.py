"""THE decision whether code runs that a file names. Code that the user typed is never asked about.

Data of ``python:...`` run where the user typed them with ``--data``, and are refused where only the
record of a directory names them. Functions of a recipe's losses run in a training, which prints them
first; where the recipe is that of a record, the user has to name them too.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.recipe.settings import Recipe, named_in_losses
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.requests import RepeatedTraining, TrainingRequest


def refuse_recorded_data(text: str, record: Path) -> None:
    """Raise UserError where data that only a record names are code."""
    from danetc.runtime.data.sources import find
    from danetc.runtime.system.errors import DataError

    try:
        is_code = find(text)[0].name == "python"
    except DataError:  # said where the data are looked for
        return
    if is_code:
        raise _refusal(record, text, "--data", f"data={text!r}")


def admit_functions(recipe: Recipe, request: TrainingRequest, note: Note) -> None:
    """Tell which files of Python a training by this recipe runs, before it runs any.

    Raises UserError where ``request`` refuses code, and where the recipe is that of a record and the
    user has not named the function.
    """
    for place in named_in_losses(recipe.phases, "function"):
        if request.no_code:
            raise UserError(
                f"the recipe `{recipe.name}` runs code, {visible(place)}, which --no-code refuses"
            )
        if isinstance(request, RepeatedTraining) and place not in request.allow_code:
            raise _refusal(Path("run.json"), place, "--allow-code")
        file, _, name = place.rpartition(":")
        note(
            f"the recipe `{recipe.name}` runs code: {name} of {Path(file).expanduser().absolute()}"
        )


def _refusal(record: Path, code: str, flag: str, in_python: str | None = None) -> UserError:
    other = "" if in_python is None else f" (in Python {visible(in_python)})"
    return UserError(
        f"{record} names code, {visible(code)}, and nothing that a directory names is run; look at "
        f"it, and if it may run, name it yourself: {flag} {shlex.quote(visible(code))}{other}"
    )
