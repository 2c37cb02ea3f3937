"""`--memory`: policies by name and by a budget, in every command that takes them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc as package
from danetc.compiler.ir.graph import Graph
from danetc.compiler.plans.memory import parse_memory, parse_size, show_size, step_memory
from danetc.errors import UserError
from danetc.runtime.bench.memory import peak_bytes
from danetc.runtime.data import open_data
from danetc.runtime.layers.segments import Recomputed
from danetc.runtime.training.checkpoints import Checkpoints
from danetc.runtime.training.distributed import alone
from danetc.runtime.training.engine import fit
from danetc.runtime.training.settings import RunSettings
from danetc.tasks.memory import choose, plain_step
from danetc.tasks.networks import compile_spec, emit_model
from danetc.tasks.training.phase_step import PhaseStep
from danetc.tasks.training.plan import find_recipe
from tests.differential.networks import variety

from .conftest import SMALL, Run

ADAMW = "optimizer = adamw(lr = 0.01)"
QUICK = "recipe quick { epochs = 1; batch = 500; optimizer = adamw(lr = 0.01) }\n"
DATA = "synthetic:size=8,channels=1,classes=10,count=500,test=60"
TRAIN = ("--data", DATA, "--quiet", "--backend", "fused")


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.danet"
    path.write_text(SMALL + QUICK)
    return path


def recomputes(model: torch.nn.Module) -> bool:
    return any(isinstance(module, Recomputed) for module in model.modules())


HUGE = 10**9


def peaks(graph: Graph, batch: int, backend: str) -> tuple[int, int]:
    """The measured peaks of none and recompute."""
    none = choose(graph, HUGE, batch=batch, backend=backend)
    assert none.measured is not None
    lean = choose(graph, none.measured.peak - 1, batch=batch, backend=backend)
    assert lean.measured is not None
    assert (none.policy, lean.policy) == ("none", "recompute")
    assert lean.measured.peak < none.measured.peak
    return none.measured.peak, lean.measured.peak


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


def memory_of(danetc: Run, quick: Path, budget: int, *more: str) -> dict[str, Any]:
    """What a training under a budget has measured."""
    out = quick.parent / f"run-{budget}{''.join(more)}"
    result = danetc("train", quick, *TRAIN, "--memory", str(budget), "-o", out, *more)
    assert result.status == 0, result.err
    record = json.loads((out / "training.json").read_text())
    chosen: dict[str, Any] = record["memory"]["train"]
    (line,) = (line for line in result.err.splitlines() if "note: memory" in line)
    peak = show_size(chosen["measured"]["peak"])
    assert line.startswith(f"note: memory of phase train: {chosen['policy']}: {peak} at the peak")
    assert f"measured on cpu; the budget is {show_size(budget)}" in line
    assert chosen["budget"] == budget >= chosen["measured"]["peak"]
    return {**chosen, "loss": record["epochs"][0]["train_loss"]}


@pytest.mark.thorough
def test_training_takes_the_cheapest_policy_that_fits(danetc: Run, quick: Path) -> None:
    """And where nothing fits it begins nothing, and says what does."""
    whole = memory_of(danetc, quick, HUGE)
    none = whole["measured"]["peak"]
    exact = memory_of(danetc, quick, none)
    lean = memory_of(danetc, quick, none - 1)
    assert [each["policy"] for each in (whole, exact, lean)] == ["none", "none", "recompute"]
    assert len({each["loss"] for each in (whole, exact, lean)}) == 1, "both train the same"
    budget = lean["measured"]["peak"] // 4 * 3
    options = ("train", quick, *TRAIN, "--memory", str(budget), "-o", quick.parent / "not")
    result = danetc(*options)
    assert result.status == 1
    assert not (quick.parent / "not").exists()
    assert "phase `train`: small does not fit into" in result.err
    size = show_size(lean["measured"]["peak"])
    assert f"a step takes {size} with the policy recompute" in result.err
    found = re.search(r"a batch of about (\d+), or accumulate = (\d+), ", result.err)
    assert found is not None, result.err
    assert "precision = bf16, which saves " in result.err
    for change in (f"batch={found[1]}", f"accumulate={found[2]}"):
        memory_of(danetc, quick, budget, "--set", f"recipe.{change}")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(ADAMW, id="adamw"),
        pytest.param(f"{ADAMW}; ema = 0.9; clip = 1.0", id="ema", marks=pytest.mark.thorough),
        pytest.param(
            "precision = bf16; optimizer = sgd(lr = 0.1, momentum = 0.9)",
            id="bf16",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_what_is_chosen_fits_when_it_is_run(settings: str, tmp_path: Path) -> None:
    """The whole training, from its data to its last weights, with all tensors that it makes."""
    text = SMALL + f"recipe quick {{ epochs = 2; batch = 240; {settings} }}"
    compiled = compile_spec(text=text)
    recipe = find_recipe(compiled.checked.module, None, "digits", {})
    (phase,) = recipe.phases
    step = PhaseStep(compiled.graph, phase, "fused", alone())
    data = open_data("synthetic:size=8,channels=1,classes=10,count=480,test=240")
    budget = HUGE
    for policy in ("none", "recompute"):
        chosen = step.choose(budget)
        assert chosen.policy == policy
        assert chosen.measured is not None
        budget = chosen.measured.peak - 1

        def train(policy: str = policy) -> None:
            model = emit_model(compiled.graph, 0, "fused", policy)
            checkpoints = Checkpoints(tmp_path / policy, print, print)
            fit(model, data, phase, RunSettings(checkpoint_steps=2), checkpoints=checkpoints)

        peak = peak_bytes(train)
        assert 0.7 * chosen.measured.peak < peak <= chosen.measured.peak


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


# -- building --------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_building_in_python(small: Path) -> None:
    none, lean = peaks(package.build(small).topology, 64, "fused")
    for memory, expected in (
        ("none", False),
        ("recompute", True),
        (str(none), False),
        (str(lean), True),
    ):
        model = package.build(small, backend="fused", memory=memory, batch=64)
        assert recomputes(model) == expected
    with pytest.raises(UserError, match=r"does not fit .* take a batch of about"):
        package.build(small, backend="fused", memory=str(lean - 1), batch=64)
    with pytest.raises(UserError, match="8XB"):
        package.build(small, memory="8XB", batch=64)
    with pytest.raises(TypeError, match="batch="):
        package.build(small, memory="8GB")


@pytest.mark.thorough
def test_outputs_that_are_no_classes_are_measured_too() -> None:
    graph = variety("unet")
    none, _ = peaks(graph, 8, "eager")
    assert none > step_memory(graph, 8, "eager", optimizer="sgd_momentum").total


def test_any_backend_is_measured(small: Path) -> None:
    pytest.importorskip("spikingjelly")
    graph = package.build(small).topology
    chosen = choose(graph, HUGE, batch=8, backend="spikingjelly")
    assert chosen.measured is not None
    assert chosen.measured.backend == "spikingjelly"


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("gathered", [False, True])
def test_what_does_not_go_with_the_batch_is_counted_exactly(
    small: Path, averaged: bool, gathered: bool
) -> None:
    """Weights, buffers, momentum and gradients, and the running mean of weights and buffers."""
    model = package.build(small, backend="eager")
    weights = sum(p.numel() for p in model.parameters())
    buffers = sum(b.nbytes for b in model.buffers())
    step = plain_step(model.topology, 8, torch.device("cpu"))
    found = replace(step, averaged=averaged, gathered=gathered).peak(model)
    copies = 8 if averaged else 0  # the number of averages
    copies += 4 * weights + buffers if averaged else 0
    assert found.fixed == 3 * 4 * weights + buffers + copies


def test_the_advice_counts_what_does_not_go_with_the_batch(small: Path) -> None:
    model = package.build(small, backend="eager")
    weights = sum(4 * p.numel() for p in model.parameters())
    fixed = show_size(3 * weights + sum(b.nbytes for b in model.buffers()))
    with pytest.raises(UserError, match=re.escape(f"the optimizer alone are {fixed})")):
        choose(model.topology, 1000, batch=8, backend="eager")


def test_a_step_leaves_the_random_state(small: Path) -> None:
    before = torch.get_rng_state()
    choose(package.build(small).topology, HUGE, batch=8, backend="eager")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_the_machine_has_not_is_not_tried(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a step was tried")

    monkeypatch.setattr("danetc.runtime.system.machine.free_memory", lambda: 1000)
    monkeypatch.setattr("danetc.tasks.memory.measured_step", fail)
    with pytest.raises(UserError, match=r"into 1.00 kB, all that this machine has free.*at least"):
        choose(package.build(small).topology, HUGE, batch=8, backend="eager")


@pytest.mark.thorough
def test_a_built_directory_keeps_its_policy(danetc: Run, small: Path, tmp_path: Path) -> None:
    none, lean = peaks(package.build(small).topology, 64, "eager")
    for number, (memory, policy) in enumerate(
        (("recompute", "recompute"), (str(lean), "recompute"), (str(none), "none"))
    ):
        result = danetc("build", small, "-o", f"d{number}", "--memory", memory, "--batch", "64")
        assert result.status == 0, result.err
        assert f"memory      {policy}" in result.out
        if memory.isdecimal():
            assert "a step (batch of 64, eager, float32), measured on cpu" in result.out
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


def test_the_summary_counts_each_policy(danetc: Run, small: Path) -> None:
    graph = package.build(small).topology
    lean = step_memory(graph, 64, "fused", "recompute", optimizer="adamw")
    options = ("summary", small, "--batch", "64", "--optimizer", "adamw")
    record = json.loads(danetc(*options, "--json").out)
    found = {(plan["backend"], plan["policy"]): plan for plan in record["memory"]}
    assert found[("fused", "recompute")] == lean.as_dict()
    assert set(found) == {(b, p) for b in ("eager", "fused") for p in ("none", "recompute")}
    result = danetc(*options)
    lines = [line.split() for line in result.out.splitlines()]
    (row,) = (line for line in lines if line[:2] == ["fused", "recompute"])
    assert " ".join(row[2:4]) == show_size(lean.saved)
    assert "batch 64, float32, adamw" in result.out
    assert "memory" not in json.loads(danetc("summary", small, "--json").out)
    half = json.loads(danetc(*options, "--precision", "bf16", "--json").out)
    assert half["memory"][0]["dtype"] == "bfloat16"
    assert half["memory"][0]["total"] < record["memory"][0]["total"]


@pytest.mark.usefixtures("short_samples")
def test_bench_under_a_policy(danetc: Run, small: Path) -> None:
    peak = {}
    for memory in ("none", "recompute"):
        options = ("--memory", memory, "--batch", "8", "--rounds", "1", "--threads", "1")
        result = danetc("bench", small, *options, "--json")
        assert result.status == 0, result.err
        rows = json.loads(result.out)["backends"]
        assert [row["memory"] for row in rows] == [memory] * 2
        peak[memory] = rows[0]["peak"]
    assert peak["recompute"] < peak["none"]
    result = danetc("bench", small, "--memory", "1kB")
    assert (result.status, "small does not fit into 1.00 kB" in result.err) == (1, True)
