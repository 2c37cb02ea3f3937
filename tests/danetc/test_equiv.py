"""``danetc equiv``."""

from __future__ import annotations

import json
from pathlib import Path

from danetc.compiler import check_text, graph_of
from danetc.tasks.equivalence import paired_weights
from tests.danetc.conftest import SMALL, Run

DENSER = SMALL.replace("stage(basic(4), 2)", "stage(basic(4), 3)")
TWICE = SMALL.replace(
    "network small",
    "block b(w) { a = in -> conv(w); b = in -> conv(w, kernel = 1); out = (OUT) -> norm -> spike }\n"
    "network small",
).replace("stage(basic(4), 2) via origin by densely_additive", "stage(b(4), 2)")


def spec(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return name


def test_equal_networks(danetc: Run, small: Path) -> None:
    plain = spec(small.parent, "plain.danet", SMALL.replace(" by densely_additive", ""))
    result = danetc.passes("equiv", small, plain)
    assert result.out.startswith("small and small: equal\n")
    assert "11 layers with weights correspond, all under the same names" in result.out
    record = json.loads(danetc("equiv", small, plain, "--json").out)
    assert record["verdict"] == "equal"
    assert ["stem.conv", "stem.conv"] in record["weights"]


def test_layers_under_other_names_are_listed(danetc: Run, small: Path) -> None:
    block = "block other(w, stride = 1) { a = in -> conv(w, kernel = 3) -> norm -> spike -> conv(w, kernel = 3) -> norm; out = (a + in) -> spike }\n"
    text = SMALL.replace("network small", f"{block}network small")
    text = text.replace("basic(4), 2) via origin", "other(4), 2)").replace(
        " by densely_additive", ""
    )
    result = danetc.passes("equiv", small, spec(small.parent, "other.danet", text))
    assert "8 under other names" in result.out
    assert "  stages.0.blocks.0.branch.conv1 = stages.0.blocks.0." in result.out


def test_different_networks_and_where(danetc: Run, tmp_path: Path) -> None:
    dense = spec(tmp_path, "dense.danet", DENSER)
    plain = spec(tmp_path, "plain.danet", DENSER.replace(" by densely_additive", ""))
    result = danetc("equiv", dense, plain)
    assert result.status == 1
    assert "small and small: different" in result.out
    assert "stages.0.blocks.2.branch.conv1" in result.out
    assert "dense.danet:9:12" in result.out
    assert "plain.danet:9:12" in result.out
    assert "outputs differ by" in result.out
    record = json.loads(danetc("equiv", dense, plain, "--json").out)
    assert record["verdict"] == "different"
    assert record["first"]["left"]["node"] == "stages.0.blocks.2.branch.conv1"
    assert record["numbers"]["outputs"] > 1e-3
    skipped = json.loads(danetc("equiv", dense, plain, "--json", "--no-numbers").out)
    assert "numbers" not in skipped
    assert skipped["no_numbers"] == "not asked for"


def test_weights_of_other_shapes_make_no_pairs() -> None:
    one, wide = (graph_of(check_text(SMALL.replace("(4)", f"({width})"))) for width in (4, 5))
    assert paired_weights(one, wide) == (None, ())
    assert paired_weights(one, one)[0] == "name"


def test_equal_in_numbers(danetc: Run, tmp_path: Path) -> None:
    a = spec(tmp_path, "a.danet", TWICE.replace("OUT", "2 * max(a, b)"))
    b = spec(tmp_path, "b.danet", TWICE.replace("OUT", "max(2 * a, 2 * b)"))
    result = danetc.passes("equiv", a, b)
    assert "equal in numbers" in result.out
    c = spec(tmp_path, "c.danet", TWICE.replace("OUT", "max(2 * a, 3 * b)"))
    assert danetc("equiv", a, c).status == 1


def test_silence_is_no_agreement(danetc: Run, tmp_path: Path) -> None:
    quiet = DENSER.replace("neuron = LIF", "neuron = LIF(v_threshold = 100.0)")
    dense = spec(tmp_path, "dense.danet", quiet)
    plain = spec(tmp_path, "plain.danet", quiet.replace(" by densely_additive", ""))
    result = danetc("equiv", dense, plain)
    assert result.status == 1
    assert "proves nothing" in result.out


def test_random_draws_are_not_compared_by_numbers(danetc: Run, tmp_path: Path) -> None:
    text = SMALL.replace("-> norm -> spike\n", "-> norm -> dropout(0.1) -> spike\n")
    a, b = spec(tmp_path, "a.danet", text), spec(tmp_path, "b.danet", text.replace("0.1", "0.2"))
    assert danetc("equiv", a, a).status == 0
    result = danetc("equiv", a, b)
    assert result.status == 1
    assert "p 0.1 and 0.2" in result.out
    assert "draws random numbers" in result.out


def test_networks_and_settings(danetc: Run, tmp_path: Path) -> None:
    both = DENSER + "network other = small { stages = stage(basic(4), 3) via origin }\n"
    path = spec(tmp_path, "both.danet", both)
    assert danetc("equiv", path, path, "-n", "small").status == 0
    assert danetc("equiv", path, path, "-n", "small", "-n", "other", "--no-numbers").status == 1
    one = ("--set", "stages=stage(basic(4), 2) via sew", "--set", "classes=3")
    assert danetc("equiv", path, path, "-n", "small", "-n", "other", *one).status == 0
    danetc.fails("several networks", "equiv", path, path)
    assert danetc("equiv", path, path, *["-n", "small"] * 3).status == 2
    assert danetc("equiv", path).status == 2
