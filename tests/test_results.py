"""results/: the page and README.md say what the files beside them say, and how it is computed."""

from __future__ import annotations

import csv
import json
import math
import random
import re
from pathlib import Path
from statistics import mean, stdev

import pytest
from scipy import stats

from danetc.errors import UserError
from results import beyond, drawing, findings, run
from results.data import (
    CHAIN,
    CONTRADICTED,
    EQ_11,
    OF_PAPER,
    OPEN,
    SUPPORTED,
    Cell,
    hand_model,
    interval,
    older_accuracies,
    paired,
    pick,
    rank_correlation,
    read_cells,
    read_diverged,
    shown,
    verdict,
)
from results.make import PAGES, page
from results.older import OLDER
from results.predictions import PREDICTIONS, WAITS
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


def said(pattern: str) -> tuple[str, ...]:
    """The groups of a pattern in README.md, whose lines may break anywhere."""
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    found = re.search(pattern, text)
    return found.groups()


def test_the_readme_says_the_same() -> None:
    """README.md's numbers are those of the older runs' table."""
    numbers = said(
        r"Origin falls from (\d+) to (\d+) and (\d+) %; the densely additive rule keeps it at "
        r"(\d+) and (\d+) % \((\d+) at depth 110 in the rule's other reading; (\d+) in a second set "
        r"of runs\)"
    )
    older, again = (older_accuracies(file) for file in ("accuracy.json", "training.json"))
    wanted = [older["origin_net", depth] for depth in (20, 56, 110)]
    wanted += [older["danet_c_net", depth] for depth in (56, 110)]
    wanted += [older["listing1_net", 110], again["danet_c_net", 110]]
    assert [int(number) for number in numbers] == [round(mean(each.values())) for each in wanted]
    ours = table("|  | depth 20 | depth 56 | depth 110 |")
    assert {*OLDER} < {*ours}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = table("| | depth 20 | depth 56 | depth 110 |", readme)
    for name, row in (
        ("Origin (`via origin`)", "Origin"),
        ("DANet-C (`via origin by densely_additive`)", "DANet-C (Eq. 11)"),
        ("SEW (`via sew`)", "SEW"),
    ):
        assert rows[name] == [cell.removesuffix(" (3)") for cell in ours[row]]


def test_the_readme_says_the_same_of_resnet_34() -> None:
    *numbers, seeds = said(
        r"DANet-C has (\d+) % and Origin (\d+) %, or (\d+) and (\d+) % if the last norm of each "
        r"block starts at 0 \((\w+) seeds?\)"
    )
    plain, zero = (
        [
            pick(CELLS, connection="origin", rule=rule, depth=34, zero_init=zero)
            for rule in (EQ_11, CHAIN)
        ]
        for zero in (False, True)
    )
    found = findings.same_seeds(*plain, *zero)
    assert list(map(int, numbers)) == [round(findings.accuracy(cells)) for cells in found]
    assert {"one": 1, "two": 2, "three": 3}[seeds] == len(found[0])
    claim = said(
        r"classifies (\d+) % of the test images correctly .*? (\d+) % with .*? \(mean of three seeds\).*? "
        r"it is (\d+) and (\d+) %"
    )
    assert [len(cells) for cells in plain] == [3, 3]
    wanted = [round(findings.accuracy(cells)) for cells in (*plain, *found[2:])]
    assert [int(number) for number in claim] == wanted


# -- how it is computed ----------------------------------------------------------------------------


def test_shown() -> None:
    assert shown([]) == "–"
    assert shown([81.25]) == "81.2 (1)"
    assert shown([80.0, 82.0], 2) == f"81.00 ± {stdev([80, 82]):.2f} (2)"


def test_intervals_are_those_of_a_paired_t_test() -> None:
    dice = random.Random(0)
    for count in range(2, 11):
        first, second = ([dice.gauss(80, 3) for _ in range(count)] for _ in range(2))
        found = interval([a - b for a, b in zip(first, second, strict=True)])
        wanted = stats.ttest_rel(first, second).confidence_interval()
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-4)
        assert (found.pairs, found.mean) == (count, pytest.approx(mean(first) - mean(second)))


