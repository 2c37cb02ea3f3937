"""Tests of many networks, of which `make test` runs each on every other one."""

from collections.abc import Iterable
from typing import Any

import pytest


def alternating(names: Iterable[str], start: int = 0) -> list[Any]:
    """Names, of which every other one is thorough, from that at ``start`` (0 or 1) on: of two tests
    with different starts one always runs."""
    return [
        pytest.param(name, marks=[pytest.mark.thorough] * (place % 2 == start))
        for place, name in enumerate(names)
    ]
