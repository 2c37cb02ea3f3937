"""results/: the page and README.md say what the files beside them say, and how it is computed."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from statistics import mean

import pytest
from scipy import stats

from danetc.errors import UserError
from danetc.main import main
from danetc.requests import MeasuredOn
from danetc.tasks.measuring.data import open_subject
from danetc.tasks.measuring.measure import measure_subject
from danetc.tasks.networks import compile_spec
from results import beyond, drawing, networks, run
from results.data import (
    CONTRADICTED,
    OF_PAPER,
    OPEN,
    SUPPORTED,
    Cell,
    Older,
    hand_model,
    paired,
    rank_correlation,
    read,
    read_cells,
    read_diverged,
)
from results.findings import Difference, judge
from results.make import PAGES, page
from results.predictions import PREDICTIONS, WAITS
from results.tables import planned
from results.untrained import PROVED

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
CELLS = read_cells()


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
    tables = {name: lambda cells, name=name: f"made {name}" for name in ("one", "two")}
    first, second = (f"<!-- table: {name} -->\nold\n<!-- end -->\n" for name in tables)
    whole = f"text {first}{second}"
    assert page(whole, tables, []) == whole.replace("old", "made one", 1).replace("old", "made two")
    for wrong in (second, whole + first, whole.replace("one", "three")):
        with pytest.raises(ValueError, match=r"of the page|in the page"):
            page(wrong, tables, [])


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


def accuracies(**axes: object) -> dict[int, float]:
    """Accuracies by seed, read from the JSON files without the code of results/."""
    wanted = {"zero_init": False, "classes": 10, "recipe": "one_step", **axes}
    found = {}
    for path in (RESULTS / "paper" / "cells").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        has = {"classes": 10, **record["axes"], "recipe": record["recipe"]}
        if wanted.items() <= has.items():
            found[record["seed"]] = 100 * record["epochs"][-1]["test_accuracy"]
    return found


DENSE = "densely_additive"


@pytest.mark.parametrize(
    ("name", "higher", "lower", "verdict"),
    [
        ("DANet-C − Origin, ResNet-34", ("origin", DENSE), ("origin", "chain"), "supported"),
        (
            "DANet-C − Origin, ResNet-34, zero-initialised",
            ("origin", DENSE),
            ("origin", "chain"),
            "open",
        ),
        ("DANet-C − DANet-D, ResNet-34", ("origin", DENSE), ("baa", DENSE), "contradicted"),
        ("DANet-C − DANet-D, ResNet-50", ("origin", DENSE), ("baa", DENSE), "contradicted"),
        ("DANet-D − tdBN, ResNet-34", ("baa", DENSE), ("tdbn", "chain"), "open"),
        ("BAA − Origin, ResNet-34", ("baa", "chain"), ("origin", "chain"), "open"),
    ],
)
def test_claims_are_judged_by_paired_intervals(
    name: str, higher: tuple[str, str], lower: tuple[str, str], verdict: str
) -> None:
    depth, zero = int(re.search(r"ResNet-(\d+)", name)[1]), "zero" in name
    first, second = (
        accuracies(depth=depth, connection=connection, rule=rule, zero_init=zero)
        for connection, rule in (higher, lower)
    )
    row = next(row for row in PAGE.splitlines() if f"{name} " in row and f"**{verdict}**" in row)
    shown = re.search(rf"{name} (\S+)(?: \[(\S+), (\S+)\])? \((\d)\)", row).groups()
    seeds = sorted(first.keys() & second.keys())
    differences = [first[seed] - second[seed] for seed in seeds]
    wanted = [mean(differences)]
    if len(seeds) > 1:
        wanted += stats.ttest_1samp(differences, 0).confidence_interval()
    assert [float(each) for each in shown[:3] if each] == pytest.approx(wanted, abs=0.051)
    assert int(shown[3]) == len(seeds)


def test_a_claim_is_judged_on_all_of_its_differences() -> None:
    def runs(*accuracies: float) -> list[Older]:
        return [Older("net", 20, seed, value) for seed, value in enumerate(accuracies)]

    low, high = runs(50, 51, 52), runs(60, 61.5, 62)
    clear, single = Difference("A − B", high, low), Difference("C − D", high, runs(50))
    against, same = Difference("B − A", low, high), Difference("A − A", low, low)
    none = Difference("E − F", high, [])
    for differences, wanted, intervals in (
        ([clear, clear], SUPPORTED, 2),
        ([clear, single], OPEN, 1),
        ([clear, same], OPEN, 2),
        ([clear, single, against], CONTRADICTED, 2),
        ([clear, none], "not yet run", 0),
    ):
        found = judge(differences)
        assert (found.verdict, found.intervals) == (wanted, intervals)
    assert judge([clear], [single]).text == "A − B +10.2 [+9.4, +10.9] (3); C − D +10.0 (1)"
    assert [judge([each], same=True).verdict for each in (clear, against, same, single)] == [
        CONTRADICTED, CONTRADICTED, OPEN, OPEN,
    ]  # fmt: skip


def test_rates_of_trained_pa_a() -> None:
    """Proposition 3 of the trained networks, from the names of layers alone."""
    steps = []
    for path in (RESULTS / "paper" / "cells").glob("resnet_pa_a*.json"):
        rates = {each["layer"]: each["rate"] for each in json.loads(path.read_text())["layers"]}
        for name, rate in rates.items():
            block = re.fullmatch(r"stages\.(\d)\.blocks\.(\d)\.branch\.spike1", name)
            after = block and f"stages.{block[1]}.blocks.{int(block[2]) + 1}.branch.spike1"
            if block and block[2] != "0" and after in rates:
                steps.append(rates[after] > rate)
    assert f"rates rise in {sum(steps)} of {len(steps)} steps" in PAGE
    assert (sum(steps), len(steps)) == (39, 40)


def test_others_are_better_with_fewer_additions() -> None:
    """What README.md says of networks in ResNet-34's shape."""
    rows = table("| T = 1 | neurons | accuracy")
    dense = rows["`origin` by `densely_additive`"]
    for name in ("`pa_b` by `chain`", "`origin` by `chain_all`"):
        assert float(rows[name][1].split()[0]) > float(dense[1].split()[0])
        for column in (-2, -1):
            assert float(rows[name][column].split()[0]) < float(dense[column].split()[0])


