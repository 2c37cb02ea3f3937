"""Libraries that danetc uses where they are installed, each brought by an extra of the package."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from danetc.errors import UserError


def check_installed(what: str, names: Sequence[str], extra: str) -> None:
    """Raise UserError where a library that something needs is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what} needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not "
            f"installed: pip install 'danetc[{extra}]'"
        )
