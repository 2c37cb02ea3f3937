"""Errors that the user can fix, other than those of a spec (``SpecError``)."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.dsl.errors import UserError as UserError


class SaidElsewhere(UserError):
    """Error that another process of this machine reports under torchrun."""


def check_installed(what: str, names: Sequence[str], extra: str) -> None:
    """Raise UserError if a library that an extra of the package brings is missing."""
    from importlib.util import find_spec  # deferred: not needed at start-up

    for name in names:
        if find_spec(name) is None:
            install = f"pip install 'danetc[{extra}]'"
            raise UserError(f"{what} needs {name}, which is not installed: {install}")
