"""`danetc build`, `export` and `draw`, and the Python interface: files are written whole or not at all."""

import copy
import dataclasses
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import danetc as package
from danetc.compiler.draw import engine
from danetc.compiler.emit.fx import emit
from danetc.errors import UserError
from danetc.runtime.system.files import read_record, save_record
from danetc.tasks.formats import FORMATS, Content
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
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    result: torch.Tensor = model.eval()(images)
    return result


# -- what is written -------------------------------------------------------------------------------


def test_build_writes_everything_and_prints_the_summary(danetc: Run, small: Path) -> None:
    result = danetc("build", small)
    assert (result.status, result.err) == (0, "")
    directory = Path("build/small")
    assert (names(directory), names(Path("build"))) == ({*FILES}, {"small"})
    assert result.out.startswith("small, T = 2\n")
    assert "build/small" in result.out
    record = read_record(directory / "summary.json")
    known = {"network": "small", "danetc": package.__version__, "seed": 0}
    assert record.items() >= known.items()
    assert record["summary"]["parameters"] > 0
    Path("new").mkdir()
    Path("new/file").write_text("")
    assert directory.stat().st_mode == Path("new").stat().st_mode
    modes = {path.stat().st_mode for path in directory.iterdir()}
    assert modes == {Path("new/file").stat().st_mode}


def test_what_is_loaded_is_what_was_built(danetc: Run, small: Path) -> None:
    printed = danetc.json("build", small, "-o", "out", "--seed", "5", "--set", "neuron=PLIF(tau=3)")
    assert printed == json.loads(Path("out/summary.json").read_text())
    expected = output(package.build(small, set={"neuron": "PLIF(tau = 3.0)"}, seed=5))
    assert torch.equal(output(package.load("out")), expected)
    assert not torch.equal(output(package.build(small, seed=6)), expected)
    save_record({**read_record(Path("out/summary.json")), "format": 99}, Path("out/summary.json"))
    for place, message in (("out", "newer danetc"), ("nothing", "danetc build")):
        with pytest.raises(UserError, match=message):
            package.load(place)


# -- what is replaced, and what is not -------------------------------------------------------------


