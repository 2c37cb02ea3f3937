"""`--memory`: policies by name and by a budget, in every command that takes them."""

from __future__ import annotations

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


def recomputes(model: torch.nn.Module) -> bool:
    return any(isinstance(module, Recomputed) for module in model.modules())


HUGE = 10**9


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("recompute", "recompute"),
        ("8GB", 8 * 10**9),
        ("8 gb", 8 * 10**9),
        ("1.5G", 15 * 10**8),
        ("512MiB", 512 * 2**20),
        ("64k", 64_000),
        ("100", 100),
        ("2 TiB", 2**41),
    ],
)
def test_memory_is_a_policy_or_a_size(text: str, memory: str | int) -> None:
    assert parse_memory(text) == memory


@pytest.mark.parametrize("text", ["", "GB", "8XB", "-1GB", "0GB", "8 G B", "eight", "1e9", "8i"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"size.*policy: none, recompute"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(8 * 10**9, "8.00 GB"), (10**7, "10.0 MB"), (10**5, "100 kB"), (12, "12 B")],
)
def test_sizes_are_shown(size: int, text: str) -> None:
    assert show_size(size) == text


TINY = """use std
network tiny {
  input = image(2, 4, 4); steps = 2; neuron = IF; surrogate = atan
  out = in -> conv(8) -> norm -> spike -> linear(5) -> mean_over_time
}
"""


def test_what_a_step_holds() -> None:
    graph = graph_of(TINY)
    small, large = (step_memory(plain_step(graph, "fused", n, optimizer="sgd")) for n in (8, 16))
    assert large.saved == pytest.approx(2 * small.saved, rel=0.1)
    parameters = sum(x.nbytes for x in emit_model(graph).parameters())
    assert large.weights == small.weights > parameters
    assert small.optimizer == 0
    assert large.fixed == small.fixed == small.weights + parameters
    momentum = step_memory(plain_step(graph, "fused", 8))
    assert momentum.optimizer == parameters
    adam = step_memory(plain_step(graph, "fused", 8, optimizer="adamw"))
    assert 2 * parameters < adam.optimizer < 2.1 * parameters  # and counts of steps
    mean = step_memory(replace(plain_step(graph, "fused", 8, optimizer="sgd"), averaged=True))
    assert mean.optimizer == mean.weights + 8  # and the number of averages
    learnt = sum(x.nbytes for x in emit_model(graph).linear.parameters())
    frozen = step_memory(replace(plain_step(graph, "fused", 8), frozen=["conv", "norm"]))
    assert (frozen.optimizer, frozen.fixed) == (learnt, frozen.weights + 2 * learnt)
    assert frozen.saved < small.saved
    parts = step_memory(replace(plain_step(graph, "fused", 16, optimizer="sgd"), accumulate=2))
    assert parts.saved == small.saved
    gathered = step_memory(replace(plain_step(graph, "fused", 8, optimizer="sgd"), processes=2))
    assert gathered.optimizer == 0
    assert gathered.fixed == small.fixed
    assert small.saved < step_memory(plain_step(graph, "eager", 8)).saved
    # Beside a training on a CPU: averaged weights, a checkpoint and its copy, and two more batches.
    cpu = step_memory(replace(plain_step(graph, "fused", 8), on_cpu=True))
    states = size_of(random_state(torch.device("cpu")).values())
    more = 2 * momentum.weights + momentum.optimizer + 2 * states
    assert cpu.fixed == momentum.fixed + more
    assert cpu.peak == momentum.peak + more + 2 * 8 * (2 * 4 * 4 * 4 + 8)


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
    compiled = compile_spec(text=SMALL + f"recipe quick {{ epochs = 1; {ADAMW}; {settings} }}")
    recipe = find_recipe(compiled.checked.module, None, "digits", {})
    request = TrainingRequest("")
    step = phase_step(request, compiled, recipe.phases[0], backend, World())
    assert (step.averaged, step.accumulate == 4) == ("ema" in settings, "accumulate" in settings)
    found = step_memory(step)
    assert found.peak > found.weights + found.optimizer + found.saved


@pytest.mark.parametrize(
    ("batch", "processes", "own"), [(1, 1, 1), (1, 2, 1), (3, 2, 1), (7, 2, 3)]
)
def test_a_process_has_its_share_of_the_batch(batch: int, processes: int, own: int) -> None:
    compiled = compile_spec(text=f"{SMALL}recipe quick {{ epochs = 1; {ADAMW}; batch = {batch} }}")
    phase = find_recipe(compiled.checked.module, None, "digits", {}).phases[0]
    step = phase_step(TrainingRequest(""), compiled, phase, "eager", World(size=processes))
    assert (step.batch, step.processes) == (own, processes)


# -- training --------------------------------------------------------------------------------------


