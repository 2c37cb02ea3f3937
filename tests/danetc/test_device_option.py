"""``--device`` of every command that runs a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from danetc.main import COMMANDS, program

from .conftest import FEW, SMALL, Run

SHIPPED = "pretrained:danet_c_small_digits"
GRID = ("small.danet", "--grid", "steps=1,2", "--data", FEW)
RUNS = {
    "train": ("small.danet", "--data", FEW),
    "eval": (SHIPPED,),
    "predict": (SHIPPED, "small.danet"),
    "record": (SHIPPED, "--data", "digits"),
    "measure": (SHIPPED, "--data", "digits", "--batches", "1"),
    "convert": ("pretrained:ann_c_small_digits",),
    "export": (SHIPPED, "-o", "x.safetensors"),
    "compare": GRID,
    "search": (*GRID, "--select-on", "test"),
    "bench": ("small.danet",),
    "report": ("built", "--data", "digits"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_device_that_is_missing(name: str, danetc: Run, small: Path) -> None:
    if name == "search":
        pytest.importorskip("optuna")
    if name == "report":
        assert danetc("build", small, "-o", "built").status == 0
    result = danetc(name, *RUNS[name], "--device", "xpu:7")
    assert result.status == 1, result.err
    assert "this machine has no device xpu:7; it has cpu" in result.err
    assert {each.name for each in small.parent.iterdir()} <= {"small.danet", "built"}


def test_commands_that_run_a_network_have_it() -> None:
    with program.make_context("danetc", [], resilient_parsing=True) as context:
        found = {
            name: program.get_command(context, name).params  # type: ignore[union-attr]
            for name in COMMANDS
        }
    having = {name for name, params in found.items() if "device" in {each.name for each in params}}
    assert having == set(RUNS)


def test_on_the_cpu(danetc: Run, small: Path) -> None:
    small.write_text(SMALL + "recipe r { epochs = 1; batch = 50; optimizer = adamw(lr = 0.01) }")
    assert danetc("train", small, "--data", FEW, "--device", "cpu", "-o", "run").status == 0
    facts = json.loads(Path("run/run.json").read_text())["facts"]
    assert facts["device"] == "cpu"
    plain, given = (danetc("eval", "run", *more) for more in ((), ("--device", "cpu")))
    assert (given.status, given.out) == (0, plain.out)
