"""The ``precision`` of a recipe: torch's switches of TF32, and what the record says of them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.system.devices import arithmetic
from danetc.runtime.training.observer import StepReport
from danetc.runtime.training.state import determinism

from .common import ADAM, STILL, Watcher, phase, run, small

CPU, GPU = torch.device("cpu"), torch.device("cuda")
IEEE, TF32 = (("ieee", "ieee"), ("tf32", "tf32"))


def switches() -> tuple[str, str]:
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    return conv.fp32_precision, matmul.fp32_precision


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "fp16"])
def test_switches_are_set_together_and_restored(
    precision: str, device: torch.device, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: supported)
    before = switches()
    expected = TF32 if (precision, device, supported) == ("tf32", GPU, True) else IEEE
    with suppress(KeyError), arithmetic(precision, device):
        assert switches() == expected
        raise KeyError
    assert switches() == before
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32  # torch raises an error if old and new ones disagree


@pytest.mark.parametrize("wanted", [True, False])
def test_determinism_leaves_new_memory_as_it_is(wanted: bool) -> None:
    memory: Any = torch.utils.deterministic
    assert memory.fill_uninitialized_memory  # torch's default
    with suppress(KeyError), determinism(GPU, wanted):
        assert torch.are_deterministic_algorithms_enabled() is wanted
        assert not memory.fill_uninitialized_memory
        raise KeyError
    assert memory.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_training_sets_them(few: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.runtime.system.devices.has_tf32", lambda device: True)
    seen = []

    class Looks(Watcher):
        def on_step_end(self, report: StepReport) -> None:
            seen.append(switches())

    for precision in ("float32", "tf32"):
        run(small(), few, phase(f"{ADAM}; precision = {precision}"), watcher=Looks())
    assert [seen[0], seen[-1]] == [IEEE, TF32]


def test_a_run_records_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = "phase a { precision = tf32 } phase b { start = a }"
    text = STILL + f"recipe r {{ epochs = 1; optimizer = adamw(lr = 0.01); {phases} }}"

    def train(name: str) -> tuple[object, str]:
        done = danetc.train(text=text, output=tmp_path / name, backend="eager", device="cpu")
        facts = json.loads((tmp_path / name / "run.json").read_text())["facts"]
        return facts["float32_products"], "\n".join(done.notes)

    found, notes = train("cpu")
    assert found == {"a": "ieee", "b": "ieee"}
    assert "cpu has no TF32: precision = tf32 computes as float32 does" in notes
    for module in ("runtime.system.devices", "tasks.training.plan"):
        monkeypatch.setattr(f"danetc.{module}.has_tf32", lambda device: True)
    found, notes = train("gpu")
    assert found == {"a": "tf32", "b": "ieee"}
    assert "precision = float32 multiplies without TF32" in notes
    assert "no TF32" not in notes
