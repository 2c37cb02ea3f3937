"""``danetc prove``."""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from danetc.compiler import check_text, graph_of
from danetc.runtime.checks import propositions
from danetc.tasks.equivalence import equivalence
from danetc.tasks.proofs import TITLES, _cut
from tests.danetc.conftest import SMALL, Result, Run

WIDER = SMALL.replace("LIF", "IF").replace(
    "stage(basic(4), 2) via origin by densely_additive",
    "stage(basic(4), 3) via VIA -> stage(basic(8), 4, stride = 2) via VIA",
)


def verdicts(result: Result) -> dict[str, list[str]]:
    findings = json.loads(result.out)["findings"]
    return {n: [f["verdict"] for f in findings if f["proposition"] == n] for n in TITLES}


def findings(result: Result, number: str) -> list[dict[str, Any]]:
    return [f for f in json.loads(result.out)["findings"] if f["proposition"] == number]


NOT, HOLDS, FAILS, UNCHECKED = "does not apply", "holds", "fails", "not checked"
EXPECTED = {
    "origin": (HOLDS, NOT, NOT),
    "origin by densely_additive": (NOT, NOT, HOLDS),
    "baa": (NOT, NOT, NOT),
    "sew by densely_additive": (NOT, NOT, HOLDS),
    "pa_a": (NOT, HOLDS, NOT),
    "ms": (NOT, FAILS, NOT),
}


@pytest.mark.parametrize("via", EXPECTED)
def test_verdicts_on_each_connection(danetc: Run, via: str) -> None:
    Path("a.danet").write_text(WIDER.replace("VIA", via))
    result = danetc.passes("prove", "a.danet", "--json")
    found = verdicts(result)
    assert (found["1"], found["3"], found["4"]) == tuple([s] * 2 for s in EXPECTED[via])
    facts = danetc.passes("prove", "a.danet", "--json", "--no-numbers")
    stated = {n: [NOT if s == NOT else UNCHECKED for s in each] for n, each in found.items()}
    assert verdicts(facts) == stated
    assert json.loads(facts.out)["paths"] == json.loads(result.out)["paths"]
    for number in TITLES:
        for fact, checked in zip(findings(facts, number), findings(result, number), strict=True):
            same = fact.keys() & checked.keys() - {"verdict", "says"}
            assert {key: fact[key] for key in same} == {key: checked[key] for key in same}


def test_numbers_of_origin_and_its_dense_form(danetc: Run) -> None:
    silent = 0.07065082485316446
    Path("a.danet").write_text(WIDER.replace("VIA", "origin"))
    Path("b.danet").write_text(WIDER.replace("VIA", "origin by densely_additive"))
    chain, dense = (danetc.passes("prove", f"{name}.danet", "--json") for name in "ab")
    for k, one, other in zip((2, 3), findings(chain, "1"), findings(dense, "4"), strict=True):
        assert (one["interblock_neurons"], other["shortest_path"]) == (k, 1)
        assert one["where_block_0_spikes"] == pytest.approx(1.0)
        for found in (one["where_block_0_is_silent"], other["where_block_0_is_silent_in_a_chain"]):
            assert found == pytest.approx(silent**k)
        assert one["error"] < 1e-12
        assert f"where block 0 is silent {silent**k:.3g}; autograd agrees" in one["says"]
    paths = [json.loads(each.out)["paths"] for each in (chain, dense)]
    for found, fewest in zip(paths, ([None, 3, 7, None], [None, 2, 4, None]), strict=True):
        assert [row.get("fewest_from_stem") for row in found] == fewest