def test_verdicts() -> None:
    higher, lower, either, single = map(interval, ([1, 2, 1], [-1, -2, -1], [1, -1, 5], [7]))
    assert higher.text() == "+1.3 [-0.1, +2.8] (3)"
    assert single.text(2) == "+7.00 (1)"
    clear, against = interval([2, 2.1, 1.9]), interval([-2, -2.1])
    assert [each.verdict for each in (higher, lower, either, single)] == [OPEN] * 4
    assert verdict([clear]) == verdict([clear, clear]) == SUPPORTED
    assert verdict([clear, single]) == verdict([]) == OPEN
    assert verdict([clear, single, against]) == CONTRADICTED


def test_pairs_are_those_of_shared_seeds() -> None:
    def cells(**values: float) -> list[Cell]:
        return [
            Cell(name, {"seed": name[1:], "epochs": [{"test_accuracy": value}], "firing_rate": 1})
            for name, value in values.items()
        ]

    first, second = cells(s0=0.8, s2=0.9, s3=0.5), cells(s2=0.7, s1=0.1, s0=0.7)
    assert paired(first, second).text() == "+15.0 [-48.5, +78.5] (2)"
    assert paired(first, second, lambda cell: cell.firing_rate).mean == 0
    assert paired(first, cells(s1=0.5)) is None


def test_rank_correlation_is_spearmans() -> None:
    for one, other, wanted in (
        ([1, 2, 3], [5, 4, 0], pytest.approx(-1)),
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 7], pytest.approx(0.8207827)),  # Wikipedia's ties
        ([1, 1, 1], [1, 2, 3], None),
        ([1, 2], [1, 2], None),
    ):
        assert rank_correlation(one, other) == wanted


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


# -- predictions and figures -----------------------------------------------------------------------


def test_predictions_are_those_that_were_written() -> None:
    for folders, known in ((OF_PAPER, PREDICTIONS), (["beyond"], beyond.PREDICTIONS)):
        text = "".join(
            (RESULTS / each / "predictions.md").read_text(encoding="utf-8") for each in folders
        )
        assert re.findall(r"^\| (\w) \|", text, re.MULTILINE) == list(known)
    assert all(compute([]).verdict == WAITS for _, compute in PREDICTIONS.values())
    assert all(compute([], []).verdict == WAITS for _, compute in beyond.PREDICTIONS.values())


@pytest.mark.thorough
def test_figures_are_the_same_each_time(tmp_path: Path) -> None:
    first = drawing.draw(CELLS, tmp_path / "first")
    again = drawing.draw(CELLS, tmp_path / "again")
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in again]


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
    cells = tmp_path / "cells"
    cells.mkdir()
    (cells / "blocks,n=2,seed=0.json").write_text("{}", encoding="utf-8")
    trained = []

    def train(wanted: run.Run, folder: Path) -> float:
        trained.append(wanted.name)
        if wanted.seed == 1:
            raise RuntimeError("no memory")
        return 1.0

    record = {"seed": 0, "layers": [{"rate": 0.5}, {"rate": 0.25}]}
    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "measure", lambda wanted, folder: {})
    monkeypatch.setattr(run, "kept", lambda wanted, folder, measured, seconds: record)
    line = "run.py --data digits --runs runs --cells cells --table table.toml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.chdir", lambda place: None)
    monkeypatch.setattr("sys.argv", line.split())
    with run.held(tmp_path / "runs" / "locks" / "blocks,n=2,seed=1") as own:
        assert own
        assert run.main() == 1
    assert trained == ["blocks,n=3,seed=0", "blocks,n=3,seed=1"]
    assert {path.stem for path in cells.iterdir()} == {"blocks,n=2,seed=0", "blocks,n=3,seed=0"}
    assert json.loads((cells / "blocks,n=3,seed=0.json").read_text(encoding="utf-8")) == record
    assert "no memory" in capsys.readouterr().err


def test_a_diverged_training_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    told = "`w` is no longer finite after epoch 2; lower optimizer.lr"

    def train(wanted: run.Run, folder: Path) -> float:
        raise UserError(told)

    monkeypatch.setattr(run, "train", train)
    assert run.one(wanted, folder, file, 0) == (0, 0)
    monkeypatch.setattr("results.data.HERE", tmp_path)
    (found,) = read_diverged("table")
    assert (found.record["diverged"], found.record["epochs"]) == (told, [figures])
    assert found.record["made"]["cpu_seconds"] == 2.0
    assert read_cells("table") == []
    file.unlink()
    told = "there is no data"
    assert run.one(wanted, folder, file, 0) == (0, 1)
    assert not file.exists()
