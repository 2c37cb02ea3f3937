"""Installed versions, as pip knows them. Never imports torch."""

from __future__ import annotations

import importlib.metadata
import platform


def version() -> str:
    """Return the version of danetc."""
    return importlib.metadata.version("danetc")


def with_libraries() -> str:
    """Return the versions that a bug report should have."""
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "missing"
    return f"danetc {version()} (torch {torch}, Python {platform.python_version()})"
