"""The version of danetc that is installed."""

from __future__ import annotations

import importlib.metadata


def version() -> str:
    """As pip names it."""
    return importlib.metadata.version("danetc")
