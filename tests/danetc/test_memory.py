"""`--memory`: policies by name and by a budget, in every command that takes them."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc as package
from benchmarks.allocated import peak_bytes
from danetc.arguments import parse_memory
from danetc.errors import UserError
from danetc.output.figures import show_size
from danetc.requests import TrainingRequest
from danetc.runtime.data.registry import open_data
from danetc.runtime.layers.segments import Recomputed
from danetc.runtime.training.checkpoints import Checkpoints
from danetc.runtime.training.distributed import World
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import RunSettings
from danetc.runtime.training.state import random_state
from danetc.tasks.memory import StepMemory, choose, fitting, plain_step, size_of, step_memory
from danetc.tasks.networks import compile_spec, emit_model
from danetc.tasks.training.plan import find_recipe, phase_step
from tests.differential.helpers import text as graph_of

from .conftest import SMALL, Run

ADAMW = "optimizer = adamw(lr = 0.01)"
QUICK = "recipe quick { epochs = 1; batch = 500; optimizer = adamw(lr = 0.01) }\n"
DATA = "synthetic:size=8,channels=1,classes=10,count=500,test=60"
TRAIN = ("--data", DATA, "--quiet", "--backend", "fused")


HUGE = 10**9


def test_memory_is_a_policy_or_a_size() -> None:
    sizes = {"8GB": 8 * 10**9, "8 gb": 8 * 10**9, "1.5G": 15 * 10**8, "512MiB": 512 * 2**20}
    sizes |= {"64k": 64_000, "100": 100, "2 TiB": 2**41}
    for text, memory in {**sizes, "recompute": "recompute"}.items():
        assert parse_memory(text) == memory
    for text in ("", "GB", "8XB", "-1GB", "0GB", "8 G B", "eight", "1e9", "8i"):
        with pytest.raises(ValueError, match=r"size.*policy: none, recompute"):
            parse_memory(text)
    shown = {8 * 10**9: "8.00 GB", 10**7: "10.0 MB", 10**5: "100 kB", 12: "12 B"}
    assert {size: show_size(size) for size in shown} == shown


TINY = """use std
network tiny {
  input = image(2, 4, 4); steps = 2; neuron = IF; surrogate = atan
  out = in -> conv(8) -> norm -> spike -> linear(5) -> mean_over_time
}
"""


def test_what_a_step_holds() -> None:
    graph = graph_of(TINY)

    def held(batch: int = 8, optimizer: str = "sgd", **more: Any) -> StepMemory:
        return step_memory(replace(plain_step(graph, "fused", batch, optimizer=optimizer), **more))

    small, large, momentum = held(), held(16), step_memory(plain_step(graph, "fused", 8))
    parameters = sum(x.nbytes for x in emit_model(graph).parameters())
    assert large.weights == small.weights > parameters
    assert large.fixed == small.fixed == small.weights + parameters
    assert (small.optimizer, momentum.optimizer) == (0, parameters)
    assert 2 * parameters < held(8, "adamw").optimizer < 2.1 * parameters  # plus counts of steps
    mean = held(averaged=True)
    assert mean.optimizer == mean.weights + 8  # plus the number of averages
    learnt = sum(x.nbytes for x in emit_model(graph).linear.parameters())
    frozen = step_memory(replace(plain_step(graph, "fused", 8), frozen=["conv", "norm"]))
    assert (frozen.optimizer, frozen.fixed) == (learnt, frozen.weights + 2 * learnt)
    assert frozen.saved < small.saved < step_memory(plain_step(graph, "eager", 8)).saved
    assert held(16, accumulate=2).saved == small.saved == pytest.approx(large.saved / 2, rel=0.1)
    gathered = held(processes=2)
    assert (gathered.optimizer, gathered.fixed) == (0, small.fixed)
    # A CPU also holds two copies of the weights, one of the optimizer, two random states, two batches.
    cpu = step_memory(replace(plain_step(graph, "fused", 8), on_cpu=True))
    states = size_of(random_state(torch.device("cpu")).values())
    more = 2 * momentum.weights + momentum.optimizer + 2 * states
    assert cpu.fixed == momentum.fixed + more
    assert cpu.peak == momentum.peak + more + 2 * 8 * (2 * 4 * 4 * 4 + 8)


def recipe_of(settings: str) -> tuple[Any, Any]:
    compiled = compile_spec(text=f"{SMALL}recipe quick {{ {settings} }}")
    (phase,) = find_recipe(compiled.checked.module, None, "digits", {}).phases
    return compiled, phase


@pytest.mark.parametrize(
    ("settings", "backend"),
    [
        ("loss = mse; gradient = truncated(steps = 2)", "fused"),
        ("loss = cross_entropy + firing_rate(target = 0.1)", "fused"),
        ("loss = cross_entropy + membrane(target = 0.1); clip = 1.0", "fused"),
        ("gradient = representation", "eager"),
        ('loss = distill(teacher = "pretrained:ann_c_small_digits") + cross_entropy', "eager"),
        ("gradient = online(trace = 0.5); ema = 0.9; accumulate = 4", "eager"),
    ],
)
def test_losses_and_gradients_need_no_values(settings: str, backend: str) -> None:
    recipe = recipe_of(f"epochs = 1; {ADAMW}; {settings}")
    step = phase_step(TrainingRequest(""), *recipe, backend, World())
    assert (step.averaged, step.accumulate == 4) == ("ema" in settings, "accumulate" in settings)
    found = step_memory(step)
    assert found.peak > found.weights + found.optimizer + found.saved


def test_a_process_has_its_share_of_the_batch() -> None:
    for batch, processes, own in ((1, 1, 1), (1, 2, 1), (3, 2, 1), (7, 2, 3)):
        recipe = recipe_of(f"epochs = 1; {ADAMW}; batch = {batch}")
        step = phase_step(TrainingRequest(""), *recipe, "eager", World(size=processes))
        assert (step.batch, step.processes) == (own, processes)


# -- training --------------------------------------------------------------------------------------


def memory_of(danetc: Run, quick: Path, budget: int, *more: str) -> dict[str, Any]:
    out = quick.parent / f"run-{budget}{''.join(more)}"
    result = danetc.passes("train", quick, *TRAIN, "--memory", budget, "-o", out, *more)
    record = json.loads((out / "training.json").read_text())
    chosen: dict[str, Any] = record["memory"]["train"]
    peak = show_size(chosen["step"]["peak"])
    told = f"note: memory of phase train: {chosen['policy']}: {peak} at the peak"
    assert re.search(rf"^{told}.*float32\); the budget is {show_size(budget)}", result.err, re.M)
    assert chosen["budget"] == budget >= chosen["step"]["peak"]
    return {**chosen, "loss": record["epochs"][0]["train_loss"]}


@pytest.mark.thorough
def test_training_takes_the_cheapest_policy_that_fits(danetc: Run, quick: Path) -> None:
    """If no policy fits, training does not start, and the error suggests changes that fit."""
    whole = memory_of(danetc, quick, HUGE)
    none = whole["step"]["peak"]
    exact, lean = (memory_of(danetc, quick, budget) for budget in (none, none - 1))
    assert [each["policy"] for each in (whole, exact, lean)] == ["none", "none", "recompute"]
    assert len({each["loss"] for each in (whole, exact, lean)}) == 1, "both train the same"
    peak = lean["step"]["peak"]
    budget = peak // 4 * 3
    told = f"a step takes {show_size(peak)} at the peak of a step"
    result = danetc.fails(told, "train", quick, *TRAIN, "--memory", budget, "-o", "not")
    assert not Path("not").exists()
    assert "phase `train`: small does not fit into" in result.err
    found = re.search(r"a batch of about (\d+), or accumulate = (\d+)", result.err)
    assert found is not None, result.err
    for change in (f"batch={found[1]}", f"accumulate={found[2]}"):
        memory_of(danetc, quick, budget, "--set", f"recipe.{change}")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings", [f"{ADAMW}; ema = 0.9; clip = 1.0", f"{ADAMW}; precision = bf16"]
)
def test_what_is_chosen_fits_when_it_is_run(settings: str, tmp_path: Path) -> None:
    """The measured peak covers the whole training and all its tensors, from its data to its last weights."""
    compiled, phase = recipe_of(f"epochs = 2; batch = 240; {settings}")
    step = phase_step(TrainingRequest(""), compiled, phase, "fused", World())
    data = open_data("synthetic:size=8,channels=1,classes=10,count=480,test=240")
    budget = HUGE
    for policy in ("none", "recompute"):
        chosen = fitting(step, budget, None)
        assert chosen.policy == policy
        budget = chosen.step.peak - 1

        def train(policy: str = policy) -> None:
            model = emit_model(compiled.graph, "fused", policy)
            checkpoints = Checkpoints(tmp_path / policy, print, print)
            settings = RunSettings(checkpoint_steps=2)
            fit(PhaseRun(model, data, phase, settings, checkpoints=checkpoints))

        peak = peak_bytes(train)
        assert 0.7 * chosen.step.peak < peak <= chosen.step.peak


# -- building --------------------------------------------------------------------------------------


def test_what_to_change_where_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the leaner policy, a step takes 1000 bytes plus 1000 for each of the 4 images of a part."""
    peaks = {"none": 9000, "recompute": 5000}
    known = {
        name: StepMemory(name, "eager", "float32", 8, 1, 0, 0, 1000, peaks[name]) for name in peaks
    }
    monkeypatch.setattr("danetc.tasks.memory.step_memory", lambda step, policy: known[policy])
    graph = graph_of(TINY)
    for room, precision, advice in (
        (4999, "bf16", "a batch of about 6, or accumulate = 3"),
        (3000, "tf32", "a batch of about 4, or accumulate = 4 or precision = bf16"),
        (2000, "bf16", "a batch of about 2, or accumulate = 8"),
        (1999, "bf16", r"not even a batch of 1 fits \(.* alone are 1.00 kB\)"),
    ):
        step = replace(plain_step(graph, "eager", 8, precision), accumulate=2)
        with pytest.raises(UserError, match=rf"machine has free: a step .* take .*{advice}$"):
            fitting(step, HUGE, room)
    assert fitting(step, 5000, None).policy == "recompute"

    monkeypatch.undo()
    monkeypatch.setattr("danetc.runtime.system.machine.free_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"into 1.00 kB, all that this machine has free.* takes"):
        choose(graph, HUGE, batch=8, backend="eager")


def test_a_built_directory_keeps_its_policy(danetc: Run, small: Path) -> None:
    built = danetc.passes("build", small, "-o", "out", "--memory", "recompute").out
    assert "memory      recompute" in built
    for memory, wanted in ((None, True), ("none", False), ("recompute", True)):
        modules = package.load("out", memory=memory).modules()
        assert any(isinstance(each, Recomputed) for each in modules) == wanted
    with pytest.raises(UserError, match="memory is one of none, recompute, not 'lean'"):
        package.load("out", memory="lean")

    asked = ("build", small, "-o", "not", "--memory", "1kB", "--batch", "64")
    danetc.fails("not even a batch of 1 fits", *asked)
    assert not Path("not").exists()


# -- the summary -----------------------------------------------------------------------------------


def test_the_summary_counts_each_policy(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "tiny.danet").write_text(TINY)
    step = plain_step(graph_of(TINY), "fused", 64, "bf16", "adamw")
    lean = step_memory(step, "recompute")
    how = ("--batch", "64", "--optimizer", "adamw", "--precision", "bf16")
    options = ("summary", "tiny.danet", *how)
    plans = danetc.json(*options)["memory"]
    found = {(plan["backend"], plan["policy"]): plan for plan in plans}
    assert found[("fused", "recompute")] == asdict(lean)
    assert set(found) == {(b, p) for b in ("eager", "fused") for p in ("none", "recompute")}
    shown = danetc.passes(*options).out
    (row,) = (line.split() for line in shown.splitlines() if "fused  " in line and "recomp" in line)
    assert " ".join(row[2:4]) == show_size(lean.saved)
    assert " ".join(row[8:10]) == show_size(lean.peak)
    assert "batch 64, bfloat16, adamw" in shown
    assert "memory" not in danetc.json("summary", "tiny.danet")
