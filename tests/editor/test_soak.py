"""A few of the random edits of ``make edits``."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.editor.soaking import Soak, over_the_wire


@pytest.mark.parametrize("seed", range(4))
def test_random_edits_are_answered(seed: int) -> None:
    Soak(random.Random(seed)).run(10)


@pytest.mark.thorough
def test_the_server_answers_after_random_edits() -> None:
    pytest.importorskip("pygls")
    asyncio.run(over_the_wire(60, 1))
