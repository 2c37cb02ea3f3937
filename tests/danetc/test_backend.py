"""Backends from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from danetc.main import COMMANDS, program
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.system.files import read_record

from .conftest import FEW, SMALL, Run


def test_no_compiler_means_eager(danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: "no C++ compiler")
    noted = danetc.passes("train", quick, "--data", FEW, "--quiet", "-o", "run").err
    assert noted.count("note:") == 1
    assert "the backend is eager: there is no C++ compiler" in noted
    assert read_record(Path("run/training.json"))["backend"] == "eager"


def test_backend_not_installed(danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("the backend `spikingjelly` needs SpikingJelly 2, which is not installed")

    monkeypatch.setattr("danetc.runtime.layers.spikingjelly.require", missing)
    danetc.fails(
        "needs SpikingJelly 2", "train", quick, "--data", "digits", "--backend", "spikingjelly"
    )


# -- devices ---------------------------------------------------------------------------------------


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
