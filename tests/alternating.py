"""Tests of many networks: `make test` runs each test on every other network."""

from collections.abc import Iterable
from typing import Any

import pytest


def alternating(names: Iterable[str], start: int = 0) -> list[Any]:
    """Names, of which every other one is thorough, starting with the one at ``start`` (0 or 1). Of two
    tests with different starts, one runs for each name."""
    return [
        pytest.param(name, marks=[pytest.mark.thorough] * (place % 2 == start))
        for place, name in enumerate(names)
    ]
