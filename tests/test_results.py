"""The figures in the tables of results/README.md and README.md are those of the files beside them."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
DEPTHS = (20, 56, 110)

NETWORKS = {
    "Origin": "origin_net",
    "DANet-C (Eq. 11)": "danet_c_net",
    "DANet-C, Listing 1": "listing1_net",
    "SEW": "sew_net",
    "PA-A (DANet-A)": "pa_a_net",
    "PA-B (DANet-B)": "pa_b_net",
}
"""What the page calls the networks of results/depth/depth.danet."""


def table(head: str) -> dict[str, list[str]]:
    """The table of the page whose first row starts like this: cells by the first cell of a row."""
    _, _, after = PAGE.partition(f"\n{head}")
    assert after, head
    lines = after.splitlines()[2:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    return rows


def cells(file: str) -> dict[tuple[str, int], Any]:
    record = json.loads((RESULTS / "depth" / file).read_text(encoding="utf-8"))
    return {(cell["network"], cell["depth"]): cell for cell in record["cells"]}


def shown(values: list[float], digits: int) -> str:
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


ACCURACY = table("| | depth 20 | depth 56 | depth 110 |")


def test_all_rows_are_looked_at() -> None:
    first = set(NETWORKS)
    second = {f"{name}, second set" for name in ("Origin", "DANet-C (Eq. 11)")}
    assert set(ACCURACY) == first | second


@pytest.mark.parametrize("row", ACCURACY)
def test_accuracy_over_depth(row: str) -> None:
    name = row.removesuffix(", second set")
    found = cells("training.json" if row.endswith("second set") else "accuracy.json")
    for depth, text in zip(DEPTHS, ACCURACY[row], strict=True):
        cell = found[NETWORKS[name], depth]
        values = [100 * value for value in cell["accuracies"].values()]
        assert text == shown(values, 1)
        assert cell["mean"] == pytest.approx(mean(cell["accuracies"].values()))
        assert len(values) == 3


def measured() -> dict[tuple[str, int, int], list[dict[str, str]]]:
    """Rows of measures.csv by network, depth and T."""
    found = defaultdict(list)
    with open(RESULTS / "depth" / "measures.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            network = row["network"].split()[0]
            found[network, int(row["depth"]), int(row["T"])].append(row)
    return found


MEASURES = table("| T = 1 | firing rate")


def first_set() -> dict[str, tuple[float, float]]:
    """Firing rate and dO/dV a layer at depth 56, by network: one network of each."""
    record = json.loads((RESULTS / "depth" / "measures_56.json").read_text(encoding="utf-8"))
    return {
        item["network"]: (
            item["firing_rate"]["mean_of_layers"],
            item["gradient_stability"]["geometric_mean"],
        )
        for item in record["measured"]
    }


@pytest.mark.parametrize("row", ["Origin", "DANet-C (Eq. 11)"])
def test_measures_of_three_networks(row: str) -> None:
    found = measured()
    rows = [found[NETWORKS[row], depth, 1] for depth in DEPTHS]
    rates = [shown([float(r["firing rate"]) for r in group], 3) for group in rows]
    layers = [shown([float(r["a layer"]) for r in group], 3) for group in rows]
    assert MEASURES[row] == rates + layers


@pytest.mark.parametrize("row", ["DANet-C, Listing 1", "SEW", "PA-A (DANet-A)", "PA-B (DANet-B)"])
def test_measures_of_other_networks(row: str) -> None:
    """At depth 56 and 110; of those at 20 no file is left, as the page says."""
    assert "of the four others at depth 20 no file is left" in " ".join(PAGE.split())
    deepest = measured()[NETWORKS[row], 110, 1]
    rate, layer = first_set()[NETWORKS[row]]
    _, *rates, _, layer_56, layer_110 = MEASURES[row]
    assert rates == [
        f"{rate:.3f}",
        shown([mean(float(r["firing rate"]) for r in deepest)], 3),
    ]
    assert layer_56 == f"{layer:.3f}"
    assert layer_110 == shown([mean(float(r["a layer"]) for r in deepest)], 3)


def test_measures_at_four_steps() -> None:
    found = measured()
    origin, danet_c, *_ = table("| dO/dV a layer, T = 4")["ours, depth 56"]
    for text, network in ((origin, "origin_net"), (danet_c, "danet_c_net")):
        assert text == shown([float(r["a layer"]) for r in found[network, 56, 4]], 3)


@pytest.mark.parametrize(("row", "file"), [("DANet-C", "danet_c_r20"), ("SEW", "sew_r20")])
def test_accuracy_of_two_phases(row: str, file: str) -> None:
    with open(RESULTS / "fashion_mnist" / f"{file}.csv", encoding="utf-8", newline="") as lines:
        epochs = list(csv.DictReader(lines))
    last = {epoch["phase"]: 100 * float(epoch["test_accuracy"]) for epoch in epochs}
    before, after, _ = table("| test accuracy, % | 12 epochs at T = 1")[row]
    assert [before, after] == [f"{value:.2f}" for value in last.values()]
    assert [len([e for e in epochs if e["phase"] == phase]) for phase in last] == [12, 3]


def test_the_readme_says_the_same() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    found = re.search(
        r"Origin falls from (\d+) to (\d+) and (\d+) %, and the densely additive rule keeps it at "
        r"(\d+) and (\d+) % \((\d+) at depth 110 in the rule's other reading; (\d+) in a second set "
        r"of runs\)",
        text,
    )
    assert found is not None
    accuracy = cells("accuracy.json")
    wanted = [accuracy["origin_net", depth]["mean"] for depth in DEPTHS]
    wanted += [accuracy["danet_c_net", depth]["mean"] for depth in DEPTHS[1:]]
    wanted.append(accuracy["listing1_net", 110]["mean"])
    *first, second = (int(number) for number in found.groups())
    assert first == [round(100 * value) for value in wanted]
    depths = PAGE.partition("| | depth 20 |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| (.+?) \| ([^\n]+) \|$", depths, re.MULTILINE))
    assert (
        round(float(rows["DANet-C (Eq. 11), second set"].split("| ")[-1].split(" ")[0])) == second
    )
    for ours, theirs in (
        ("Origin (`via origin`)", "Origin"),
        ("DANet-C (`via origin by densely_additive`)", "DANet-C (Eq. 11)"),
        ("SEW (`via sew`)", "SEW"),
    ):
        assert f"| {ours} | {rows[theirs]} |" in text
    claim = re.search(r"classifies (\d+) % of the test images correctly, .*? (\d+) % \(mean", text)
    assert claim is not None
    assert [int(claim[1]), int(claim[2])] == [first[4], first[2]]
