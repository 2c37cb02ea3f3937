"""Tests of many networks, of which `make test` runs each on every other one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet


def alternating(names: Iterable[str], start: int = 0) -> list[ParameterSet]:
    """Names, of which every other one is thorough, from that at ``start`` (0 or 1) on: of two tests
    with different starts one always runs."""
    return [
        pytest.param(name, marks=[pytest.mark.thorough] * (place % 2 == start))
        for place, name in enumerate(names)
    ]
