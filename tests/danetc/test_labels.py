"""What networks that stand side by side are called."""

from __future__ import annotations

import pytest

from danetc.output.table import unique_labels


@pytest.mark.parametrize(
    ("names", "places", "labels"),
    [
        (["a", "b"], ["runs/x", "runs/y"], ["a", "b"]),
        (["a", "a"], ["runs/x", "runs/y"], ["x", "y"]),
        (["a", "a"], ["one/x.danet", "two/x.danet"], ["one", "two"]),
        (["a", "a"], ["v0.5", "v0.25"], ["v0.5", "v0.25"]),
        (
            ["a", "a", "b"],
            ["grid/a,depth=20/seed-0", "grid/a,depth=56/seed-0", "grid/b/seed-0"],
            ["a,depth=20", "a,depth=56", "b"],
        ),
        (
            ["a", "a", "a"],
            ["grid/x/seed-0", "grid/x/seed-1", "grid/y/seed-0"],
            ["x/seed-0", "x/seed-1", "y/seed-0"],
        ),
        (["a", "a"], ["runs/a", "a.danet"], ["runs/a", "a"]),
        (["a", "a"], ["runs/a", "runs/a"], ["runs/a", "runs/a"]),
        (["a", "a"], ["runs/a", "runs"], ["runs/a", "runs"]),
    ],
)
def test_labels(names: list[str], places: list[str], labels: list[str]) -> None:
    assert unique_labels(names, places) == labels