MORE = """
rule averaged { in[i] = mean(out[0 .. i-1]); result = out[n-1] }
rule window { in[i] = sum(out[max(0, i-2) .. i-1]); result = out[n-1] }
surrogate one { dy = 0 * x + 1 }
surrogate pole { dy = 1 / x }
surrogate undone { dy = 0.5 + 3 * abs(abs(x) - 0.5) }
connection rising {
  each = conv -> norm -> spike; last = conv -> norm; projection = conv -> norm
  out = (branch + shortcut) -> IF(v_threshold = 0.5 * i)
}
"""
SIGMOID = "sigmoid(alpha = 4)"
SAYS = [
    ("origin by densely_additive", "IF", SIGMOID,
     "holds: the gradient of the stage's result by block 0 is at least g2: where block 0 spikes 0.141 >= 0.0707 (in a chain 1), where block 0 is silent 0.0756 >= 0.0707 (in a chain 0.00499); autograd"),
    ("origin by densely_additive_all", "IF", SIGMOID, "is at least 1: where block 0 spikes 2.14 >= 1 (in a chain 1), where"),
    ("origin by densely_additive_after_opening", "IF", SIGMOID, "is at least g1: where block 0 spikes 2 >= 1 (in a chain 1), where"),
    ("origin by averaged", "IF", SIGMOID, "is at least 0.5 * g2: where block 0 spikes 1 >= 0.5 (in a chain 1), where"),
    ("origin by window", "IF", SIGMOID, "is at least that of the shortest paths, through 2 blocks: where block"),
    ("origin", "LIF", SIGMOID, "does not apply, because the interblock neuron of block 1 returns 0 for an input of 1; the proof"),
    ("origin", "IF", "one", "does not apply, because no surrogate derivative is below 1 in magnitude: over 2 blocks the gradient"),
    ("origin", "IF", "pole", "does not apply, because a derivative is not finite"),
    ("rising", "IF", "undone",  # 0.5 in block 1 and 2 in block 2
     "fails: over 2 blocks the gradient is the product of 2 surrogate derivatives, nowhere below 1 in magnitude: where block 0 spikes 1, where block 0 is silent 1; autograd"),
    ("origin by densely_additive", "IF", "multi_gaussian",
     "does not apply, because the surrogate derivative of block 3 falls to -0.0157, below 0: where block 0 spikes -0.0236 < -0.0157 (in"),
    ("pa_a", "IF", SIGMOID,
     "does not apply, because there is no interblock neuron between the blocks: over 2 blocks the gradient is 1; autograd agrees exactly"),
    ("pa_a", "IF(v_threshold = 100.0)", SIGMOID, "fails: block 2 does not fire more than block 1"),
    ("pa_a", "IF(v_threshold = -0.5)", SIGMOID, "fails: block 2 fires less than block 1, 0.5"),
    ("pa_a", "IF; zero_init = true", SIGMOID, "fails: block 2 does not fire more than block 1"),
]  # fmt: skip
"""The output for a connection, neuron and surrogate. A failed proposition is a result, not an error."""


@pytest.mark.parametrize(("via", "neuron", "surrogate", "says"), SAYS)
def test_what_is_said(danetc: Run, via: str, neuron: str, surrogate: str, says: str) -> None:
    text = WIDER.replace("VIA", via).replace(SIGMOID, surrogate)
    Path("a.danet").write_text(text.replace("neuron = IF", f"neuron = {neuron}") + MORE)
    assert says in danetc.passes("prove", "a.danet").out


def test_the_bound_of_two_blocks_is_an_equality(danetc: Run, small: Path) -> None:
    for count, numbers in product((2, 3), ("--numbers", "--no-numbers")):
        small.write_text(SMALL.replace("2) via", f"{count}) via"))
        said = danetc.passes("prove", small, numbers).out
        assert ("is g1 (with two blocks, the bound is an equality)" in said) == (count == 2)


