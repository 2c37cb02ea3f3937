"""Backends from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import danetc as package
from danetc.errors import UserError
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.layers.fused import FusedNeuron

from .conftest import SMALL, Run

QUICK = "recipe quick { epochs = 1; batch = 500; optimizer = adamw(lr = 0.01) }\n"


@pytest.fixture(autouse=True)
def _with_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: None)


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.danet"
    path.write_text(SMALL + QUICK)
    return path


def record(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "training.json").read_text())
    return found


def has_regions(model: torch.nn.Module) -> bool:
    return any(isinstance(module, FusedNeuron) for module in model.modules())


@pytest.mark.thorough
def test_training_is_fused_by_default_and_close_to_eager(
    danetc: Run, quick: Path, tmp_path: Path
) -> None:
    losses = {}
    for name, options in (("fused", ()), ("eager", ("--backend", "eager"))):
        result = danetc("train", quick, "--data", "digits", "--quiet", "-o", name, *options)
        assert (result.status, result.err) == (0, "")
        found = record(tmp_path / name)
        assert found["backend"] == name
        (epoch,) = found["epochs"]  # type: ignore[misc]
        losses[name] = epoch["train_loss"]
    assert losses["fused"] == pytest.approx(losses["eager"], rel=0.02)
    eager, fused = (
        package.load(tmp_path / "fused", backend="eager"),
        package.load(tmp_path / "fused"),
    )
    assert not has_regions(eager)
    assert has_regions(fused)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(fused.eval()(x), eager.eval()(x))


def test_without_a_compiler_training_is_eager_and_says_why(
    danetc: Run, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "missing_compiler", lambda device: "no C++ compiler")
    result = danetc("train", quick, "--data", "digits", "--quiet", "-o", "run")
    assert result.status == 0
    assert result.err.count("note:") == 1
    assert "the backend is eager: there is no C++ compiler" in result.err
    assert record(tmp_path / "run")["backend"] == "eager"


@pytest.mark.thorough
def test_channels_last(danetc: Run, quick: Path, tmp_path: Path) -> None:
    for name, options in (("last", ("--channels-last",)), ("first", ())):
        result = danetc("train", quick, "--data", "digits", "--quiet", "-o", name, *options)
        assert (result.status, result.err) == (0, "")
        assert record(tmp_path / name)["channels_last"] == (name == "last")
    one, other = (record(tmp_path / name)["test_accuracy"] for name in ("last", "first"))
    assert isinstance(one, float)
    assert one == pytest.approx(other, abs=0.1)


def test_an_unknown_backend_is_wrong_usage(danetc: Run, quick: Path) -> None:
    result = danetc("train", quick, "--data", "digits", "--backend", "magic")
    assert result.status == 2
    assert "magic" in result.err
    with pytest.raises(UserError, match="no backend magic; there are eager, fused, spikingjelly"):
        package.build(quick, backend="magic")


def test_a_backend_that_is_not_installed_is_a_clear_error(
    danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ImportError("the backend `spikingjelly` needs SpikingJelly 2, which is not there")

    monkeypatch.setattr("danetc.runtime.layers.spikingjelly.require", missing)
    result = danetc("train", quick, "--data", "digits", "--backend", "spikingjelly")
    assert result.status == 1
    assert "needs SpikingJelly 2" in result.err


def test_build_gives_the_same_weights_for_each_backend(quick: Path) -> None:
    def weights(backend: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = package.build(quick, seed=3, backend=backend).state_dict()
        return found

    eager = weights("eager")
    for backend in ("fused", "spikingjelly"):
        other = weights(backend)
        assert list(other) == list(eager)
        assert all(torch.equal(value, other[name]) for name, value in eager.items())
