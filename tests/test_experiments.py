"""results/experiments: what was drawn and pre-registered, and how the page is computed from the runs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from results import drawn, experiments, run
from results.data import OPEN, SUPPORTED, Cell
from results.predictions import BORNE_OUT, REFUTED, UNDECIDED

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


# -- verdicts --------------------------------------------------------------------------------------

Invented = Callable[[run.Run], dict[str, Any]]


def invented(folder: Path, name: str, score: Invented) -> list[Cell]:
    """Runs of an experiment with invented records, chosen by results/run.py from their JSON."""
    cells = folder / name
    cells.mkdir()
    found = []
    for each in run.all_runs(run.read_groups(FOLDER / name / "cells.toml"), cells):
        own = score(each)
        value = own.pop("accuracy", 0.5)
        epoch = {"test_accuracy": value, "val_accuracy": value, "train_loss": 1.0} | own.pop(
            "epoch", {}
        )
        record = {
            **run.asked_of(each),
            "operations": {"energy": 1e-6, "additions": 1e6, "macs": 0.0},
            "firing_rate": 0.2,
            "dodv_a_layer": 0.2,
            "made": {"cpu_seconds": 60.0},
            "epochs": [epoch],
            **own,
        }
        (cells / f"{each.name}.json").write_text(json.dumps(record), encoding="utf-8")
        found.append(Cell(each.name, record))
    return found


def jitter(each: run.Run) -> float:
    """A small number of a run, of mean 0 over seeds in a row."""
    return 0.002 * (each.seed % 3 - 1)


def by_rule(**scores: float) -> Invented:
    return lambda each: {"accuracy": scores[each.axes["rule"]] + jitter(each)}


def by_depth(**leads: float) -> Invented:
    def score(each: run.Run) -> dict[str, Any]:
        lead = leads[f"{each.group.recipe}_{each.axes['depth']}"]
        seeds = 0.001 * (each.seed % 2)  # differences that differ from seed to seed
        dense = each.axes["rule"] == "densely_additive"
        return {"accuracy": 0.7 + (lead + seeds if dense else 0)}

    return score


def steepness(*values: float) -> Invented:
    """Stem over last before and after an epoch, times n."""
    return lambda each: {
        "gradients": [
            {"neurons": {"stem.spike": value * each.axes["n"], "between": 7.0, "last": 2.0}}
            for value in values
        ]
    }


def along(sign: float, other: float) -> Invented:
    """Accuracy that falls with the fewest neurons on a path, and a dO/dV with the same or another order."""
    rows = {json.dumps(row["axes"]): row["fewest"] for row in read("paths")["networks"]}

    def score(each: run.Run) -> dict[str, Any]:
        fewest = rows[json.dumps(each.varied)]
        return {"accuracy": 0.5 - 0.01 * sign * fewest, "dodv_a_layer": 1 - 0.01 * other * fewest}

    return score


def nine(origin: float, zero: float, dense: float) -> Invented:
    def score(each: run.Run) -> dict[str, Any]:
        axes = each.axes
        rate = axes["recipe.optimizer.lr"]
        if each.seed == 201:
            return {"accuracy": 0.6 if rate == 0.02 else 0.6 - rate}
        assert rate == 0.02
        value = (
            dense if axes["rule"] == "densely_additive" else zero if axes["zero_init"] else origin
        )
        return {"accuracy": value + jitter(each)}

    return score


def searched(fresh: float, choice: float = 0.9) -> Invented:
    """Candidates without an interblock neuron are the best; baselines have 80 %."""

    def score(each: run.Run) -> dict[str, Any]:
        if each.group.name == "DANet-C and SEW":
            return {"accuracy": 0.8 + jitter(each)}
        analog = each.axes["connection"].startswith("pa_")
        if each.seed == 601:
            return {"accuracy": choice if analog else 0.5}
        assert analog
        return {"accuracy": fresh + 0.0001 * each.seed}

    return score


@pytest.mark.parametrize(
    ("experiment", "score", "wanted"),
    [
        ("fair", by_depth(one_step_34=0.03, one_step_50=0.06, digits_14_34=0.0, digits_14_50=-0.01), {"1": SUPPORTED, "r": BORNE_OUT, "s": BORNE_OUT, "t": BORNE_OUT}),
        ("fair", by_depth(one_step_34=0.005, one_step_50=0.12, digits_14_34=0.02, digits_14_50=0.02), {"1": REFUTED, "r": UNDECIDED, "s": UNDECIDED, "t": REFUTED}),
        ("fair", by_depth(one_step_34=-0.03, one_step_50=0.2, digits_14_34=0.02, digits_14_50=-0.02), {"1": REFUTED, "r": REFUTED, "s": REFUTED, "t": UNDECIDED}),
        ("slow", nine(0.7, 0.81, 0.82), {"2": SUPPORTED, "u": BORNE_OUT, "v": BORNE_OUT}),
        ("slow", nine(0.81, 0.7, 0.82), {"2": REFUTED, "u": REFUTED, "v": REFUTED}),
        ("slow", nine(0.76, 0.76, 0.80), {"2": OPEN, "u": UNDECIDED, "v": UNDECIDED}),
        ("gradients", steepness(2.0, 1.0), {"3": REFUTED, "w": BORNE_OUT, "x": REFUTED}),
        ("gradients", steepness(2.0, 0.01), {"3": SUPPORTED, "w": REFUTED}),
        ("gradients", steepness(0.5, 0.3), {"3": OPEN, "w": UNDECIDED}),
        ("paths", along(1, 0), {"4": SUPPORTED, "y": UNDECIDED}),
        ("paths", along(1, 1), {"4": OPEN}),
        ("paths", along(-1, 1), {"4": REFUTED, "y": REFUTED}),
        ("equal", lambda each: {"accuracy": {"pa_b": 0.9, "sew": 0.8}.get(each.axes["connection"]) or {"chain": 0.5, "densely_additive": 0.6, "chain_all": 0.75}.get(each.axes["rule"], 0.7) + jitter(each) * (each.axes["rule"] == "chain")}, {"5": SUPPORTED, "z": BORNE_OUT, "aa": UNDECIDED}),
        ("equal", by_rule(chain=0.6, densely_additive=0.5, chain_all=0.4, densely_additive_all=0.3), {"5": REFUTED, "z": REFUTED}),
        ("search", searched(0.8), {"6": SUPPORTED, "ab": BORNE_OUT, "ac": UNDECIDED, "ad": BORNE_OUT, "ae": REFUTED}),
        ("search", searched(0.7, 0.77), {"6": REFUTED, "ac": REFUTED, "ae": BORNE_OUT}),
    ],
)  # fmt: skip
def test_verdicts_of_invented_runs(
    experiment: str, score: Invented, wanted: dict[str, str], tmp_path: Path
) -> None:
    claims = {**experiments.CLAIMS, **experiments.PREDICTIONS}
    cells = {experiment: invented(tmp_path, experiment, score)}
    assert {key: claims[key].compute(cells)[1] for key in wanted} == wanted
    if experiment == "search":
        rows = [
            row for name in ("candidates", "random") for row in experiments.finalists(name, cells)
        ]
        trained = {json.dumps(c.record["axes"]) for c in cells["search"] if c.seed == 615}
        for row in (*rows, *read("search")["baselines"]):
            trained.remove(json.dumps({"network": row["network"], **row["axes"]}))
        assert not trained  # the same choice as that of results/run.py


def test_claims_are_those_that_were_written_and_wait_for_their_runs() -> None:
    text = (FOLDER / "predictions.md").read_text(encoding="utf-8")
    keys = re.findall(r"^\| (\w+) \|", text, re.MULTILINE)
    assert keys == [*experiments.CLAIMS, *experiments.PREDICTIONS]
    groups = {
        each.group.name for name in experiments.EXPERIMENTS for each in experiments.progress(name)
    }
    for claim in {**experiments.CLAIMS, **experiments.PREDICTIONS}.values():
        assert {*claim.groups} <= groups
        states = [replace(each, done=0) for each in experiments.progress(claim.experiment)]
        text, verdict = claim.found(states, {})
        assert text == ""
        assert re.fullmatch(r"waiting: 0 of \d+", verdict)


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_runs_are_those_of_the_table_and_of_one_version(name: str) -> None:
    names = {each.name for state in experiments.progress(name) for each in state.runs}
    cells = experiments.read_runs(name)
    assert {cell.name for cell in cells} <= names
    made = [cell.record["made"] for cell in cells]
    assert len({each["commit"] for each in made}) <= 1
    assert not any(each["changed"] for each in made)


@pytest.mark.thorough
def test_gradients_are_measured_beside_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not change it, and one that was not measured before a kill is measured afterwards."""
    records = {}
    monkeypatch.setattr("os.chdir", lambda place: None)
    for gradients in ("false", "true"):
        folder = tmp_path / gradients
        folder.mkdir()
        table = f"""
        spec = "{drawn.SPEC}"
        data = "digits,val=0.2"
        [[group]]
        name = "one"
        item = 3
        network = "spiking"
        axes = {{ n = [2] }}
        recipe = "clipped"
        seeds = [1]
        minutes = 1
        gradients = {gradients}
        """
        (folder / "cells.toml").write_text(table, encoding="utf-8")
        line = f"run.py --table {folder / 'cells.toml'} --runs {folder / 'runs'}"
        monkeypatch.setattr("sys.argv", line.split())
        assert run.main() == 0
        (file,) = (folder / "cells").iterdir()
        records[gradients] = json.loads(file.read_text(encoding="utf-8"))
    plain, watched = (
        [{**epoch, "seconds": 0} for epoch in records[each]["epochs"]] for each in ("false", "true")
    )
    assert plain == watched
    assert [("val_loss" in epoch, "test_loss" in epoch) for epoch in plain] == [
        (True, False), (True, False), (True, True)
    ]  # fmt: skip
    assert records["true"]["measured_on"]["split"] == "val"
    found = records["true"]["gradients"]
    assert [each["epoch"] for each in found] == [0, 1, 2, 3]
    assert all(value > 0 for each in found for value in each["neurons"].values())
    assert len({each["loss"] for each in found}) == 4
    (kept,) = (folder / "runs").glob("*/*/*.gradients.json")
    assert json.loads(kept.read_text(encoding="utf-8")) == found
    kept.write_text(json.dumps(found[:-1]), encoding="utf-8")
    file.unlink()
    assert run.main() == 0
    assert json.loads(file.read_text(encoding="utf-8"))["gradients"] == found


def test_figures_are_those_of_the_page_and_are_drawn_from_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = pytest.importorskip("results.drawing")
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    stored = {path.stem for path in (FOLDER / "figures").iterdir()}
    assert {*re.findall(r"\(figures/(\w+)\.svg\)", page)} == {*drawing.EXPERIMENTS} == stored
    scores = {"slow": nine(0.7, 0.8, 0.8), "gradients": steepness(2, 1), "paths": along(1, 0)}
    runs = {name: invented(tmp_path, name, score) for name, score in scores.items()}
    for number, cells in enumerate((dict.fromkeys(runs, ()), runs)):
        monkeypatch.setattr(experiments, "read_all", lambda cells=cells: cells)
        drawing.draw([], tmp_path / str(number), drawing.EXPERIMENTS)
    for name in drawing.EXPERIMENTS:
        empty, full = ((tmp_path / each / f"{name}.svg").read_text() for each in "01")
        assert full.count("<path") + full.count("<use") > empty.count("<path") + empty.count("<use")
