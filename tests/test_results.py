"""results/: the page and README.md say what the files beside them say, and how it is computed."""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from danetc.errors import UserError
from results import beyond, drawing, findings, predictions, run
from results.data import (
    AFTER,
    ALL,
    CHAIN,
    DIGITS,
    EQ_11,
    OF_PAPER,
    Cell,
    hand_model,
    older_accuracies,
    pick,
    rank_correlation,
    read_cells,
    read_diverged,
    shown,
)
from results.make import PAGES, page
from results.older import OLDER
from results.predictions import BORNE_OUT, PREDICTIONS, REFUTED, UNDECIDED, WAITS
from results.tables import planned

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
CELLS = read_cells()
TABLES = PAGES[RESULTS / "README.md"]


def table(head: str, text: str = PAGE) -> dict[str, list[str]]:
    """The table of the page whose first row starts like this: cells by the first cell of a row."""
    _, _, after = text.partition(f"\n{head}")
    assert after, head
    rows = {}
    for line in after.splitlines()[2:]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    return rows


# -- the page --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_is_what_its_files_say(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert page(text, PAGES[path], CELLS) == text, "run `make results`"


def test_a_table_that_is_unknown_or_missing_is_told() -> None:
    first, *rest = (f"<!-- table: {name} -->\n<!-- end -->\n" for name in TABLES)
    whole = "".join([first, *rest])
    assert len(page(whole, TABLES, CELLS)) > len(whole)
    for wrong in ("".join(rest), whole + first, whole.replace("blocks", "stones")):
        with pytest.raises(ValueError, match=r"of the page|in the page"):
            page(wrong, TABLES, CELLS)


def test_figures_are_those_of_the_page() -> None:
    found = set(re.findall(r"\(figures/(\w+)\.svg\)", PAGE))
    assert found == set(drawing.FIGURES) == {path.stem for path in (RESULTS / "figures").iterdir()}


@pytest.mark.parametrize(
    "folder", sorted(path.parent.name for path in RESULTS.glob("*/cells.toml"))
)
def test_cells_are_of_the_plan_and_of_one_version(folder: str) -> None:
    """What is kept was asked for, and comes from one commit without changes."""
    cells = read_cells(folder)
    ended = [*cells, *read_diverged(folder)]
    names = [name for name, *_ in planned(folder)]
    assert len({*names}) == len(names)
    assert {cell.name for cell in ended} <= {*names}
    made = [cell.record["made"] for cell in ended]
    assert len({each["commit"] for each in made}) <= 1
    assert not any(each["changed"] for each in made)
    for cell in cells:
        assert cell.layers
        assert all(math.isfinite(layer.dodv) for layer in cell.layers)


def test_accuracy_of_two_phases() -> None:
    rows = table("| test accuracy, % | 12 epochs at T = 1")
    for row, name in (("DANet-C", "danet_c_r20"), ("SEW", "sew_r20")):
        with open(RESULTS / "fashion_mnist" / f"{name}.csv", encoding="utf-8", newline="") as lines:
            epochs = list(csv.DictReader(lines))
        last = {epoch["phase"]: 100 * float(epoch["test_accuracy"]) for epoch in epochs}
        before, after, _ = rows[row]
        assert [before, after] == [f"{value:.2f}" for value in last.values()]
        assert [len([e for e in epochs if e["phase"] == phase]) for phase in last] == [12, 3]