# -- networks.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["chain", "densely_additive_all"])
def test_additions_are_those_that_measure_counts(rule: str) -> None:
    """`danetc measure` has the mean input of each layer, a sum of spikes in the second case."""
    stages = f"even(n = 3, width = width) via origin by {rule}"
    settings = {"width": 4, "input": "image(1, 8, 8)", "stages": stages}
    subject = open_subject(str(RESULTS / "paper" / "paper.danet"), "blocks", settings, 0, None)
    asked = MeasuredOn(data="digits", batches=1, batch=16, only=("firing-rate", "operations"))
    _, found = measure_subject(rule, subject, asked, "batch", silent=True)
    rates = {each["layer"]: each["rate"] for each in found["firing_rate"]["layers"]}
    layers = [each for each in found["operations"]["layers"] if each["kind"] != "analog"]
    wanted = sum(each["dense"] * each["mean"] for each in layers)
    assert networks.additions_at(subject.compiled.graph, rates) == pytest.approx(wanted)
    if rule == "chain":
        assert wanted == pytest.approx(found["operations"]["additions"])


@pytest.mark.thorough
def test_networks_are_those_of_their_specs() -> None:
    text = networks.FILE.read_text(encoding="utf-8")
    assert networks.written(networks.compute()) == text, "run `python -m results.networks`"


