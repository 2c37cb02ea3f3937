"""`--memory`: policies by name and by a budget, in every command that takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc as package
from danetc.compiler.plans.memory import parse_size, predict, show_size
from danetc.errors import UserError
from danetc.runtime.layers.recompute import Recomputed
from danetc.tasks.memory import parse_memory

from .conftest import SMALL, Run

pytestmark = pytest.mark.usefixtures("uncompiled")

QUICK = "recipe quick { epochs = 1; batch = 500; optimizer = adamw(lr = 0.01) }\n"
TRAIN = ("--data", "digits", "--quiet", "--backend", "fused")


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.danet"
    path.write_text(SMALL + QUICK)
    return path


def recomputes(model: torch.nn.Module) -> bool:
    return any(isinstance(module, Recomputed) for module in model.modules())


def totals(spec: Path, batch: int, backend: str, optimizer: str) -> tuple[int, int]:
    """The predicted peaks of none and recompute."""
    graph: Any = package.build(spec).topology
    none, lean = (
        predict(graph, batch, backend, policy, optimizer=optimizer).total
        for policy in ("none", "recompute")
    )
    assert lean < none
    return none, lean


def test_what_memory_is() -> None:
    assert parse_memory("recompute") == "recompute"
    assert parse_memory("8GB") == parse_size("8GB")
    with pytest.raises(ValueError, match=r"8XB.*no size.*policy: none, recompute"):
        parse_memory("8XB")


@pytest.mark.parametrize("command", ["train", "build", "bench"])
@pytest.mark.parametrize("size", ["8XB", "recomputed", "0GB", "-1GB", ""])
def test_what_is_neither_is_wrong_usage(danetc: Run, quick: Path, command: str, size: str) -> None:
    options = ("--data", "digits") if command == "train" else ()
    result = danetc(command, quick, *options, "--memory", size)
    assert result.status == 2
    assert "--memory" in result.err
    assert "size" in result.err


# -- training --------------------------------------------------------------------------------------


def test_training_takes_the_cheapest_policy_that_fits(
    danetc: Run, quick: Path, tmp_path: Path
) -> None:
    none, lean = totals(quick, 500, "fused", "adamw")
    losses = set()
    for budget, policy in ((none, "none"), (none - 1, "recompute"), (lean, "recompute")):
        result = danetc("train", quick, *TRAIN, "--memory", str(budget), "-o", str(budget))
        assert result.status == 0, result.err
        (line,) = result.err.splitlines()
        total = show_size(none if policy == "none" else lean)
        assert line.startswith(f"note: memory of phase train: {policy}: {total} at the peak (")
        assert f"the budget is {show_size(budget)}" in line
        record = json.loads((tmp_path / str(budget) / "training.json").read_text())
        chosen = record["memory"]["train"]
        assert (chosen["policy"], chosen["budget"]) == (policy, budget)
        assert chosen["predicted"]["total"] == (none if policy == "none" else lean)
        losses.add(record["epochs"][0]["train_loss"])
    assert len(losses) == 1, "both policies train the same"


def test_a_policy_by_name_trains(
    danetc: Run, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from danetc.tasks.training import trials

    made = []
    plain = trials.initialise

    def noted(*args: Any) -> Any:
        made.append(plain(*args))
        return made[-1]

    monkeypatch.setattr(trials, "initialise", noted)
    result = danetc("train", quick, *TRAIN, "--memory", "recompute", "-o", "run")
    assert (result.status, result.err) == (0, "")
    assert [recomputes(model) for model, _ in made] == [True]
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert record["memory"]["train"]["policy"] == "recompute"


def test_a_budget_that_nothing_fits_begins_nothing(
    danetc: Run, quick: Path, tmp_path: Path
) -> None:
    _, lean = totals(quick, 500, "fused", "adamw")
    result = danetc("train", quick, *TRAIN, "--memory", str(lean // 4 * 3), "-o", "run")
    assert result.status == 1
    assert "phase `train`: small does not fit into" in result.err
    assert f"is {show_size(lean)} with the policy recompute" in result.err
    for way in ("a batch of at most", "accumulate = ", "precision = bf16"):
        assert way in result.err
    assert not (tmp_path / "run").exists()


def test_what_a_recipe_asks_for_counts(danetc: Run, quick: Path) -> None:
    """Smaller parts of a batch and a smaller precision, as the message says, fit."""
    _, lean = totals(quick, 500, "fused", "adamw")
    budget = str(lean // 4 * 3)
    for number, options in enumerate(((), ("accumulate=2",), ("batch=300",), ("precision=bf16",))):
        changes = [item for option in options for item in ("--set", f"recipe.{option}")]
        result = danetc("train", quick, *TRAIN, "--memory", budget, *changes, "-o", f"run{number}")
        assert result.status == (0 if options else 1), result.err
    result = danetc(
        "train", quick, *TRAIN, "--memory", str(lean), "--set", "recipe.ema=0.9", "-o", "run"
    )
    assert result.status == 1, "a running mean of the weights is a copy of them"


def test_a_backend_that_is_not_predicted(danetc: Run, quick: Path) -> None:
    result = danetc(
        "train", quick, "--data", "digits", "--backend", "spikingjelly", "--memory", "1GB"
    )
    assert result.status == 1
    assert "the backend spikingjelly needs is not predicted" in result.err


# -- building --------------------------------------------------------------------------------------


def test_building_in_python(small: Path) -> None:
    none, lean = totals(small, 64, "fused", "sgd_momentum")
    for memory, expected in (
        ("none", False),
        ("recompute", True),
        (str(none), False),
        (str(lean), True),
    ):
        model = package.build(small, backend="fused", memory=memory, batch=64)
        assert recomputes(model) == expected
    with pytest.raises(UserError, match=r"does not fit .* take a batch of at most"):
        package.build(small, backend="fused", memory=str(lean - 1), batch=64)
    with pytest.raises(UserError, match="8XB"):
        package.build(small, memory="8XB", batch=64)
    with pytest.raises(TypeError, match="batch="):
        package.build(small, memory="8GB")
    with pytest.raises(UserError, match="spikingjelly needs is not predicted"):
        package.build(small, backend="spikingjelly", memory="8GB", batch=64)


def test_a_built_directory_keeps_its_policy(danetc: Run, small: Path, tmp_path: Path) -> None:
    none, lean = totals(small, 64, "eager", "sgd_momentum")
    for number, (memory, policy) in enumerate(
        (("recompute", "recompute"), (str(lean), "recompute"), (str(none), "none"))
    ):
        result = danetc("build", small, "-o", f"d{number}", "--memory", memory, "--batch", "64")
        assert result.status == 0, result.err
        assert f"memory      {policy}" in result.out
        if memory.isdecimal():
            assert "is predicted for a batch of 64, eager, float32" in result.out
        directory = tmp_path / f"d{number}"
        assert recomputes(package.load(directory)) == (policy == "recompute")
        assert not recomputes(package.load(directory, memory="none"))
        assert recomputes(package.load(directory, memory="recompute"))
    with pytest.raises(UserError, match="no memory policy lean; there are none, recompute"):
        package.load(tmp_path / "d0", memory="lean")


def test_a_directory_that_nothing_fits_is_not_written(
    danetc: Run, small: Path, tmp_path: Path
) -> None:
    result = danetc("build", small, "-o", "out", "--memory", "1kB", "--batch", "64")
    assert result.status == 1
    assert "not even a batch of 1 fits" in result.err
    assert not (tmp_path / "out").exists()
    result = danetc("build", small, "-o", "out", "--memory", "1kB")
    assert result.status == 2
    assert "--batch" in result.err


# -- the summary -----------------------------------------------------------------------------------


def test_the_summary_predicts_each_policy(danetc: Run, small: Path) -> None:
    none, lean = totals(small, 64, "fused", "adamw")
    options = ("summary", small, "--batch", "64", "--optimizer", "adamw")
    record = json.loads(danetc(*options, "--json").out)
    found = {(plan["backend"], plan["policy"]): plan["total"] for plan in record["memory"]}
    assert found[("fused", "none")] == none
    assert found[("fused", "recompute")] == lean
    assert set(found) == {(b, p) for b in ("eager", "fused") for p in ("none", "recompute")}
    result = danetc(*options)
    lines = [line.split() for line in result.out.splitlines()]
    (row,) = (line for line in lines if line[:2] == ["fused", "recompute"])
    assert " ".join(row[2:4]) == show_size(lean)
    assert "batch 64, float32, adamw" in result.out
    assert "memory" not in json.loads(danetc("summary", small, "--json").out)
    half = json.loads(danetc(*options, "--precision", "bf16", "--json").out)
    assert half["memory"][0]["dtype"] == "bfloat16"
    assert half["memory"][0]["total"] < record["memory"][0]["total"]


# -- comparisons -----------------------------------------------------------------------------------


BENCH = ("--batch", "8", "--rounds", "1", "--threads", "1", "--json")


def test_a_comparison_under_a_policy(
    danetc: Run, small: Path, together: list[Sequence[str]]
) -> None:
    saved = {}
    none, lean = totals(small, 8, "fused", "sgd_momentum")
    for memory in ("none", "recompute", str(none), str(lean)):
        result = danetc("bench", small, "--backends", "fused", "--memory", memory, *BENCH)
        assert result.status == 0, result.err
        record = json.loads(result.out)
        saved[memory] = record["contestants"][0]["saved_bytes"]
        said = [note for note in record["notes"] if note.startswith("memory of danetc fused: ")]
        assert len(said) == (memory != "none")
        assert ["--memory", memory] == together[-1][together[-1].index("--memory") :][:2]
    assert saved["none"] == saved[str(none)]
    assert saved["recompute"] == saved[str(lean)] < saved["none"]


def test_a_comparison_leaves_out_what_does_not_fit(
    danetc: Run, small: Path, together: list[Sequence[str]]
) -> None:
    none, _ = totals(small, 8, "fused", "sgd_momentum")
    _, lean = totals(small, 8, "eager", "sgd_momentum")
    assert none < lean
    options = ("bench", small, "--backends", "eager,fused,spikingjelly", *BENCH)
    result = danetc(*options, "--memory", str(none))
    assert result.status == 0, result.err
    record = json.loads(result.out)
    assert [row["name"] for row in record["contestants"]] == ["danetc fused"]
    notes = "\n".join(record["notes"])
    assert "left out: backend eager: small does not fit" in notes
    assert "left out: backend spikingjelly: " in notes
    result = danetc(*options, "--memory", "1kB")
    assert result.status == 1
    assert "small does not fit into 1.00 kB" in result.err
