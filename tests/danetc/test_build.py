"""`danetc build` and the Python interface: model directories, whole or not at all."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import danetc as package
from danetc.compiler.emit.fx import emit
from danetc.errors import UserError
from danetc.runtime.system.files import read_record, save_record
from danetc.tasks.exporting import FileComparison, compare_file
from danetc.tasks.formats import FORMATS, Content
from tests.differential.helpers import text
from tests.differential.networks import small as small_network
from tests.varying import make_vary
from tests.written import save_tensors

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


# -- export: the same numbers from what it writes, by model.py, by torch and by others -------------


def awake(danetc: Run, text: str, directory: Path) -> nn.Module:
    """A directory of a network whose outputs vary; its model."""
    directory.with_suffix(".danet").write_text(text)
    assert danetc("build", directory.with_suffix(".danet"), "-o", directory).status == 0
    graph: Any = package.load(directory).topology
    model = emit(graph)
    with torch.no_grad():
        make_vary(model, graph)
    save_tensors(model.state_dict(), directory / "weights.safetensors")
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    return 3 * torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_model_py_with_exported_weights_gives_the_same_numbers(danetc: Run, images: Tensor) -> None:
    model = awake(danetc, SMALL, Path("net"))
    result = danetc.passes("export", "net", "-o", "w.safetensors")
    assert "model.load('w.safetensors')" in result.out
    spec = importlib.util.spec_from_file_location("exported_model", Path("net/model.py"))
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    other = module.load(str(Path("w.safetensors"))).eval()
    with torch.no_grad():
        assert torch.equal(other(images), model(images))
    assert danetc("export", "net", "-o", "w.pth", "--json").status == 0
    state = torch.load(Path("w.pth"), weights_only=True)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("ending", FORMATS)
def test_formats_say_how_to_read(danetc: Run, small: Path, tmp_path: Path, ending: str) -> None:
    assert danetc("build", small, "-o", "net").status == 0
    result = danetc.passes("export", "net", "-o", f"out{ending}")
    assert f"out{ending}" in result.out.splitlines()[1]
    assert (tmp_path / f"out{ending}").stat().st_size > 1000
    assert ending in danetc("export", "--help").out


@pytest.mark.thorough
def test_a_program_runs_without_danetc(danetc: Run, tmp_path: Path) -> None:
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    images *= torch.tensor([0.5, 1.5, 3.0]).view(-1, 1, 1, 1)
    model = awake(danetc, SMALL, tmp_path / "net")
    result = danetc.passes("export", "net", "-o", "net.pt2")
    assert "read back: 100 of 100 random samples agree" in result.out
    torch.save(images, tmp_path / "images.pth")
    code = (
        "import sys, torch\n"
        "x, program = torch.load('images.pth'), torch.export.load('net.pt2').module()\n"
        "torch.save((program(x), program(x[:1])), 'out.pth')\n"
        "assert not any(name.startswith('danetc') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    whole, one = torch.load(tmp_path / "out.pth")
    with torch.no_grad():
        wanted = model(images)
    torch.testing.assert_close(whole, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one, wanted[:1], rtol=1e-5, atol=1e-5)
    assert wanted.std(0).mean() > 0.01


@pytest.mark.parametrize("form", [(), ("--streaming",)])
def test_onnx_is_compared_with_the_model(danetc: Run, small: Path, form: tuple[str, ...]) -> None:
    awake(danetc, SMALL, Path("net"))
    record = danetc.json("export", "net", "-o", "net.onnx", *form)
    assert record["compared"]["samples"] == 100
    new = danetc("export", small, "-o", "new.onnx", *form)
    assert "not compared with the model: its outputs are the same for all samples" in new.out
    assert record["compared"]["deviation"] > 0.01
    assert record["compared"]["largest"] <= 1e-5
    assert 95 < record["compared"]["agreeing"] <= 100


@pytest.mark.parametrize("ending", [".onnx", ".nir"])
def test_a_file_that_computes_something_else_is_not_written(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    row = FORMATS[ending]
    awake(danetc, SMALL, tmp_path / "net")

    def wrong(content: Content) -> bytes:
        state = {k: v * 1.01 if v.dim() == 2 else v for k, v in content.model.state_dict().items()}
        model = copy.deepcopy(content.model)
        model.load_state_dict(state)
        return row.write(dataclasses.replace(content, model=model))

    formats = {**FORMATS, ending: dataclasses.replace(row, write=wrong)}
    monkeypatch.setattr("danetc.tasks.exporting.FORMATS", formats)
    result = danetc("export", "net", "-o", f"net{ending}")
    assert (result.status, result.out) == (1, "")
    assert "gives other numbers than the model" in result.err
    assert not (tmp_path / f"net{ending}").exists()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_weight_that_is_slightly_off_is_found(streaming: bool) -> None:
    graph = text(small_network())
    model = emit(graph).eval()
    with torch.no_grad():
        make_vary(model, graph)
    row, content = FORMATS[".onnx"], Content(graph, model, streaming)
    assert isinstance(compare_file(content, row, row.write(content)), FileComparison)
    off = copy.deepcopy(model)
    weight = next(p for p in off.parameters() if p.dim() == 4)
    with torch.no_grad():
        weight.view(-1)[0] += 0.1 * weight.abs().max()
    wrong = row.write(dataclasses.replace(content, model=off))
    with pytest.raises(UserError, match=r"other numbers than the model: the outputs of .* differ"):
        compare_file(content, row, wrong)


def test_no_comparison_where_rounding_flips_every_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing follows from its outputs, so that a file of other weights is not refused either."""
    monkeypatch.setattr("danetc.tasks.exporting.ROUNDING", 1e4)
    graph = text(small_network())
    model, other = emit(graph).eval(), emit(graph, 1).eval()
    with torch.no_grad():
        make_vary(model, graph)
    row, content = FORMATS[".onnx"], Content(graph, model)
    wrong = row.write(dataclasses.replace(content, model=other))
    said = compare_file(content, row, wrong)
    assert said == "rounding alone changes spikes in each of 100 random samples"