def test_an_older_directory_is_replaced_through_a_link(danetc: Run, small: Path) -> None:
    danetc("build", small, "-o", "out")
    Path("out/__pycache__").mkdir()
    Path("link").symlink_to("out")
    danetc.passes("build", small, "-o", "link", "--set", "classes=3")
    assert names(Path("out")) == {*FILES}
    assert output(package.load("out")).shape == (2, 3)
    assert names(Path()) == {"out", "link", "small.danet"}
    assert Path("link").is_symlink()


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
    danetc: Run, small: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """This also holds if the old directory was moved aside and the new one cannot replace it."""
    danetc("build", small, "-o", "out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    rename = Path.rename

    def fail(path: object, *target: Path) -> Path:
        made = isinstance(path, Path) and path.name.startswith(".") and path.suffix != ".old"
        if not isinstance(path, Path) or (made and (path / "summary.json").exists()):
            raise OSError(28, "No space left on device")
        return rename(path, *target)

    monkeypatch.setattr(*((os, "fsync") if step == "write" else (Path, "rename")), fail)
    danetc.fails("No space left", "build", small, "-o", "out", "--set", "classes=3")
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    assert names(Path()) == {"out", "small.danet"}


def test_bad_arguments_are_clear_errors_that_leave_nothing(danetc: Run, small: Path) -> None:
    settings = "steps=0 classes=9**9**9 neuron=__import__('os') input=image(1,1000000,1000000)"
    wrong = (*(("--set", each) for each in settings.split()), ("-n", "no"), ("--init", small))
    for option, value in wrong:
        assert danetc.fails("", "build", small, option, value).err.strip()
        assert names(Path()) == {"small.danet"}


# -- the Python interface --------------------------------------------------------------------------


def test_building_does_not_import_the_compiler_of_torch() -> None:
    """The import takes a second, and only a compiled kernel needs it."""
    program = (
        "import sys, torch; before = 'torch._dynamo' in sys.modules; import danetc; "
        "danetc.build('danet_c_small', memory='recompute'); "
        "assert before or 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_build_takes_text_or_a_path_but_not_both(small: Path) -> None:
    assert torch.equal(output(package.build(text=SMALL)), output(package.build(small)))
    for function in (package.build, package.draw, package.train):
        for given in ((), (small,)):
            with pytest.raises(TypeError):
                function(*given, **{"text": SMALL} if given else {})  # type: ignore[operator]


# -- export: the written files give the same numbers in model.py, torch and other programs ---------


@pytest.fixture
def awake(danetc: Run, small: Path) -> nn.Module:
    """Build the directory ``net``, and return its model, whose outputs vary."""
    danetc.passes("build", small, "-o", "net")
    graph: Any = package.load("net").topology
    model = emit(graph)
    with torch.no_grad():
        make_vary(model, graph)
    save_tensors(model.state_dict(), Path("net/weights.safetensors"))
    return model.eval()


IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
IMAGES *= torch.tensor([0.5, 1.5, 3.0]).view(-1, 1, 1, 1)


def test_model_py_with_exported_weights_has_the_same_outputs(danetc: Run, awake: nn.Module) -> None:
    result = danetc.passes("export", "net", "-o", "w.safetensors")
    assert "model.load('w.safetensors')" in result.out
    module = runpy.run_path("net/model.py")
    with torch.no_grad():
        assert torch.equal(module["load"]("w.safetensors").eval()(IMAGES), awake(IMAGES))
    danetc.passes("export", "net", "-o", "w.pth", "--json")
    state = torch.load("w.pth", weights_only=True)
    assert all(torch.equal(value, state[name]) for name, value in awake.state_dict().items())


@pytest.mark.parametrize("ending", FORMATS)
def test_formats_say_how_to_read(danetc: Run, written: Path, ending: str) -> None:
    result = danetc.passes("export", written, "-o", f"out{ending}")
    assert f"out{ending}" in result.out.splitlines()[1]
    assert Path(f"out{ending}").stat().st_size > 1000
    assert ending in danetc("export", "--help").out


@pytest.mark.thorough
def test_a_program_runs_without_danetc(danetc: Run, awake: nn.Module) -> None:
    result = danetc.passes("export", "net", "-o", "net.pt2")
    assert "read back: 100 of 100 random samples agree" in result.out
    torch.save(IMAGES, "images.pth")
    code = (
        "import sys, torch\n"
        "x, program = torch.load('images.pth'), torch.export.load('net.pt2').module()\n"
        "torch.save((program(x), program(x[:1])), 'out.pth')\n"
        "assert not any(name.startswith('danetc') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    whole, one = torch.load("out.pth")
    with torch.no_grad():
        wanted = awake(IMAGES)
    torch.testing.assert_close(whole, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one, wanted[:1], rtol=1e-5, atol=1e-5)
    assert wanted.std(0).mean() > 0.01


@pytest.mark.usefixtures("awake")
@pytest.mark.parametrize("form", [(), ("--streaming",)])
def test_onnx_is_compared_with_the_model(danetc: Run, small: Path, form: tuple[str, ...]) -> None:
    compared = danetc.json("export", "net", "-o", "net.onnx", *form)["compared"]
    assert compared["samples"] == 100
    assert compared["deviation"] > 0.01
    assert compared["largest"] <= 1e-5
    assert 95 < compared["agreeing"] <= 100
    Path("drawn.danet").write_text(SMALL.replace("stem = conv", "stem = poisson -> conv"))
    for spec, told in (
        (small, "its outputs are the same for all samples"),
        ("drawn.danet", "stem.poisson may draw random numbers"),
    ):
        out = danetc.passes("export", spec, "-o", "new.onnx", "--force", *form).out
        assert f"not compared with the model: {told}" in out


@pytest.mark.usefixtures("awake")
@pytest.mark.parametrize("form", [".onnx", ".onnx --streaming", ".nir"])
def test_a_wrong_file_is_refused(danetc: Run, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """One weight is slightly wrong. If rounding alone flips every sample, the file is accepted."""
    ending = form.split()[0]
    row, first = FORMATS[ending], 0  # the first weight of the stem

    def wrong(content: Content) -> bytes:
        model = copy.deepcopy(content.model)
        weight = [*model.parameters()][first]
        with torch.no_grad():
            weight.view(-1)[0] += 0.1 * weight.abs().max()
        return row.write(dataclasses.replace(content, model=model))

    formats = {**FORMATS, ending: dataclasses.replace(row, write=wrong)}
    monkeypatch.setattr("danetc.tasks.exporting.FORMATS", formats)
    asked = ("export", "net", "-o", *f"net{form}".split())
    result = danetc.fails("gives other numbers than the model: the outputs of ", *asked)
    assert result.out == ""
    assert not Path(f"net{ending}").exists()
    monkeypatch.setattr("danetc.tasks.exporting.ROUNDING", 1e7)
    first = -1  # a bias of the head, which changes all outputs
    told = "rounding alone changes spikes in each of 100 random samples"
    assert told in danetc.passes(*asked).out


def test_missing_extras_are_told(danetc: Run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for ending, extra in ((".onnx", "onnx"), (".nir", "nir")):
        danetc.fails(f"pip install 'danetc[{extra}]'", "export", small, "-o", f"net{ending}")


def test_what_cannot_be_exported_is_a_clear_error(danetc: Run, small: Path, written: Path) -> None:
    shutil.copytree(written, "net")
    shutil.copytree(written, "damaged")
    weights = Path("damaged/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-9])
    Path("there.pth").write_text("mine")
    Path("folder.pth").mkdir()
    Path("trials").mkdir()
    Path("trials/trials.json").write_text("{}")
    for line, message in {
        "net -o there.pth": "--force replaces it",
        "net -o folder.pth": "is a folder",
        "net -o no/x.pth": "there is no folder no",
        "net -o x.tflite": "ends in .safetensors",
        "net -o x.nir --streaming": "leave out --streaming",
        "net -o x.onnx --set steps=3": "is a directory with weights",
        "missing.danet -o x.onnx": "missing.danet",
        "small.danet -o x.onnx --checkpoint best": "not the directory of a run",
        "damaged -o x.pth": "weights.safetensors is damaged",
        "missing -o x.pth": "missing",
        "trials -o x.pth": "choose one of trials/seed-",
    }.items():
        assert danetc.fails(message, "export", *line.split()).out == ""
    assert Path("there.pth").read_text() == "mine"
    assert not Path("x.pth").exists()
    danetc.passes("export", "net", "-o", "there.pth", "--force")


# -- draw, with and without Graphviz ---------------------------------------------------------------


TWO = f"""{SMALL}
network other = small {{ stages = stage(basic(4), 2) via sew }}
network bare = small {{ stages = conv(4) -> norm -> spike }}
"""


def test_draw_writes_by_the_ending_or_not_at_all(danetc: Run) -> None:
    Path("two.danet").write_text(TWO)
    for name, start in (("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.gv", b"digraph")):
        assert danetc("draw", "two.danet", "-n", "small", "-o", name) == (0, "", "")
        assert Path(name).read_bytes().startswith(start)
    danetc.passes("draw", "danet_c_small", "sew_r18", "-o", "b.svg")
    assert ">(b) sew_r18</text>" in Path("b.svg").read_text()
    Path("folder.svg").mkdir()
    before = {each.name for each in Path().iterdir()}
    Path("a.svg").write_text("old")
    for line, message in {
        "-n bare --level block -o a.svg": "bare has no stages of blocks",
        "-n small -o folder.svg": "folder.svg is a folder",
        "-n small -o no/a.svg": "there is no folder no",
        "-n small -o /proc/a.svg": "/proc/a.svg: ",
        "danet_c_small -n other -o a.svg": "other",
    }.items():
        danetc.fails(message, "draw", "two.danet", *line.split())
        assert Path("a.svg").read_text() == "old"
        assert names(Path()) == before


WHY = "neither `dot` nor `graphviz-pure` is installed"


@pytest.mark.parametrize("why", [WHY, "broken"])
def test_build_costs_the_picture_and_a_note(
    danetc: Run, small: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Graphviz is missing, or its program ends with an error."""
    danetc.passes("build", small, "-o", "out")
    assert Path("out/topology.svg").exists()
    program = Path("dot").absolute()
    program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    program.chmod(0o755)
    found = None if why == WHY else str(program)
    monkeypatch.setattr(engine.shutil, "which", lambda *names, **where: found)
    for _ in range(2):  # the picture of an older network is removed
        result = danetc.passes("build", small, "-o", "out")
        assert result.err.startswith("note: there is no topology.svg: ")
        assert why in result.err
    assert not Path("out/topology.svg").exists()
    assert "topology.svg" not in Path("out/summary.json").read_text()
    assert package.load("out", backend="eager")


def test_without_graphviz(danetc: Run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`draw` fails before it compiles anything, and a notebook shows only the facts."""
    monkeypatch.setattr(engine.shutil, "which", lambda *names, **where: None)
    model = package.build(small, backend="eager")
    with pytest.warns(UserWarning, match="there is no picture of small: neither"):
        shown = model._repr_html_() or ""
    assert ("<svg" in shown, "parameters" in shown) == (False, True)
    monkeypatch.setattr("danetc.tasks.drawing.compile_spec", None)
    Path("a.svg").write_text("old")
    danetc.fails(WHY, "draw", small, "-o", "a.svg")
    assert Path("a.svg").read_text() == "old"