def test_a_formula_that_autograd_contradicts_exits_with_1(
    danetc: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.danet").write_text(WIDER.replace("VIA", "origin"))
    wrong = propositions.slope
    monkeypatch.setattr(propositions, "slope", lambda program, x: 1.001 * wrong(program, x))
    result = danetc("prove", "a.danet", "--json")
    assert (result.status, json.loads(result.out)["agrees"]) == (1, False)
    assert verdicts(result)["1"] == [FAILS] * 2
    assert "autograd is off by" in findings(result, "1")[0]["says"]


def test_a_network_without_stages(danetc: Run) -> None:
    line = next(line for line in SMALL.splitlines() if "stages" in line)
    Path("a.danet").write_text(SMALL.replace(line + "\n", ""))
    result = danetc.passes("prove", "a.danet")
    assert result.out.count("does not apply, because the network has no stages") == 3


def test_the_middle_of_a_long_series_is_left_out() -> None:
    assert _cut([*"abcdef"]) == "a, b, c, d, e, f"
    assert _cut([*"abcdefg"]) == "a, b, c, ..., e, f, g"


def test_stages_of_vectors(danetc: Run) -> None:
    text = WIDER.replace("conv(4)", "flatten -> linear(4)").replace("basic(", "full(")
    text = re.sub(r" -> stage.*", "", text).replace("avgpool -> ", "").replace("VIA", "origin")
    Path("a.danet").write_text(text.replace("network", "block full(n) = linear(n)\nnetwork"))
    result = danetc.passes("prove", "a.danet", "--json")
    assert verdicts(result)["1"] == [HOLDS]


def test_numbers_of_very_deep_networks_are_refused(
    danetc: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write_text(SMALL.replace("2) via origin by densely_additive", "1001) via sew"))
    assert "over 1000 blocks the gradient is 1" in danetc("prove", "--no-numbers", small).out
    told = "1,001 blocks, and gradients and firing rates are checked by numbers for 1,000"
    assert "--no-numbers" in danetc.fails(told, "prove", small).err
    monkeypatch.setattr("danetc.tasks.proofs.MOST_BLOCKS", 2)
    small.write_text(SMALL)  # it has two blocks
    danetc.passes("prove", small)


# -- equiv -----------------------------------------------------------------------------------------


DENSER = SMALL.replace("stage(basic(4), 2)", "stage(basic(4), 3)")
TWICE = SMALL.replace(
    "network small",
    "block b(w) { a = in -> conv(w); b = in -> conv(w, kernel = 1); out = (OUT) -> norm -> spike }\n"
    "network small",
).replace("stage(basic(4), 2) via origin by densely_additive", "stage(b(4), 2)")


def chained(text: str) -> str:
    return text.replace(" by densely_additive", "")


def equiv(danetc: Run, left: str, right: str, *more: str) -> Result:
    Path("a.danet").write_text(left)
    Path("b.danet").write_text(right)
    return danetc("equiv", "a.danet", "b.danet", *more)


def test_equal_networks(danetc: Run) -> None:
    result = equiv(danetc, SMALL, chained(SMALL))
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("small and small: equal\n")
    assert "11 layers with weights correspond, all under the same names" in result.out
    record = danetc.json("equiv", "a.danet", "b.danet")
    assert record["verdict"] == "equal"
    assert ["stem.conv", "stem.conv"] in record["weights"]


def test_layers_under_other_names_are_listed(danetc: Run) -> None:
    block = "block other(w, stride = 1) { a = in -> conv(w, kernel = 3) -> norm -> spike -> conv(w, kernel = 3) -> norm; out = (a + in) -> spike }\n"
    other = chained(SMALL).replace("basic(4), 2) via origin", "other(4), 2)")
    result = equiv(danetc, SMALL, other.replace("network small", f"{block}network small"))
    assert result.status == 0
    assert "8 under other names" in result.out
    assert "  stages.0.blocks.0.branch.conv1 = stages.0.blocks.0." in result.out


def test_different_networks_and_where(danetc: Run) -> None:
    result = equiv(danetc, DENSER, chained(DENSER))
    assert result.status == 1
    places = ("stages.0.blocks.2.branch.conv1", "a.danet:9:12", "b.danet:9:12")
    for told in ("small and small: different", *places, "outputs differ by"):
        assert told in result.out
    record = json.loads(danetc("equiv", "a.danet", "b.danet", "--json").out)
    assert record["verdict"] == "different"
    assert record["first"]["left"]["node"] == "stages.0.blocks.2.branch.conv1"
    assert record["numbers"]["outputs"] > 1e-3
    skipped = json.loads(danetc("equiv", "a.danet", "b.danet", "--json", "--no-numbers").out)
    assert ("numbers" in skipped, skipped["no_numbers"]) == (False, "not asked for")


def test_equal_in_numbers(danetc: Run) -> None:
    a = TWICE.replace("OUT", "2 * max(a, b)")
    result = equiv(danetc, a, TWICE.replace("OUT", "max(2 * a, 2 * b)"))
    assert (result.status, "equal in numbers" in result.out) == (0, True)
    assert equiv(danetc, a, TWICE.replace("OUT", "max(2 * a, 3 * b)")).status == 1


@pytest.mark.parametrize(
    ("side", "strides", "compared"),
    [(8, [1], 8), (40, [1], 16), (16, [1], 16), (200, [8], 32), (200, [4, 4], 64),
     (200, [4, 8], 96), (200, [7, 7], 128), (200, [8, 8], 200)],
)  # fmt: skip
def test_numbers_are_compared_on_the_smallest_images_that_are_evidence(
    monkeypatch: pytest.MonkeyPatch, side: int, strides: list[int], compared: int
) -> None:
    monkeypatch.setattr("danetc.runtime.checks.agreement.agreement", lambda *given: given[3])
    wide = max(side, 40)
    layers = " -> ".join(f"conv(2, stride = {stride})" for stride in (*strides, 1))
    left, right = (
        graph_of(check_text(
            f"use std\nnetwork n {{ input = image(1, {side}, {wide}); steps = 1; neuron = {neuron}; "
            f"surrogate = sigmoid; out = in -> {layers} -> spike -> avgpool -> linear(2) }}"
        ), passes=())
        for neuron in ("IF", "IF(v_threshold = 2.0)")
    )  # fmt: skip
    size = (compared, compared if compared < side else wide)
    said: list[str] = []
    assert equivalence(left, right, on_progress=said.append).numbers == (2, 1, *size)
    assert said == [f"a training step of both on 1 x {size[0]} x {size[1]}"]


def test_silent_networks_are_not_called_equal(danetc: Run) -> None:
    quiet = DENSER.replace("neuron = LIF", "neuron = LIF(v_threshold = 100.0)")
    result = equiv(danetc, quiet, chained(quiet))
    assert (result.status, "proves nothing" in result.out) == (1, True)


def test_random_draws_are_not_compared_by_numbers(danetc: Run) -> None:
    text = SMALL.replace("-> norm -> spike\n", "-> norm -> dropout(0.1) -> spike\n")
    assert equiv(danetc, text, text).status == 0
    result = equiv(danetc, text, text.replace("0.1", "0.2"))
    assert result.status == 1
    assert "p 0.1 and 0.2" in result.out
    assert "draws random numbers" in result.out


def test_networks_and_settings(danetc: Run) -> None:
    path = Path("both.danet")
    path.write_text(DENSER + "network other = small { stages = stage(basic(4), 3) via origin }\n")
    assert danetc("equiv", path, path, "-n", "small").status == 0
    assert danetc("equiv", path, path, "-n", "small", "-n", "other", "--no-numbers").status == 1
    one = ("--set", "stages=stage(basic(4), 2) via sew", "--set", "classes=3")
    assert danetc("equiv", path, path, "-n", "small", "-n", "other", *one).status == 0
    danetc.fails("several networks", "equiv", path, path)
    assert danetc("equiv", path, path, *["-n", "small"] * 3).status == 2
    assert danetc("equiv", path).status == 2