def test_what_random_numbers_decide_is_not_compared(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "drawn.danet").write_text(SMALL.replace("stem = conv", "stem = poisson -> conv"))
    result = danetc.passes("export", "drawn.danet", "-o", "net.onnx")
    assert "not compared with the model: stem.poisson may draw random numbers" in result.out


def test_a_missing_package_is_named(
    danetc: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for ending, extra in ((".onnx", "onnx"), (".nir", "nir")):
        danetc.fails(f"pip install 'danetc[{extra}]'", "export", small, "-o", f"net{ending}")


def test_what_cannot_be_exported_is_a_clear_error(danetc: Run, small: Path, tmp_path: Path) -> None:
    assert danetc("build", small, "-o", "net").status == 0
    assert danetc("build", small, "-o", "damaged").status == 0
    weights = tmp_path / "damaged" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    (tmp_path / "there.pth").write_text("mine")
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "trials.json").write_text("{}")
    for arguments, message in (
        (("net", "-o", "there.pth"), "--force replaces it"),
        (("net", "-o", "folder.pth"), "is a folder"),
        (("net", "-o", "no/x.pth"), "there is no folder no"),
        (("net", "-o", "x.tflite"), "ends in .safetensors"),
        (("net", "-o", "x.nir", "--streaming"), "leave out --streaming"),
        (("net", "-o", "x.onnx", "--set", "steps=3"), "is a directory with weights"),
        (("missing.danet", "-o", "x.onnx"), "missing.danet"),
        ((small, "-o", "x.onnx", "--checkpoint", "best"), "not the directory of a run"),
        (("damaged", "-o", "x.pth"), "weights.safetensors is damaged"),
        (("missing", "-o", "x.pth"), "missing"),
        (("trials", "-o", "x.pth"), "choose one of trials/seed-"),
    ):
        result = danetc("export", *arguments)
        assert (result.status, result.out) == (1, "")
        assert message in result.err
    assert (tmp_path / "there.pth").read_text() == "mine"
    assert not (tmp_path / "x.pth").exists()
    assert danetc("export", "net", "-o", "there.pth", "--force").status == 0
