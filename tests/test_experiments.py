"""results/experiments: what was drawn and pre-registered, and how the page is computed from the runs."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path

import pytest

from results import drawn, run

FOLDER = drawn.FOLDER
TABLES = sorted(FOLDER.glob("*/cells.toml"))


def read(name: str) -> dict[str, list[drawn.Row]]:
    found: dict[str, list[drawn.Row]] = json.loads((FOLDER / name / "drawn.json").read_text())
    return found


def test_drawn_networks_are_those_of_their_seeds() -> None:
    for name, count, seed in (("candidates", 36, 601), ("random", 24, 602)):
        kinds = [
            (axes["connection"], axes["rule"], axes["zero_init"])
            for axes in (each["axes"] for each in read("search")[name])
        ]
        assert kinds == random.Random(seed).sample(drawn.space(), count)
    every = list(product(drawn.RULES, drawn.CONNECTIONS, drawn.BLOCKS))
    axes = [each["axes"] for each in read("paths")["networks"]]
    found = [(each["rule"], each["connection"], each["n"]) for each in axes]
    assert found == random.Random(401).sample(every, 24)


def test_networks_of_equal_cost_have_that_of_origin() -> None:
    same = read("equal")["networks"]
    assert [tuple(each["axes"].values())[:3] for each in same] == [*drawn.EQUAL]
    wanted = same[0]["cost"]
    for each in (*same, *(row for rows in read("search").values() for row in rows)):
        assert each["cost"] == pytest.approx(wanted, rel=0.005)
    assert [drawn.row(each["network"], each["axes"]) for each in same] == same


@pytest.mark.thorough
def test_drawn_lists_are_computed_again() -> None:
    assert drawn.lists() == {name: read(name) for name in ("equal", "paths", "search")}


def test_soft_reset_is_not_in_the_search_because_it_is_the_same_at_one_step() -> None:
    from danetc.compiler import graph_of
    from danetc.compiler.emit.fx import emit

    torch = pytest.importorskip("torch")
    own = run.networks_of(drawn.SPEC)["spiking"].checked
    x = torch.rand(2, 1, 14, 14)
    first, second = (
        emit(graph_of(own, network="spiking", settings={"neuron": neuron}), 0)(x)
        for neuron in ("IF", "IF_soft")
    )
    assert torch.equal(first, second)


def test_seeds_are_fresh() -> None:
    """No experiment has a seed of an earlier run or of another experiment."""
    used: dict[int, Path] = {}
    for path in sorted(drawn.HERE.glob("**/cells.toml"), key=lambda path: path in TABLES):
        for seed in {seed for group in run.read_groups(path) for seed in group.seeds}:
            assert path not in TABLES or seed not in used, (path, used.get(seed))
            used[seed] = path


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_tables_have_runs(path: Path) -> None:
    """Each group has runs, of networks that compile, or waits for others."""
    groups = run.read_groups(path)
    states = run.states(groups, path.parent / "cells")
    assert all(state.runs or "best" in state.group.chosen for state in states)
    assert all(state.count for state in states)
    names = [each.name for state in states for each in state.runs]
    assert len({*names}) == len(names)
