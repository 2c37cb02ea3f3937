"""Every network of the zoo against the outputs and gradients of its authors' code."""

from __future__ import annotations

import pytest

from tests.zoo.authors import FOLDER, TOLERANCE, compare_with_authors, comparison_of
from tests.zoo.harness import NAMES
from tests.zoo.page import PAGE

MAX_BYTES = 50_000


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_its_authors(name: str) -> None:
    comparison = comparison_of(name)
    if comparison.repository is None:
        assert comparison.reason
        return
    assert len(comparison.commit) == 40
    assert FOLDER.joinpath(f"{name}.npz").stat().st_size <= MAX_BYTES
    assert compare_with_authors(name) <= TOLERANCE


def test_nothing_is_recorded_of_other_networks() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(NAMES)


def test_the_page_counts_the_comparisons() -> None:
    compared = sum(comparison_of(name).repository is not None for name in NAMES)
    assert f"{compared} of the {len(NAMES)} were also compared" in PAGE.read_text("utf-8")
