"""`danetc build` and the Python interface: model directories, whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import danetc as package
from danetc.runtime.system.files import read_record, save_record

from .conftest import SMALL, Run

FILES = (
    *("model.py", "spec.danet", "small.graph", "topology.svg"),
    *("summary.json", "weights.safetensors"),
)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def output(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        result = model(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert isinstance(result, torch.Tensor)
    return result


# -- what is written -------------------------------------------------------------------------------


def test_build_writes_everything_and_prints_the_summary(danetc: Run, small: Path) -> None:
    result = danetc("build", small)
    assert (result.status, result.err) == (0, "")
    directory = Path("build/small")
    assert names(directory) == {*FILES}
    assert names(Path("build")) == {"small"}
    assert result.out.startswith("small, T = 2\n")
    assert "build/small" in result.out
    record = json.loads((directory / "summary.json").read_text())
    assert record["network"] == "small"
    assert record["danetc"] == package.__version__
    assert record["seed"] == 0
    assert record["summary"]["parameters"] > 0
    Path("new").mkdir()
    Path("new/file").write_text("")
    assert directory.stat().st_mode == Path("new").stat().st_mode
    modes = {path.stat().st_mode for path in directory.iterdir()}
    assert modes == {Path("new/file").stat().st_mode}


def test_what_is_loaded_is_what_was_built(danetc: Run, small: Path, tmp_path: Path) -> None:
    plif = ("--seed", "5", "--set", "neuron=PLIF(tau = 3.0)")
    printed = json.loads(danetc("build", small, "-o", "out", *plif, "--json").out)
    assert printed == json.loads(Path("out/summary.json").read_text())
    expected = output(package.build(small, set={"neuron": "PLIF(tau = 3.0)"}, seed=5))
    assert torch.equal(output(package.load(tmp_path / "out")), expected)
    assert not torch.equal(output(package.build(small, seed=6)), expected)


# -- what is replaced, and what is not -------------------------------------------------------------


@pytest.mark.parametrize("target", ["out", "link"])
def test_an_older_directory_is_replaced(
    danetc: Run, small: Path, tmp_path: Path, target: str
) -> None:
    """Also through a link, which stays one."""
    danetc("build", small, "-o", "out")
    (tmp_path / "out" / "__pycache__").mkdir()
    (tmp_path / "link").symlink_to("out")
    danetc.passes("build", small, "-o", target, "--set", "classes=3")
    assert names(tmp_path / "out") == {*FILES}
    assert output(package.load(tmp_path / "out")).shape == (2, 3)
    assert names(tmp_path) == {"out", "link", "small.danet"}
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("target", ["full", "file", "built", ".", ".."])
def test_what_danetc_has_not_written_is_not_replaced(danetc: Run, small: Path, target: str) -> None:
    danetc("build", small, "-o", "built")
    Path("built/notes.txt").write_text("notes")
    Path("full").mkdir()
    Path("full/thesis.tex").write_text("years of work")
    Path("file").write_text("work")
    before = sorted(Path().rglob("*"))
    danetc.fails(target, "build", small, "-o", target)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_failure_leaves_the_old_directory_and_nothing_else(
    danetc: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    danetc("build", small, "-o", "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "write":
        monkeypatch.setattr(os, "fsync", fail)
    else:  # the old directory is aside when the new one cannot take its place
        rename = Path.rename
        monkeypatch.setattr(
            Path,
            "rename",
            lambda self, target: (
                fail()
                if (self / "summary.json").exists()
                and self.name.startswith(".")
                and not self.name.endswith(".old")
                else rename(self, target)
            ),
        )
    result = danetc("build", small, "-o", "out", "--set", "classes=3")
    monkeypatch.undo()
    assert result.status == 1
    assert "No space left" in result.err
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert names(tmp_path) == {"out", "small.danet"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "steps=0"],
        ["--set", "classes=9**9**9"],
        ["--set", "neuron=__import__('os')"],
        ["--set", "input=image(1, 1000000, 1000000)"],
        ["-n", "nowhere"],
        ["--init", "small.danet"],
    ],
)
def test_bad_arguments_are_clear_errors_that_leave_nothing(
    danetc: Run, small: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = danetc("build", small, *arguments)
    assert result.status == 1
    assert result.err.strip()
    assert names(tmp_path) == {"small.danet"}


# -- load ------------------------------------------------------------------------------------------


def test_a_directory_of_a_newer_danetc_and_none_at_all(danetc: Run, small: Path) -> None:
    danetc("build", small, "-o", "out")
    path = Path("out/summary.json")
    save_record({**read_record(path), "format": 99}, path)
    for place, message in (("out", "newer danetc"), ("nothing", "danetc build")):
        with pytest.raises(package.UserError, match=message):
            package.load(place)


# -- the Python interface --------------------------------------------------------------------------


def test_build_takes_text_or_a_path_but_not_both(small: Path) -> None:
    assert torch.equal(output(package.build(text=SMALL)), output(package.build(small)))
    for function in (package.build, package.draw, package.train):
        for given in ((), (small,)):
            with pytest.raises(TypeError):
                function(*given, **{"text": SMALL} if given else {})  # type: ignore[operator]


@pytest.mark.thorough
def test_building_does_not_import_the_compiler_of_torch() -> None:
    """It takes a second, and only a compiled kernel needs it."""
    program = (
        "import sys, torch; before = 'torch._dynamo' in sys.modules; import danetc; "
        "danetc.build('danet_c_small', memory='recompute'); "
        "assert before or 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
