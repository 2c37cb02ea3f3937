"""``danetc prove``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from danetc.tasks.proofs import TITLES, _cut
from tests.danetc.conftest import SMALL, Result, Run

WIDER = SMALL.replace(
    "stage(basic(4), 2) via origin by densely_additive",
    "stage(basic(4), 3) via VIA -> stage(basic(8), 4, stride = 2) via VIA",
)


def statuses(result: Result) -> dict[str, list[str]]:
    findings = json.loads(result.out)["findings"]
    return {n: [f["status"] for f in findings if f["proposition"] == n] for n in TITLES}


def findings(result: Result, number: str) -> list[dict[str, Any]]:
    return [f for f in json.loads(result.out)["findings"] if f["proposition"] == number]


NOT, HOLDS, FACT = "does not apply", "holds", "fact"
EXPECTED = {
    "origin": (HOLDS, NOT, NOT),
    "origin by densely_additive": (NOT, NOT, HOLDS),
    "baa": (NOT, NOT, NOT),
    "baa by densely_additive": (NOT, NOT, NOT),
    "sew": (HOLDS, NOT, NOT),
    "pa_a": (HOLDS, HOLDS, NOT),
    "pa_b": (HOLDS, NOT, NOT),
    "tdbn": (HOLDS, NOT, NOT),
}


@pytest.mark.parametrize("via", EXPECTED)
def test_what_holds_of_each_connection(danetc: Run, tmp_path: Path, via: str) -> None:
    (tmp_path / "a.danet").write_text(WIDER.replace("VIA", via))
    result = danetc.passes("prove", "a.danet", "--json")
    found = statuses(result)
    assert (found["1"], found["3"], found["4"]) == tuple([s] * 2 for s in EXPECTED[via])
    assert found["2"] == [FACT] * 4  # the stem, two stages, the head
    assert found["paths"] == [FACT] * 2
    facts = danetc("prove", "a.danet", "--json", "--no-numbers")
    stated = {n: [NOT if s == NOT else FACT for s in each] for n, each in found.items()}
    assert statuses(facts) == stated
    for number in TITLES:
        for fact, checked in zip(findings(facts, number), findings(result, number), strict=True):
            same = fact.keys() & checked.keys() - {"status", "says"}
            assert {key: fact[key] for key in same} == {key: checked[key] for key in same}
            if number in ("1", "4") and fact["status"] == FACT:
                assert checked["says"].startswith(fact["says"])


def test_numbers_of_origin_and_its_dense_form(danetc: Run, tmp_path: Path) -> None:
    silent = 0.07065082485316446
    text = WIDER.replace("VIA", "origin").replace("neuron = LIF", "neuron = IF")
    (tmp_path / "a.danet").write_text(text)
    (tmp_path / "b.danet").write_text(text.replace("via origin", "via origin by densely_additive"))
    chain = danetc("prove", "a.danet", "--json")
    for k, found in zip((2, 3), findings(chain, "1"), strict=True):
        assert found["interblock_neurons"] == k
        assert found["where_block_0_spikes"] == pytest.approx(1.0)
        assert found["where_block_0_is_silent"] == pytest.approx(silent**k)
        assert found["error"] < 1e-12
        assert f"where block 0 is silent {silent**k:.3g}; autograd agrees" in found["says"]
    dense = danetc("prove", "b.danet", "--json")
    for k, found in zip((2, 3), findings(dense, "4"), strict=True):
        expected = silent * (1 + silent) ** (k - 1)
        assert found["where_block_0_is_silent"] == pytest.approx(expected)
        assert found["where_block_0_is_silent_in_a_chain"] == pytest.approx(silent**k)
        assert found["where_block_0_spikes_in_a_chain"] == pytest.approx(1.0)
        assert found["where_block_0_spikes"] < 1.0
        assert (found["status"], found["vacuous"]) == ("vacuous", ["where block 0 spikes"])
        assert found["least_ratio_to_bound"] >= 1 - 1e-9
    fewest = [[f["fewest_neurons"] for f in findings(r, "paths")] for r in (chain, dense)]
    assert fewest == [[3, 7], [2, 4]]
    for part in findings(dense, "2"):
        for what in ("fewest", "most"):
            neurons = [layer[what] for layer in part["layers"]]
            assert part[what] == [min(neurons), max(neurons)]


@pytest.mark.thorough
def test_text_says_the_same(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text(WIDER.replace("VIA", "pa_a"))
    result = danetc.passes("prove", "a.danet")
    assert result.out.startswith("small, T = 2\nPropositions 1, 3 and 4 are checked at T = 1\n")
    for number, title in TITLES.items():
        assert (f"Proposition {number}: {title}" if number.isdigit() else title) in result.out
    assert "over 2 blocks the gradient is 1 everywhere; autograd agrees exactly" in result.out
    assert "starts again at the opening block; measured (predicted): " in result.out
    assert "does not apply, because rule chain feeds block 2 with out[1]" in result.out
    once = danetc("prove", "a.danet", "--set", "steps=1")
    assert "checked at T = 1" not in once.out


@pytest.mark.thorough
def test_a_check_that_fails_is_told_and_exits_with_1(danetc: Run, tmp_path: Path) -> None:
    """Neurons that never fire give norms nothing to normalise: the variance does not grow."""
    text = WIDER.replace("VIA", "pa_a").replace("LIF", "LIF(v_threshold = 100.0)")
    (tmp_path / "a.danet").write_text(text)
    result = danetc("prove", "a.danet")
    assert result.status == 1
    assert "fails: " in result.out
    record = danetc("prove", "a.danet", "--json")
    assert record.status == 1
    assert not json.loads(record.out)["holds"]
    assert statuses(record)["3"] == ["fails"] * 2
    assert statuses(record)["1"] == [HOLDS] * 2


@pytest.mark.parametrize(
    "change",
    [
        ("neuron = LIF", "neuron = PLIF"),
        ("neuron = LIF", "neuron = ALIF"),
        ("neuron = LIF", "neuron = MSLIF"),
        ("neuron = LIF", "neuron = LIF(tau = 3.0, detach_reset = true)"),
        ("sigmoid(alpha = 4)", "triangle"),
        ("image(1, 8, 8)", "events(1, 8, 8)"),
        ("neuron = LIF", "neuron = LIF; norm = tebn"),
    ],
)
def test_other_neurons_surrogates_norms_and_inputs(danetc: Run, change: tuple[str, str]) -> None:
    text = WIDER.replace("VIA", "origin").replace(*change)
    Path("a.danet").write_text(text)
    result = danetc.passes("prove", "a.danet", "--json")
    assert statuses(result)["1"] == [HOLDS] * 2


def test_a_network_without_stages(danetc: Run, tmp_path: Path) -> None:
    line = next(line for line in SMALL.splitlines() if "stages" in line)
    (tmp_path / "a.danet").write_text(SMALL.replace(line + "\n", ""))
    result = danetc.passes("prove", "a.danet")
    assert result.out.count("does not apply, because the network has no stages") == 3


def test_the_middle_of_a_long_series_is_left_out() -> None:
    assert _cut([*"abcdef"]) == "a, b, c, d, e, f"
    assert _cut([*"abcdefg"]) == "a, b, c, ..., e, f, g"


def test_stages_of_vectors(danetc: Run, tmp_path: Path) -> None:
    text = WIDER.replace("conv(4)", "flatten -> linear(4)").replace("basic(", "full(")
    text = re.sub(r" -> stage.*", "", text).replace("avgpool -> ", "").replace("VIA", "origin")
    (tmp_path / "a.danet").write_text(text.replace("network", "block full(n) = linear(n)\nnetwork"))
    result = danetc.passes("prove", "a.danet", "--json")
    assert statuses(result)["1"] == [HOLDS]


def test_numbers_of_very_deep_networks_are_refused(danetc: Run, tmp_path: Path) -> None:
    place = tmp_path / "deep.danet"
    place.write_text(
        "use std\nnetwork deep {\n  input = image(3, 8, 8)\n  steps = 1\n  neuron = IF\n"
        "  surrogate = atan\n  stem = conv(4) -> norm -> spike\n"
        "  stages = stage(basic(4), 1001) via sew\n"
        "  head = avgpool -> mean_over_time -> linear(10)\n}\n"
    )
    assert "over 1000 blocks the gradient is 1" in danetc("prove", "--no-numbers", str(place)).out
    told = danetc("prove", str(place)).err
    assert (
        "deep has 1,001 blocks, and gradients and variances are checked by numbers for 1,000"
        in told
    )
    assert "--no-numbers" in told