def test_the_readme_says_the_same() -> None:
    """README.md's numbers are those of the older runs' table."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    flat = " ".join(text.split())
    found = re.search(
        r"Origin falls from (\d+) to (\d+) and (\d+) %; the densely additive rule keeps it at "
        r"(\d+) and (\d+) % \((\d+) at depth 110 in the rule's other reading; (\d+) in a second set "
        r"of runs\)",
        flat,
    )
    assert found is not None
    *first, second = (int(number) for number in found.groups())
    older, again = (older_accuracies(file) for file in ("accuracy.json", "training.json"))
    wanted = [mean(older["origin_net", depth].values()) for depth in (20, 56, 110)]
    wanted += [mean(older["danet_c_net", depth].values()) for depth in (56, 110)]
    wanted.append(mean(older["listing1_net", 110].values()))
    assert first == [round(value) for value in wanted]
    assert second == round(mean(again["danet_c_net", 110].values()))
    ours = table("|  | depth 20 | depth 56 | depth 110 |")
    assert {*OLDER} < {*ours}
    rows = table("| | depth 20 | depth 56 | depth 110 |", text)
    for name, row in (
        ("Origin (`via origin`)", "Origin"),
        ("DANet-C (`via origin by densely_additive`)", "DANet-C (Eq. 11)"),
        ("SEW (`via sew`)", "SEW"),
    ):
        assert rows[name] == [cell.removesuffix(" (3)") for cell in ours[row]]


def test_the_readme_says_the_same_of_resnet_34() -> None:
    flat = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.search(
        r"DANet-C has (\d+) % and Origin (\d+) %, or (\d+) and (\d+) % if the last norm of each "
        r"block starts at 0 \((\w+) seeds?\)",
        flat,
    )
    assert said is not None
    found = findings.same_seeds(
        *(
            pick(CELLS, connection="origin", rule=rule, depth=34, zero_init=zero)
            for zero in (False, True)
            for rule in (EQ_11, CHAIN)
        )
    )
    assert found is not None
    *numbers, seeds = said.groups()
    assert list(map(int, numbers)) == [round(findings.accuracy(cells)) for cells in found]
    assert {"one": 1, "two": 2, "three": 3}[seeds] == len(found[0])
    claim = re.search(
        r"classifies (\d+) % of the test images correctly .*? (\d+) % with .*? \(mean of three seeds\).*? "
        r"it is (\d+) and (\d+) %",
        flat,
    )
    assert claim is not None
    plain = [
        pick(CELLS, connection="origin", rule=rule, depth=34, zero_init=False)
        for rule in (EQ_11, CHAIN)
    ]
    assert [len(cells) for cells in plain] == [3, 3]
    wanted = [round(findings.accuracy(cells)) for cells in (*plain, *found[2:])]
    assert [int(number) for number in claim.groups()] == wanted


# -- how it is computed ----------------------------------------------------------------------------


def test_shown() -> None:
    assert shown([]) == "–"
    assert shown([81.25]) == "81.2 (1)"
    assert shown([80.0, 82.0], 2) == f"81.00 ± {stdev([80, 82]):.2f} (2)"


def test_rank_correlation_is_spearmans() -> None:
    assert rank_correlation([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [5, 4, 0]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(
        0.8207827
    )  # Wikipedia's ties
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    assert rank_correlation([1, 2], [1, 2]) is None


@pytest.mark.parametrize("dense", [True, False])
def test_the_hand_model_is_what_drawn_neurons_do(dense: bool) -> None:
    dice, samples, blocks = random.Random(0), 20_000, 6
    slopes = [0.0] * blocks
    for _ in range(samples):
        spikes: list[int] = []
        for block in range(blocks):
            brought = dice.gauss() if block == 0 else sum(spikes) if dense else spikes[-1]
            v = dice.gauss() + brought
            slopes[block] += 1 / math.cosh(2 * (v - 1)) ** 2 / samples  # 4 s (1 - s) with alpha = 4
            spikes.append(int(v >= 1))
    assert hand_model(blocks, dense=dense) == pytest.approx(slopes, abs=0.012)


# -- a small sample --------------------------------------------------------------------------------


def cell(
    accuracy: float, seed: int = 0, dodv: float = 0.2, recipe: str = "one_step", **axes: Any
) -> Cell:
    axes = {"connection": "origin", "rule": CHAIN, "zero_init": False, **axes}
    network = "blocks" if "n" in axes else "densenet" if "k" in axes else "resnet"
    if network == "densenet":
        del axes["connection"], axes["rule"], axes["zero_init"]
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    epochs = [
        {"phase": "train", "epoch": e, **dict.fromkeys(names, accuracy / 100)} for e in (1, 2, 3)
    ]
    blocks = axes.get("n", 2)
    return Cell(
        "sample",
        {
            "network": network,
            "axes": axes,
            "recipe": recipe,
            "seed": seed,
            "depth": axes.get("depth", 6 * blocks + 2),
            "connection": axes.get("connection", "dense_layer"),
            "rule": axes.get("rule", "densely_concatenated"),
            "T": 4 if recipe == "two_phase" else 1,
            "made": {"cpu_seconds": 60.0},
            "firing_rate": 0.2,
            "dodv_a_layer": dodv,
            "log10_product": math.log10(dodv) * blocks,
            "epochs": epochs,
            "layers": [
                {
                    "layer": f"stages.{s}.blocks.{b}.spike",
                    "main": True,
                    "interblock": True,
                    "rate": 0.2,
                    "dodv": dodv,
                    "v": [0.0, 1.0],
                }
                for s in range(3)
                for b in range(blocks)
            ],
        },
    )


def three(accuracy: float, **axes: Any) -> Iterator[Cell]:
    for seed in range(3):
        yield cell(accuracy + seed - 1, seed, **axes)


def test_pick_takes_what_is_asked_for() -> None:
    cells = [
        *three(80, depth=34),
        *three(85, depth=34, zero_init=True),
        cell(90, depth=18),
        cell(7, depth=34, classes=5),
    ]
    assert [c.accuracy for c in pick(cells, connection="origin", depth=34)] == [79, 80, 81]
    assert (
        mean(c.accuracy for c in pick(cells, connection="origin", depth=34, zero_init=True)) == 85
    )
    assert [c.accuracy for c in pick(cells, connection="origin", rule=EQ_11, depth=18)] == [90]
    assert not pick(cells, connection="origin", rule=EQ_11, depth=34)
    assert not pick(cells, connection="origin", rule=ALL, depth=18)


def hand_cells(factor: float) -> list[Cell]:
    slope = {
        (n, dense): mean(hand_model(n, dense=dense)) for n in (3, 9) for dense in (True, False)
    }
    return [
        cell(
            80,
            n=n,
            rule=EQ_11 if dense else CHAIN,
            dodv=value * (factor if dense and n == 9 else 1),
        )
        for (n, dense), value in slope.items()
    ]


def at_four(*over: float) -> list[Cell]:
    return [
        c
        for n, factor in zip((3, 6, 9), over, strict=True)
        for c in (
            cell(80, n=n, recipe="two_phase", dodv=0.5),
            cell(80, n=n, recipe="two_phase", dodv=0.5 * factor, rule=EQ_11),
        )
    ]


def zero_cells(with_zero: float) -> list[Cell]:
    return [
        *three(80, n=3, rule=EQ_11),
        *three(60, n=9, rule=EQ_11),
        *three(80, n=3, rule=EQ_11, zero_init=True),
        *three(with_zero, n=9, rule=EQ_11, zero_init=True),
    ]


def pairs(*accuracies: float) -> list[Cell]:
    return [
        cell(value, depth=depth, connection=connection, rule=rule)
        for value, (depth, connection, rule) in zip(
            accuracies,
            [(34, "tdbn", CHAIN), (50, "tdbn", CHAIN), (34, "baa", EQ_11), (50, "baa", EQ_11)],
            strict=True,
        )
    ]


def dense_cells(first: float, last: float, concate: float) -> list[Cell]:
    return [
        cell(first, depth=18, classes=5, rule=EQ_11),
        cell(last, depth=50, classes=5, rule=EQ_11),
        cell(concate, depth=161, k=6, classes=5),
    ]


def digits_cells(first: float, last: float, concate: float) -> list[Cell]:
    return [
        *three(first, depth=18, rule=EQ_11, recipe=DIGITS),
        *three(last, depth=50, rule=EQ_11, recipe=DIGITS),
        *three(concate, depth=161, k=6, recipe=DIGITS),
    ]


def ranked(sign: int) -> list[Cell]:
    return [cell(40 + i, seed=i, depth=34, dodv=0.5 + sign * i / 100) for i in range(20)]


NINE: Callable[..., list[Cell]] = lambda *values: [  # noqa: E731
    cell(value, n=9, rule=rule) for value, rule in zip(values, (EQ_11, ALL, AFTER), strict=True)
]
SAMPLES: dict[str, list[tuple[list[Cell], str]]] = {
    "a": [
        ([cell(70, n=2), cell(70, n=2, rule=EQ_11)], BORNE_OUT),
        ([cell(70, n=2), cell(70.01, n=2, rule=EQ_11)], REFUTED),
    ],
    "b": [(hand_cells(1), BORNE_OUT), (hand_cells(0.4), REFUTED), (hand_cells(0.6), UNDECIDED)],
    "c": [(at_four(1.1, 1.1, 0.9), BORNE_OUT), (at_four(0.9, 1.1, 1.1), REFUTED), (at_four(1.1, 0.9, 0.9), UNDECIDED)],
    "d": [(zero_cells(71), BORNE_OUT), (zero_cells(69), REFUTED)],
    "e": [
        ([*three(70, depth=34), *three(72.5, depth=34, rule=EQ_11)], BORNE_OUT),
        ([*three(70, depth=34), *three(69, depth=34, rule=EQ_11)], REFUTED),
        ([*three(70, depth=34), *three(71, depth=34, rule=EQ_11)], UNDECIDED),
    ],
    "f": [
        ([*three(70, depth=34, rule=EQ_11), *three(70, depth=50, rule=EQ_11)], BORNE_OUT),
        ([*three(70, depth=34, rule=EQ_11), *three(72, depth=50, rule=EQ_11)], REFUTED),
        ([*three(70, depth=34, rule=EQ_11), *three(71, depth=50, rule=EQ_11)], UNDECIDED),
    ],
    "g": [
        ([cell(20, n=9, zero_init=True)], BORNE_OUT),
        ([cell(60, n=9, zero_init=True)], REFUTED),
        ([cell(40, n=9, zero_init=True)], UNDECIDED),
    ],
    "h": [(NINE(70, 75, 76), BORNE_OUT), (NINE(70, 69, 80), REFUTED), (NINE(70, 73, 80), UNDECIDED)],
    "i": [(pairs(70, 70, 72, 72), BORNE_OUT), (pairs(70, 70, 72, 69), REFUTED), (pairs(70, 70, 72, 70.5), UNDECIDED)],
    "j": [(dense_cells(90, 88, 91), BORNE_OUT), (dense_cells(88, 90, 91), REFUTED), (dense_cells(90, 89.8, 91), UNDECIDED)],
    "k": [(ranked(1), REFUTED), (ranked(-1), UNDECIDED)],
    "q": [(digits_cells(90, 88, 91), BORNE_OUT), (digits_cells(90, 88, 87), REFUTED), (digits_cells(90, 89.8, 91), UNDECIDED)],
}  # fmt: skip


@pytest.mark.parametrize("letter", PREDICTIONS)
def test_a_prediction_is_held_against_numbers(letter: str) -> None:
    _, compute = PREDICTIONS[letter]
    assert compute([]).verdict == WAITS
    assert [compute(cells).verdict for cells, _ in SAMPLES[letter]] == [
        verdict for _, verdict in SAMPLES[letter]
    ]


def test_predictions_are_those_that_were_written() -> None:
    text = "".join(
        (RESULTS / each / "predictions.md").read_text(encoding="utf-8") for each in OF_PAPER
    )
    assert re.findall(r"^\| (\w) \|", text, re.MULTILINE) == list(PREDICTIONS) == list(SAMPLES)
    assert (
        predictions.stability_and_accuracy([*ranked(1)[:10], *ranked(-1)[:10]]).verdict == BORNE_OUT
    )


def tried(accuracies: tuple[float, float], rule: str, connection: str = "origin") -> list[Cell]:
    """A kind of results/beyond in both its networks."""
    return [
        Cell(
            "sample",
            {
                **cell(accuracy, rule=rule, connection=connection).record,
                "network": network,
            },
        )
        for accuracy, network in zip(accuracies, beyond.SHAPES, strict=True)
    ]


PAPER = [
    cell(value, rule=rule, **place)
    for rule, values in ((EQ_11, (79, 70)), (ALL, (84, 80)))
    for value, place in zip(values, ({"depth": 34}, {"n": 9}), strict=True)
]
"""Eq. 11 and Listing 1 in the networks of results/beyond."""
BEYOND_SAMPLES: dict[str, list[tuple[list[Cell], str]]] = {
    "l": [
        (tried((83, 81), "chain_all"), BORNE_OUT),
        (tried((83, 75.5), "chain_all"), REFUTED),
        (tried((83, 77), "chain_all"), UNDECIDED),
        (tried((83, 84), "chain_all"), UNDECIDED),
    ],
    "m": [
        (tried((83.5, 90), "dense_shortcut"), BORNE_OUT),
        (tried((80, 90), "dense_shortcut"), REFUTED),
        (tried((82, 90), "dense_shortcut"), UNDECIDED),
    ],
    "n": [
        (tried((78, 60), "any_before"), BORNE_OUT),
        (tried((80, 71), "any_before"), REFUTED),
        (tried((80, 60), "any_before"), UNDECIDED),
    ],
    "o": [
        ([*tried((80, 78), "averaged"), *tried((70, 70), "window")], BORNE_OUT),
        ([*tried((80, 70), "averaged"), *tried((70, 60), "window")], REFUTED),
        ([*tried((80, 78), "averaged"), *tried((70, 60), "window")], UNDECIDED),
    ],
    "p": [
        (tried((50, 72), EQ_11, "rising"), BORNE_OUT),
        (tried((50, 69), EQ_11, "rising"), REFUTED),
        (tried((50, 71), EQ_11, "rising"), UNDECIDED),
    ],
}


@pytest.mark.parametrize("letter", beyond.PREDICTIONS)
def test_a_prediction_beyond_the_paper_is_held_against_numbers(letter: str) -> None:
    _, compute = beyond.PREDICTIONS[letter]
    assert compute(PAPER, []).verdict == compute([], BEYOND_SAMPLES[letter][0][0]).verdict == WAITS
    for cells, verdict in BEYOND_SAMPLES[letter]:
        assert compute(PAPER, cells).verdict == verdict


def test_predictions_beyond_the_paper_are_those_that_were_written() -> None:
    text = (RESULTS / "beyond" / "predictions.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\w) \|", text, re.MULTILINE) == list(beyond.PREDICTIONS)
    made = beyond.candidates(PAPER, tried((83, 81), "chain_all"))
    assert "| Listing 1 | 84.0 (1) | 80.0 (1) | 82.0 | " in made
    assert "| `chain_all` | 83.0 (1) | 81.0 (1) | 82.0 | " in made


@pytest.mark.thorough
def test_a_sample_makes_every_table_and_figure(tmp_path: Path) -> None:
    cells = [
        *three(70, depth=34),
        *three(72.5, depth=34, rule=EQ_11),
        *hand_cells(1),
        *at_four(1.1, 1.1, 0.9),
        *dense_cells(90, 88, 91),
    ]
    made = page(
        "".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in TABLES), TABLES, cells
    )
    assert "| Origin | – | 70.0 ± 1.0 (3) | – |" in made
    assert made != page(made, TABLES, [])
    first = drawing.draw(cells, tmp_path / "first")
    again = drawing.draw(cells, tmp_path / "again")
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in again]
    assert (tmp_path / "first" / "blocks.svg").read_bytes().count(b"hand model") == 2


def test_what_is_written_of_a_run_is_json(tmp_path: Path) -> None:
    record = {"seed": 1, "layers": [{"rate": 0.5}, {"rate": 0.25}], "made": {"commit": "c"}}
    run.write(record, tmp_path / "cell.json")
    text = (tmp_path / "cell.json").read_text(encoding="utf-8")
    assert json.loads(text) == record
    assert text.count("\n") == 8
    assert [path.name for path in tmp_path.iterdir()] == ["cell.json"]


TWO = f"""
spec = "{RESULTS / "paper" / "paper.danet"}"

