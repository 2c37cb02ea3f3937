"""Figures of a training as text: accuracies, other scores, sizes."""

from __future__ import annotations

from collections.abc import Mapping

NAMES: Mapping[str, str] = {"miou": "mIoU", "rmse": "RMSE", "perplexity": "perplexity"}
"""Names of scores."""


def percent(value: float | None, digits: int = 2, width: int = 0) -> str:
    """Return an accuracy from 0 to 1 in per cent, or a dash for None."""
    return ("-" if value is None else f"{value:.{digits}%}").rjust(width)


def score(name: str, value: float) -> str:
    """Return a score as text: shares in per cent, distances as they are."""
    return f"{value:.4g}" if name in ("rmse", "perplexity") else percent(value)


def scores(found: Mapping[str, float]) -> str:
    """Return all scores in a line, each with its name: ``mIoU 41.20%``."""
    return ", ".join(f"{NAMES[name]} {score(name, value)}" for name, value in found.items())


def show_size(size: int) -> str:
    """Return a size in bytes with three digits: ``8.00 GB``, ``33.2 MB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            digits = 2 if size < 10 * factor else 1 if size < 100 * factor else 0
            return f"{size / factor:.{digits}f} {unit}"
    return f"{size} B"