def memory_of(danetc: Run, quick: Path, budget: int, *more: str) -> dict[str, Any]:
    """What a training under a budget has measured."""
    out = quick.parent / f"run-{budget}{''.join(more)}"
    result = danetc.passes("train", quick, *TRAIN, "--memory", str(budget), "-o", out, *more)
    record = json.loads((out / "training.json").read_text())
    chosen: dict[str, Any] = record["memory"]["train"]
    (line,) = (line for line in result.err.splitlines() if "note: memory" in line)
    peak = show_size(chosen["step"]["peak"])
    assert line.startswith(f"note: memory of phase train: {chosen['policy']}: {peak} at the peak")
    assert f"float32); the budget is {show_size(budget)}" in line or "bfloat16); the" in line
    assert chosen["budget"] == budget >= chosen["step"]["peak"]
    return {**chosen, "loss": record["epochs"][0]["train_loss"]}


@pytest.mark.thorough
def test_training_takes_the_cheapest_policy_that_fits(danetc: Run, quick: Path) -> None:
    """And where nothing fits it begins nothing, and says what does."""
    whole = memory_of(danetc, quick, HUGE)
    none = whole["step"]["peak"]
    exact = memory_of(danetc, quick, none)
    lean = memory_of(danetc, quick, none - 1)
    assert [each["policy"] for each in (whole, exact, lean)] == ["none", "none", "recompute"]
    assert len({each["loss"] for each in (whole, exact, lean)}) == 1, "both train the same"
    budget = lean["step"]["peak"] // 4 * 3
    options = ("train", quick, *TRAIN, "--memory", str(budget), "-o", quick.parent / "not")
    result = danetc(*options)
    assert result.status == 1
    assert not (quick.parent / "not").exists()
    assert "phase `train`: small does not fit into" in result.err
    size = show_size(lean["step"]["peak"])
    assert f"a step takes {size} at the peak of a step" in result.err
    found = re.search(r"a batch of about (\d+), or accumulate = (\d+)", result.err)
    assert found is not None, result.err
    for change in (f"batch={found[1]}", f"accumulate={found[2]}"):
        memory_of(danetc, quick, budget, "--set", f"recipe.{change}")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings", [f"{ADAMW}; ema = 0.9; clip = 1.0", f"{ADAMW}; precision = bf16"]
)
def test_what_is_chosen_fits_when_it_is_run(settings: str, tmp_path: Path) -> None:
    """The whole training, from its data to its last weights, with all tensors that it makes."""
    text = SMALL + f"recipe quick {{ epochs = 2; batch = 240; {settings} }}"
    compiled = compile_spec(text=text)
    recipe = find_recipe(compiled.checked.module, None, "digits", {})
    (phase,) = recipe.phases
    request = TrainingRequest("", text=text, data="digits")
    step = phase_step(request, compiled, phase, "fused", World())
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
    """Of a step of 1000 bytes, and 1000 for each of the 4 images of a part with the leaner policy."""
    peaks = {"none": 9000, "recompute": 5000}
    monkeypatch.setattr(
        "danetc.tasks.memory.step_memory",
        lambda step, policy: StepMemory(
            policy, "eager", "float32", 8, 1, 0, 0, 1000, peaks[policy]
        ),
    )
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


def test_what_the_machine_has_not_is_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.runtime.system.machine.free_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"into 1.00 kB, all that this machine has free.* takes"):
        choose(package.build(small).topology, HUGE, batch=8, backend="eager")


def test_a_built_directory_keeps_its_policy(danetc: Run, small: Path) -> None:
    assert (
        "memory      recompute"
        in danetc.passes("build", small, "-o", "out", "--memory", "recompute").out
    )
    for memory, wanted in ((None, True), ("none", False), ("recompute", True)):
        assert recomputes(package.load("out", memory=memory)) == wanted
    with pytest.raises(UserError, match="memory is one of none, recompute, not 'lean'"):
        package.load("out", memory="lean")


def test_a_directory_that_nothing_fits_is_not_written(danetc: Run, small: Path) -> None:
    asked = ("build", small, "-o", "out", "--memory", "1kB")
    danetc.fails("not even a batch of 1 fits", *asked, "--batch", "64")
    assert not Path("out").exists()
    danetc.fails("--batch", *asked, status=2)


# -- the summary -----------------------------------------------------------------------------------


def test_the_summary_counts_each_policy(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "tiny.danet").write_text(TINY)
    step = plain_step(graph_of(TINY), "fused", 64, "bf16", "adamw")
    lean = step_memory(step, "recompute")
    how = ("--batch", "64", "--optimizer", "adamw", "--precision", "bf16")
    options = ("summary", "tiny.danet", *how)
    record = json.loads(danetc(*options, "--json").out)
    found = {(plan["backend"], plan["policy"]): plan for plan in record["memory"]}
    assert found[("fused", "recompute")] == asdict(lean)
    assert set(found) == {(b, p) for b in ("eager", "fused") for p in ("none", "recompute")}
    result = danetc(*options)
    lines = [line.split() for line in result.out.splitlines()]
    (row,) = (line for line in lines if line[:2] == ["fused", "recompute"])
    assert " ".join(row[2:4]) == show_size(lean.saved)
    assert " ".join(row[8:10]) == show_size(lean.peak)
    assert "batch 64, bfloat16, adamw" in result.out
    assert "memory" not in json.loads(danetc("summary", "tiny.danet", "--json").out)