@pytest.mark.thorough
@pytest.mark.parametrize("name", PROVED.values())
def test_verdicts_are_those_of_prove(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    listing = "resnet34(width = width) via origin by densely_additive_all"
    stages = ["--set", f"stages={listing}"] if name == "listing_1_r34" else []
    spec = "origin_r34" if stages else name
    assert main(["prove", spec, "--set", "width=8", "--set", "image=64", *stages, "--json"]) == 0
    found, kept = (
        json.loads(capsys.readouterr().out),
        read(RESULTS / "paper" / "prove" / f"{name}.json"),
    )
    assert found.keys() == kept.keys()
    for now, then in zip(found["findings"], kept["findings"], strict=True):
        numbers = {
            key: value for key, value in then.items() if isinstance(value, float) and key != "error"
        }
        assert now["verdict"] == then["verdict"]
        assert {key: now[key] for key in numbers} == pytest.approx(numbers)


@pytest.mark.thorough
def test_costs_of_trainings_at_the_papers_scale() -> None:
    """docs/paper.md, from the summaries of the specs."""
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    rows = table("| | parameters | operations per image, T = 1", page)
    assert len(rows) == 8
    for name, row in rows.items():
        kind, depth = re.fullmatch(r"DANet-(\w), ResNet-(\d+)", name).groups()
        spec = f"danet_{kind.lower()}_r{depth}"
        facts = [compile_spec(spec, settings={"steps": steps}).summary for steps in (1, 4)]
        one, four = (each.macs + each.additions for each in facts)
        assert row == [
            f"{facts[0].parameters:,}",
            f"{one / 1e9:.2f}e9",
            f"{four / 1e9:.2f}e9",
            f"{(120 * one + 45 * four) * 1_281_167 / 1e18:.2f}e18",
        ]


# -- how it is computed ----------------------------------------------------------------------------


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


TWO = f"""
spec = "{RESULTS / "paper" / "paper.danet"}"

[[group]]
name = "two"
item = 1
network = "blocks"
axes = {{ n = [2, 3] }}
seeds = [0, 1]
data = "digits"
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
    line = "run.py --runs runs --cells cells --table table.toml"
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


CHOSEN = (
    TWO
    + """
[[group]]
name = "best"
item = 1
best = { of = ["two"], keep = 1 }
recipe = "two_phase"
seeds = [5]
minutes = 1

[[group]]
name = "best of each"
item = 1
best = { of = ["two"], keep = 1, by = ["n"] }
seeds = [1, 6]
minutes = 2
"""
)


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5, 0.7, 0.6, 0.7], 3), ([0.5, 0.7, 0.6, 0.6], 2), ([0.5, 0.7, 0.9, None], 2)],
)
def test_the_best_of_a_group_are_known_once_it_is_done(
    scores: list[float | None], best: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best mean over the seeds; the first of equals; 0 for a run that diverged."""
    table, cells = tmp_path / "table.toml", tmp_path / "cells"
    table.write_text(CHOSEN, encoding="utf-8")
    cells.mkdir()
    names = []
    left = iter(scores)
    groups = run.read_groups(table)
    for each in run.all_runs(groups, cells):
        names.append(each.name)
        if each.group.name != "two":
            continue
        run.show(groups, cells)
        score = next(left)
        record = {"diverged": ""} if score is None else {"epochs": [{"val_accuracy": score}]}
        (cells / f"{each.name}.json").write_text(json.dumps(record), encoding="utf-8")
    assert names[:4] == [f"blocks,n={n},seed={seed}" for n in (2, 3) for seed in (0, 1)]
    assert names[4:] == [
        f"blocks,n={best},two_phase,seed=5", "blocks,n=2,seed=6", "blocks,n=3,seed=6"
    ]  # fmt: skip
    run.show(groups, cells)
    told = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in told[:3]] == [
        "0 of 4 done",
        "0 of 1 done",
        "0 of 4 done",
    ]
    assert [line.split("  ")[1] for line in told[-4:-1]] == ["done", "0 of 1 done", "0 of 2 done"]


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
    wanted = next(run.all_runs(run.read_groups(tmp_path / "table.toml"), file.parent))
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
