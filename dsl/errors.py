"""Errors that the user can fix, other than those of a spec (``SpecError``)."""

from __future__ import annotations


class UserError(Exception):
    """An error outside the program: a wrong path, argument or file.

    ``str()`` is one or more lines that say what is wrong and how to fix it.
    """

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows."""
        return str(self).splitlines()
