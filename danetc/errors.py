"""Errors that are the user's to fix, apart from those of a spec (``SpecError``)."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the program is wrong: a path, an argument, a file's contents.

    ``str()`` is one or more plain lines that say what is wrong and what to do about it.
    """

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it."""
        return str(self).splitlines()


class SaidElsewhere(UserError):
    """One that another process of this machine prints, under torchrun."""
