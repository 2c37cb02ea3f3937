"""All parts of benchmarks/gpu.py run, small, on the CPU; only its results need a GPU."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = ["--device", "cpu", "--tiny"]


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        before = {*sys.modules}
        module = importlib.import_module("gpu")
        sys.modules["timing"].SAMPLE = 0.0  # type: ignore[attr-defined]
        yield module
        for name in {"gpu", "common", "candidates", "counterparts", "steps", "timing"} - before:
            sys.modules.pop(name, None)


@pytest.mark.thorough
@pytest.mark.parametrize("part", ["agree", "first", "roofline", "steps", "regions"])
def test_parts(gpu: Any, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "table.md"
    assert gpu.main([*TINY, "--parts", part, "--output", str(output)]) == 0, capsys.readouterr().err
    rows = [line for line in output.read_text().splitlines() if line.startswith(f"| {part}: ")]
    assert len(rows) >= {"agree": 4, "first": 2, "steps": 4, "regions": 4, "roofline": 3}[part]
    assert "its figures mean nothing" in output.read_text()
    assert not any("nan" in row for row in rows)


def test_what_fails_is_the_status(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(at: Any) -> Iterator[Any]:
        yield gpu.Row("agree: one row", 2.0, most=1.0)
        raise ValueError("no such kernel")

    monkeypatch.setattr(gpu, "PARTS", {"agree": breaks, "regions": lambda at: iter(())})
    assert gpu.main([*TINY, "--parts", "agree", "regions"]) == 1
    said = capsys.readouterr().err
    assert "FAILED  agree: one row: " in said
    assert "FAILED  agree failed: ValueError: no such kernel" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 1
    assert "torch finds none here" in capsys.readouterr().err
    assert gpu.main(["--device", "cpu"]) == 1
    assert "takes --tiny" in capsys.readouterr().err
