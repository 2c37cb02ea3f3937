"""Backends from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc as package
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.layers.fused import FusedNeuron

from .conftest import Run


@pytest.fixture(autouse=True)
def _with_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: None)


def train(danetc: Run, quick: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Train quietly; return the record and what was noted."""
    result = danetc.passes(
        "train", quick, "--data", "digits", "--quiet", "-o", "run", "--fresh", *options
    )
    return json.loads((quick.parent / "run" / "training.json").read_text()), result.err


def has_regions(model: torch.nn.Module) -> bool:
    return any(isinstance(module, FusedNeuron) for module in model.modules())


@pytest.mark.thorough
def test_training_is_fused_by_default_and_close_to_eager(danetc: Run, quick: Path) -> None:
    eager, noted = train(danetc, quick, "--backend", "eager")
    last, _ = train(danetc, quick, "--channels-last")
    fused, _ = train(danetc, quick)
    assert (eager["backend"], fused["backend"], noted) == ("eager", "fused", "")
    losses = [found["epochs"][0]["train_loss"] for found in (fused, eager)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert (last["channels_last"], fused["channels_last"]) == (True, False)
    assert last["test_accuracy"] == pytest.approx(fused["test_accuracy"], abs=0.1)
    one, other = (package.load(quick.parent / "run", backend=name) for name in ("eager", "fused"))
    assert (has_regions(one), has_regions(other)) == (False, True)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(other.eval()(x), one.eval()(x))


def test_no_compiler_means_eager(danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: "no C++ compiler")
    found, noted = train(danetc, quick)
    assert noted.count("note:") == 1
    assert "the backend is eager: there is no C++ compiler" in noted
    assert found["backend"] == "eager"


def test_backend_not_installed(danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("the backend `spikingjelly` needs SpikingJelly 2, which is not installed")

    monkeypatch.setattr("danetc.runtime.layers.spikingjelly.require", missing)
    danetc.fails(
        "needs SpikingJelly 2", "train", quick, "--data", "digits", "--backend", "spikingjelly"
    )


def test_build_gives_the_same_weights_for_each_backend(quick: Path) -> None:
    eager, *others = (
        package.build(quick, seed=3, backend=backend).state_dict()
        for backend in ("eager", "fused", "spikingjelly")
    )
    for other in others:
        assert list(other) == list(eager)
        assert all(torch.equal(value, other[name]) for name, value in eager.items())
