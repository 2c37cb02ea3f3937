"""Run directories for the tests of reports, and malicious texts."""

from pathlib import Path
from typing import Any

from danetc.main import main
from danetc.runtime.system.files import save_record

NETWORK = """\
use std

network {name} {{
  input = image(1, 8, 8); steps = 2; neuron = LIF; surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> spike
  stages = (stage(basic(4), 3) -> stage(basic(4), 2, stride = 2)) via origin by densely_additive
  head = avgpool -> mean_over_time -> linear(10)
}}
"""
HARM = "<img src=x onerror=pwned=1>\"'&"
SCRIPT = "</pre></script><script>window.pwned=1</script>"


def do(*arguments: object) -> None:
    status = main([str(argument) for argument in arguments])
    assert status == 0, arguments


def built(folder: Path, name: str = "other") -> Path:
    """Build an untrained network in a directory with its name."""
    spec, run = folder / f"{name}.danet", folder / name
    spec.write_text(NETWORK.format(name=name), encoding="utf-8")
    do("build", spec, "-o", run)
    return run


def recorded(folder: Path) -> Path:
    """Write the record of a grid of two cells, the first of them trained. Return its run."""
    facts: dict[str, Any] = dict.fromkeys(("network", "connection", "rule", "recipe"), "x")
    facts |= {"parameters": 7, "classes": 2, "depth": 20, "cost": 6}
    facts |= {"steps": [1, 4], "epochs": [2, 1]}
    cells: list[dict[str, Any]] = [
        {
            "name": f"net,stages={seed}",
            "axes": {"network": "net", "stages": f"a, {seed}"},
            "facts": facts,
            "runs": [{"seed": seed, "directory": f"cell/seed-{seed}", "state": "waiting"}],
        }
        for seed in (3, 4)
    ]
    axes = ["network", "stages"]
    save_record({"format": 1, "data": "digits", "axes": axes, "cells": cells}, folder / "grid.json")
    run = folder / "cell" / "seed-3"
    run.mkdir(parents=True)
    curves = ("test_accuracy", "train_accuracy", "train_loss")
    epochs = [dict.fromkeys(curves, value) for value in (0.25, 0.5, 0.375)]
    save_record({"epochs": epochs}, run / "training.json")
    return run