[[group]]
name = "two"
item = 1
network = "blocks"
axes = {{ n = [2, 3] }}
seeds = [0, 1]
minutes = 1
"""


def test_what_is_done_or_held_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four runs one is done, one is held by another process, one fails, and one is trained."""
    (tmp_path / "table.toml").write_text(TWO, encoding="utf-8")
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "blocks,n=2,seed=0.json").write_text("{}", encoding="utf-8")
    trained = []

    def train(wanted: run.Run, folder: Path) -> float:
        trained.append(wanted.name)
        if wanted.seed == 1:
            raise RuntimeError("no memory")
        return 1.0

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "measure", lambda wanted, folder: {})
    monkeypatch.setattr(run, "kept", lambda wanted, folder, measured, seconds: {"cpu": seconds})
    options = {"data": "digits", "runs": "runs", "cells": "cells", "table": "table.toml"}
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.chdir", lambda place: None)
    monkeypatch.setattr("sys.argv", ["run.py", *given])
    with run.held(tmp_path / "runs" / "locks" / "blocks,n=2,seed=1") as own:
        assert own
        assert run.main() == 1
    assert trained == ["blocks,n=3,seed=0", "blocks,n=3,seed=1"]
    found = {path.stem for path in (tmp_path / "cells").iterdir()}
    assert found == {"blocks,n=2,seed=0", "blocks,n=3,seed=0"}
    assert "no memory" in capsys.readouterr().err


