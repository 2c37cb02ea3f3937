"""Decision whether danetc runs code that a file names. Code that the user typed is not asked about.

Data of ``python:...`` run if the user typed them with ``--data``, and are refused if only the record of a
directory names them. Functions in the losses of a recipe run in a training, and layers in Python of a
network if it is trained or built, which prints them first; if the recipe or the network comes from a
record, the user also has to name them.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from danetc.dsl.diagnostics.visible import visible
from danetc.errors import UserError
from danetc.output.echo import Note


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


def admit(
    what: str,
    places: Collection[str],
    note: Note,
    *,
    record: Path | None = None,
    no_code: bool = False,
    allowed: Collection[str] = (),
) -> None:
    """Print the functions and classes ``FILE.py:NAME`` that ``what`` runs, allow them and then load them.

    Raises UserError if ``no_code`` refuses code, and if only a ``record`` names them and the user has not.
    """
    from danetc.compiler.ir.ops.user import allow_code, is_allowed  # late: the compiler takes 0.1 s
    from danetc.runtime.system.user_code import found_at

    for place in places:
        if no_code:
            raise UserError(f"{what} runs code, {visible(place)}, which --no-code refuses")
        if record is not None and place not in allowed and not is_allowed(place):
            raise _refusal(record, place, f"--allow-code {shlex.quote(visible(place))}")
        file, _, name = place.rpartition(":")
        note(f"{what} runs code: {name} of {Path(file).expanduser().absolute()}")
        allow_code(place)
    for place in places:
        found_at(place)  # now: a pass that computes the memory of a step has tensors without values


def _refusal(record: Path, code: str, flag: str) -> UserError:
    return UserError(
        f"{record} names code, {visible(code)}, but code that a directory names is not run; "
        f"if you trust it, name it yourself: {flag}"
    )
