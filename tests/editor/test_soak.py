"""A few of the random edits of ``make edits``."""

from __future__ import annotations

import random

import pytest

from tests.editor.soaking import Soak


@pytest.mark.parametrize("seed", range(4))
def test_random_edits_are_answered(seed: int) -> None:
    Soak(random.Random(seed)).run(10)