def test_a_training_that_diverges_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept with its epochs, and not trained again; what fails otherwise is no result."""
    (tmp_path / "table.toml").write_text(TWO, encoding="utf-8")
    folder, file = tmp_path / "seed-0", tmp_path / "table" / "cells" / "cell.json"
    folder.mkdir()
    file.parent.mkdir(parents=True)
    figures = dict.fromkeys(run.EPOCH, 1)
    about = ("danetc", "git", "torch", "python", "device", "threads", "began")
    facts = dict.fromkeys(about, "") | {"git": {"commit": "c", "changed": []}}
    (folder / "training.json").write_text(json.dumps({"epochs": [figures | {"more": 0}]}))
    (folder / "run.json").write_text(json.dumps({"facts": facts}))
    (tmp_path / "seed-0.seconds").write_text("2.0")
    wanted = next(run.all_runs(run.read_groups(tmp_path / "table.toml"), "digits"))
    said = "`w` is no longer finite after epoch 2; lower optimizer.lr"

    def train(wanted: run.Run, folder: Path) -> float:
        raise UserError(said)

    monkeypatch.setattr(run, "train", train)
    assert run.one(wanted, folder, file, 0) == (0, 0)
    monkeypatch.setattr("results.data.HERE", tmp_path)
    (found,) = read_diverged("table")
    assert (found.record["diverged"], found.record["epochs"]) == (said, [figures])
    assert found.record["made"]["cpu_seconds"] == 2.0
    assert read_cells("table") == []
    file.unlink()
    said = "there is no data"
    assert run.one(wanted, folder, file, 0) == (0, 1)
    assert not file.exists()
