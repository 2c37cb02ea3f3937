"""The versions that are installed, as pip knows them. Never imports torch."""

from __future__ import annotations

import importlib.metadata
import platform


def version() -> str:
    """As pip names it."""
    return importlib.metadata.version("danetc")


def with_libraries() -> str:
    """What a report of a fault should name."""
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "missing"
    return f"danetc {version()} (torch {torch}, Python {platform.python_version()})"
