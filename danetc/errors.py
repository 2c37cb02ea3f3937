"""Errors that are the user's to fix, apart from those of a spec (``SpecError``)."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something outside the program is wrong: a path, an argument, a file's contents.

    ``str()`` is one or more plain lines that say what is wrong and what to do about it.
    """

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it."""
        return str(self).splitlines()


class SaidElsewhere(UserError):
    """One that another process of this machine prints, under torchrun."""


def check_installed(what: str, names: Sequence[str], extra: str) -> None:
    """Raise UserError if a library that an extra of the package brings is missing."""
    from importlib.util import find_spec  # late: start-up does without

    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what} needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not "
            f"installed: pip install 'danetc[{extra}]'"
        )
