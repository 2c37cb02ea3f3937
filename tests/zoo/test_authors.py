"""Every network of the zoo against the outputs and gradients of its authors' code."""

from __future__ import annotations

import pytest

from tests.zoo.authors import FOLDER, TOLERANCE, compare_with_authors, comparison_of, recorded
from tests.zoo.harness import NAMES

MAX_BYTES = 50_000


@pytest.mark.parametrize("name", filter(recorded, NAMES))
def test_a_network_is_its_authors(name: str) -> None:
    comparison = comparison_of(name)
    if comparison.repository is None:
        assert comparison.reason
        return
    assert len(comparison.commit) == 40
    assert FOLDER.joinpath(f"{name}.npz").stat().st_size <= MAX_BYTES
    assert compare_with_authors(name) <= TOLERANCE


def test_nothing_is_recorded_of_other_networks() -> None:
    assert {path.stem for path in FOLDER.iterdir()} <= set(NAMES)
