"""What networks that stand side by side are called."""

from __future__ import annotations

import pytest

from danetc.output.table import unique_labels


@pytest.mark.parametrize(
    ("names", "places", "labels"),
    [
        (["a", "b"], ["runs/x", "runs/y"], ["a", "b"]),
        (["a", "a"], ["runs/x", "runs/y"], ["x", "y"]),
        (["a", "a"], ["one/x.danet", "two/x.danet"], ["one/x", "two/x"]),
        (["a", "a", "b"], ["g/a/s0", "g/a/s1", "g/b/s0"], ["a/s0", "a/s1", "b/s0"]),
        (["a", "a"], ["runs/a", "a.danet"], ["runs/a", "a"]),
        (["a", "a"], ["runs/a", "runs"], ["runs/a", "runs"]),
    ],
)
def test_labels(names: list[str], places: list[str], labels: list[str]) -> None:
    assert unique_labels(names, places) == labels
