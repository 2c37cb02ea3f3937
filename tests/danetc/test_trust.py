"""Untrusted files: danetc neither runs nor follows what a directory, a repository or an image names.

``SECURITY.md`` promises this, and ``tests/test_security.py`` names a test for each of its sentences.
"""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import danetc as package
from danetc.compiler.draw import engine
from danetc.compiler.ir.ops import user
from danetc.dsl.recipe.item import plain
from danetc.dsl.recipe.text import read_setting
from danetc.editor import bridge
from danetc.editor.analysis import analyse
from danetc.editor.completion import complete
from danetc.editor.problems import problems
from danetc.main import main
from danetc.runtime.kernels import native
from danetc.runtime.system import files
from danetc.runtime.system.files import digest, read_record, save_record
from danetc.runtime.training.checkpoints import read_checkpoint
from danetc.tasks.grid.results import read_results
from danetc.tasks.model_directory import trials_in
from danetc.tasks.reporting.page import make_page
from danetc.tasks.reporting.runs import open_runs
from danetc.tasks.training.provenance import git_state

from .conftest import SMALL, Run
from .runs import HARM, SCRIPT, built

DATA = "synthetic:size=8,channels=1,classes=10,count=24,test=12"
NAMED = {
    "loss": 'python("evil.py:loss")',
    "optimizer": 'python("evil.py:optimizer", lr = 0.01)',
    "augment": 'horizontal_flip -> python("evil.py:augment")',
}
"""Recipe settings that name code. Each function has the name of its setting."""
EVIL = """\
import pathlib
pathlib.Path({marker!r}).write_text("ran")
import numpy
def make():
    image = numpy.zeros((12, 1, 8, 8), "uint8"), numpy.arange(12) % 10
    return image, image
def loss(output, labels):
    return output.square().mean()
def optimizer(groups):
    import torch
    return torch.optim.SGD(groups)
def augment(image):
    return image
"""

TINY = ("--data", DATA, "--backend", "eager", "-q")
READING = (
    ("check", "own.danet"),
    ("fmt", "--check", "own.danet"),
    ("draw", "own.danet", "-o", "own.gv"),
    ("summary", "own.danet"),
    ("summary", "own.danet", "--batch", "2"),
    ("prove", "own.danet"),
    ("equiv", "own.danet", "own.danet"),
    ("equiv", "own.danet", "danet_c_small"),
)
"""Commands that run no code of a spec."""

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


def spec_text(**settings: object) -> str:
    given = {"epochs": 1, "batch": 12, "optimizer": "adamw(lr = 0.01)", **settings}
    body = "; ".join(f"{name} = {value}" for name, value in given.items())
    return f"{SMALL}recipe r {{ {body} }}\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run. Tests copy it."""
    place = tmp_path_factory.mktemp("trained") / "r"
    return package.train(text=spec_text(), data=DATA, backend="eager", output=place).directory


@pytest.fixture
def r(trained: Path, tmp_path: Path) -> Path:
    """A run from a stranger, in the folder ``r`` of the working directory."""
    shutil.copytree(trained, tmp_path / "r")
    (tmp_path / "a.danet").write_text(spec_text())
    return tmp_path / "r"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists once ``evil.py`` has run."""
    marker = tmp_path / "marker"
    (tmp_path / "evil.py").write_text(EVIL.format(marker=str(marker)))
    return marker


def forge(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a record and seal it again, as anyone can."""
    record = read_record(path)
    change(record)
    save_record(record, path)


def leads_out(read: Callable[[Any], object], place: Path) -> None:
    with pytest.raises(package.UserError, match="leads out of"):
        read(place)


def set_data(run: Path, text: str) -> None:
    forge(run / "training.json", lambda record: record["evaluation"]["data"].update(text=text))
    forge(run / "run.json", lambda record: record["settings"]["data"].update(text=text))


# -- code ------------------------------------------------------------------------------------------

CODE = ("python:evil.py:make", "evil.py:make", "python:os:abort", "python:evil:make")


@pytest.mark.parametrize("text", CODE)
def test_code_named_by_a_record_is_refused(danetc: Run, r: Path, marker: Path, text: str) -> None:
    set_data(r, text)
    for command in (
        ("eval", "r"),
        ("convert", "r", "-o", "snn"),
        ("train", "--from", "r", "-o", "again"),
        ("train", "--from", "r/run.json", "-o", "again", "--dry-run"),
    ):
        result = danetc(*command)
        assert result.status == 1
        if command[0] != "convert":  # convert takes only ReLU networks
            assert "code that a directory names is not run" in result.err
            assert f"--data {text}" in result.err
    for call in (package.evaluate, package.measure):
        with pytest.raises(package.UserError, match="names code"):
            call(r)
    assert not marker.exists()


def test_code_as_data_of_a_checkpoint_or_conversion(danetc: Run, r: Path, marker: Path) -> None:
    set_data(r, CODE[0])
    forge(
        r / "checkpoints" / "last" / "state.json",
        lambda record: record["state"]["tested"]["data"].update(text=CODE[0]),
    )
    assert "names code" in danetc("eval", "r", "--checkpoint", "last").err
    (r / "run.json").unlink()
    (r / "training.json").rename(r / "conversion.json")
    assert "names code" in danetc("eval", "r").err
    assert not marker.exists()


@pytest.mark.thorough
def test_code_that_the_user_typed_runs(danetc: Run, r: Path, marker: Path) -> None:
    set_data(r, CODE[0])
    danetc.passes("eval", "r", "--data", CODE[0])
    assert marker.exists()
    assert package.evaluate(r, data=CODE[0]).results


@pytest.mark.parametrize("setting", NAMED)
def test_a_function_that_only_a_record_names_is_refused(
    danetc: Run, r: Path, marker: Path, setting: str
) -> None:
    """The record names it in its setting, or in text smuggled in as the name of a phase."""
    sneaked = f"train {{\n    {setting} = {NAMED[setting]}\n  }}\n  phase other"
    named = plain(read_setting(setting, NAMED[setting], "evil"))
    record = read_record(r / "run.json")
    phase = record["settings"]["recipe"]["phases"]["train"]
    advice = f"--allow-code evil.py:{setting}"
    for phases, told in (({sneaked: phase}, ""), ({"train": {**phase, setting: named}}, advice)):
        record["settings"]["recipe"]["phases"] = phases
        save_record(record, r / "run.json")
        for source in (
            ("--from", "r"), ("--from", "r", "--dry-run"), ("--from", "r", "--data", DATA),
            ("r", "--data", DATA),
        ):  # fmt: skip
            danetc.fails(told, "train", *source, "-o", "again")
    assert not marker.exists()
    done = danetc("train", "--from", "r", "-o", "again", *advice.split())
    assert f"runs code: {setting} of" in done.err


@pytest.mark.thorough
def test_evaluating_runs_no_loss_of_a_record(danetc: Run, r: Path, marker: Path) -> None:
    loss = 'python(function = "evil.py:loss")'
    forge(r / "training.json", lambda record: record["evaluation"].update(loss=loss))
    assert danetc("eval", "r").status == 0
    assert danetc("measure", "r", "--data", DATA, "--batches", "1").status == 0
    assert not marker.exists()


@pytest.mark.thorough
@pytest.mark.parametrize("setting", NAMED)
@pytest.mark.usefixtures("danetc", "few_timed")
def test_what_a_recipe_runs_is_printed_before_it_runs(
    marker: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    Path("own.danet").write_text(spec_text(**{setting: NAMED[setting]}))
    said: list[bool] = []

    def heard(text: str, **rest: Any) -> None:
        if "evil.py" in text:
            said.append(marker.exists())

    monkeypatch.setattr("danetc.output.echo.echo", heard)
    common = ["train", "own.danet", *TINY, "-o", "own"]
    assert main([*common, "--dry-run"]) == 0
    assert said == [False]
    marker.unlink()  # the dry run has run the code
    assert main(common) == 0
    assert said == [False, False]


@pytest.mark.parametrize("setting", NAMED)
def test_no_code_refuses_a_recipe_that_runs_some(danetc: Run, marker: Path, setting: str) -> None:
    Path("own.danet").write_text(spec_text(**{setting: NAMED[setting]}))
    common = ("own.danet", "--data", DATA, "-o", "own")
    for more in ((), ("--dry-run",)):
        says = f"evil.py:{setting}, which --no-code refuses"
        danetc.fails(says, "train", *common, "--no-code", *more)
    with pytest.raises(package.UserError, match="no-code"):
        package.train("own.danet", DATA, output="own", no_code=True)
    assert not marker.exists()
    assert not Path("own").exists()


@pytest.mark.thorough
def test_all_but_training_runs_none_of_a_spec(danetc: Run, marker: Path) -> None:
    Path("own.danet").write_text(spec_text(**NAMED))
    for command in (*READING, ("build", "own.danet", "-o", "built")):
        danetc(*command)
    reading = ("data", DATA, "--recipe", "own.danet")
    danetc.fails("--allow-code evil.py:augment", *reading)
    _ask_the_bridge(Path("own.danet").read_text())
    assert not marker.exists()
    danetc.passes(*reading, "--allow-code", "evil.py:augment")
    assert marker.exists()


def _ask_the_bridge(text: str) -> None:
    """Call every method of the playground. The editor calls the same functions."""
    place = text.index(".py")
    asked = {"name": "own.danet", "text": text, "network": "small", "at": place}
    for method in bridge.METHODS:
        request = {**asked, "left": asked, "right": asked, "method": method, "level": "stage"}
        with suppress(KeyError):
            bridge.answer(json.dumps(request))
    analysis = analyse(text, "own.danet")
    assert not problems(analysis)
    complete(analysis, place)


OWN = """\
import pathlib, sys
print("it runs", file=sys.stderr)
pathlib.Path({marker!r}).write_text("ran")
import torch
from torch import nn
ONE = torch.ones(())
class Own(nn.Module):
    def forward(self, x):
        return x * ONE
"""
ALLOW = ("--allow-code", "own.py:Own")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write ``own.danet``, which has a layer in Python. Return a file that exists once its code has run."""
    monkeypatch.setattr("danetc.compiler.ir.ops.user._ALLOWED", set())
    text = spec_text().replace("head = ", 'head = python("own.py:Own") -> ')
    (tmp_path / "own.danet").write_text(text)
    marker = tmp_path / "marker"
    (tmp_path / "own.py").write_text(OWN.format(marker=str(marker)))
    return marker


def test_a_layer_in_python_is_printed_before_it_runs(
    danetc: Run, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed_first(said: str) -> bool:
        own.unlink()
        changed = os.stat("own.py").st_mtime_ns + 1
        os.utime("own.py", ns=(changed, changed))  # so that the code runs again
        return said.index("runs code: Own of") < said.index("it runs")

    common = ("train", "own.danet", *TINY, "-o", "own")
    budget = (*common[:-1], "budget", "--memory", "1GB")
    for command in (common, (*common, "--dry-run"), budget, ("build", "own.danet", "-o", "built")):
        assert printed_first(danetc.passes(*command).err)
    # The memory of a step is computed without tensor values, but tensors of the code keep theirs.
    one, other = (read_record(Path(run, "training.json"))["epochs"] for run in ("own", "budget"))
    assert one[0]["train_loss"] == other[0]["train_loss"]
    package.build("own.danet", backend="eager")
    assert printed_first(capsys.readouterr().err)


def test_no_code_refuses_a_layer_in_python(danetc: Run, own: Path) -> None:
    says = "own.py:Own, which --no-code refuses"
    danetc.fails(says, "train", "own.danet", "--data", DATA, "-o", "own", "--no-code")
    danetc.fails(says, "build", "own.danet", "-o", "own", "--no-code")
    with pytest.raises(package.UserError, match="no-code"):
        package.build("own.danet", no_code=True)
    assert not own.exists()
    assert not Path("own").exists()


def test_all_but_building_and_training_runs_no_layer_in_python(danetc: Run, own: Path) -> None:
    for command in READING:
        danetc(*command)
    for command in (
        ("measure", "own.danet", "--data", DATA),
        ("record", "own.danet", "--data", DATA),
        ("export", "own.danet", "-o", "own.safetensors"),
        ("bench", "own.danet"),
    ):
        assert " ".join(ALLOW) in danetc(*command).err
    _ask_the_bridge(Path("own.danet").read_text())
    assert not own.exists()


def test_a_layer_in_python_that_only_a_directory_names_is_refused(danetc: Run, own: Path) -> None:
    danetc.passes("train", "own.danet", *TINY, "-o", "run")
    own.unlink()
    user._ALLOWED.clear()
    os.utime("own.py", ns=(7, 7))
    image = Path("image.npy")
    numpy.save(image, numpy.zeros((1, 8, 8), "float32"))
    commands = (
        ("eval", "run"),
        ("measure", "run", "--data", DATA, "--batches", "1"),
        ("predict", "run", "image.npy"),
        ("record", "run", "image.npy"),
        ("export", "run", "-o", "x.safetensors"),
        ("build", "run", "-o", "built"),
        ("train", "--from", "run", "-o", "again"),
        ("train", "run", "--data", DATA, "-o", "tuned"),
    )
    for command in commands:
        assert " ".join(ALLOW) in danetc(*command).err, command
    for call in (package.load, package.evaluate, package.build):
        with pytest.raises(package.UserError, match=re.escape(" ".join(ALLOW))):
            call("run")
    assert not own.exists()
    for command in commands:
        danetc.passes(*command, *ALLOW)
        user._ALLOWED.clear()
    assert own.exists()
    package.allow_code("own.py:Own")
    assert package.load("run", backend="eager")


def test_what_is_allowed_is_a_file_as_it_is(danetc: Run, own: Path) -> None:
    """This also holds for code that a training or a build admitted."""
    danetc.passes("train", "own.danet", *TINY, "-o", "run")
    assert package.load("run", backend="eager")
    changed = Path("own.py").read_text() + "# changed\n"
    for _ in range(2):
        own.unlink()
        Path("own.py").write_text(changed)
        with pytest.raises(package.UserError, match="again after each change"):
            package.load("run", backend="eager")
        assert not own.exists()
        package.allow_code("own.py:Own")
        assert package.load("run", backend="eager")
        changed += "# once more\n"


def test_a_training_goes_on_with_the_layer_that_it_began_with(danetc: Run, own: Path) -> None:
    common = ("train", "own.danet", *TINY, "-o", "run")
    danetc.passes(*common)
    assert "layers" in read_record(Path("run/run.json"))["settings"]
    with Path("own.py").open("a") as file:
        file.write("# changed\n")
    danetc.fails("layers", *common)


@pytest.mark.thorough
def test_a_factory_that_the_user_typed_runs(danetc: Run, marker: Path) -> None:
    danetc("import", "evil.py:make", "--input", "1x8x8", "-o", "x.danet")
    assert marker.exists()


@pytest.mark.thorough
def test_reading_runs_no_model_py(danetc: Run, r: Path, marker: Path, tmp_path: Path) -> None:
    text = (tmp_path / "evil.py").read_bytes()
    (r / "model.py").write_bytes(text)
    forge(r / "summary.json", lambda record: record["files"].update({"model.py": digest(text)}))
    for command in (
        ("eval", "r"),
        ("export", "r", "-o", "x.safetensors"),
        ("export", "r", "-o", "x.pt2"),
        ("report", "r", "-o", "x.html"),
        ("train", "--from", "r", "-o", "again", "--dry-run"),
    ):
        assert danetc(*command).status == 0, command
    assert not marker.exists()


@pytest.mark.thorough
def test_a_module_in_the_working_directory_is_not_imported(danetc: Run, tmp_path: Path) -> None:
    """The processes of a grid do not import it, although plain ``python -m`` would look there."""
    Path("a.danet").write_text(spec_text())
    for name in ("torch", "numpy", "danetc", "json"):
        Path(f"{name}.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()\n")
    common = ("a.danet", "--data", DATA, "--backend", "eager", "--seed", "0")
    assert danetc("compare", *common, "-o", "g").status == 0
    assert not (tmp_path / "marker").exists()


def test_a_digest_finds_damage_and_not_forgery(danetc: Run, r: Path) -> None:
    place = r / "training.json"
    place.write_text(place.read_text().replace('"seed": 0', '"seed": 1'))
    assert "training.json is damaged" in danetc("eval", "r").err
    record = json.loads(place.read_bytes())
    del record["sha256"]
    save_record(record, place)
    assert danetc("eval", "r").status == 0


def test_weights_and_checkpoints_are_no_pickles(danetc: Run, r: Path, marker: Path) -> None:
    """The files have valid digests, but pickle and torch would run code as they read them."""

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (marker, "ran"))

    for write in (pickle.dump, torch.save):
        with (r / "weights.safetensors").open("wb") as file:
            write({"weight": Harm()}, file)
        data = (r / "weights.safetensors").read_bytes()
        forge(r / "training.json", lambda record, data=data: record.update(weights=digest(data)))
        (r / "checkpoints" / "last" / "model.safetensors").write_bytes(data)
        for more in ((), ("--checkpoint", "last")):
            danetc.fails("safetensors", "eval", "r", *more)
    assert not marker.exists()


def test_programs_are_those_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _made(tmp_path / "bin")
    for name in ("g++", "dot"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    if sys.platform != "win32":
        assert native.compiler() == ["g++"]
        assert engine.program() == str(folder / "dot")


def test_a_training_may_ask_for_anything(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "long.danet").write_text(spec_text(epochs=100_000).replace("conv(4)", "conv(4096)"))
    assert danetc("check", "long.danet").status == 0


def test_a_report_shows_texts_as_texts(tmp_path: Path) -> None:
    """Markup replaces texts and numbers in the files of a run, and its path."""
    (run,) = open_runs([built(tmp_path)])
    settings = {"network": "tiny", SCRIPT: HARM, "list": [SCRIPT, {"name": HARM, "x": [1, SCRIPT]}]}
    epoch = {"phase": SCRIPT, "test_loss": SCRIPT, "test_accuracy": 0.5}
    rates = {SCRIPT: 0.5, "stem.spike": 0.25, HARM: 1e308}
    layers = [{"layer": layer, "rate": rate, "silent": 0.0} for layer, rate in rates.items()]
    measures = {
        "firing_rate": {"layers": layers, "mean_of_layers": 0.3}, "images": SCRIPT,
        "statistics": HARM, "trained": True,
    }  # fmt: skip
    harmful = replace(
        run, label=HARM, path=Path(HARM), spec=f"# {SCRIPT} {HARM}\n{run.spec}",
        record={"settings": settings, "facts": {HARM: SCRIPT}}, measures=measures,
        epochs=[{**epoch, "train_loss": loss} for loss in (1.0, 1e308, -0.5)],
        measured_on=f"{SCRIPT} ({HARM})", notes=(SCRIPT, HARM),
    )  # fmt: skip
    page = make_page([harmful])
    assert SCRIPT not in page
    assert HARM not in page
    policy = page.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    assert policy.startswith("default-src &#39;none&#39;")
    assert "script-src" not in policy
    assert "unsafe" not in policy


# -- writing ---------------------------------------------------------------------------------------


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A file and a folder that danetc did not write. They must be unchanged after the test."""
    folder = tmp_path / "precious"
    (folder / "inner").mkdir(parents=True)
    (folder / "file").write_text("precious")
    yield folder
    assert sorted(str(each.relative_to(folder)) for each in folder.rglob("*")) == ["file", "inner"]
    assert (folder / "file").read_text() == "precious"


@pytest.mark.thorough
@posix
def test_training_replaces_links_and_follows_none(danetc: Run, r: Path, precious: Path) -> None:
    names = [each.name for each in r.iterdir() if each.is_file()]
    assert {"run.json", "training.json", "summary.json", "weights.safetensors", "model.py",
            "metrics.csv", "spec.danet"} <= {*names}  # fmt: skip
    linked = [name for name in names if name != "run.json" and not name.startswith(".")]
    for name in linked:
        (r / name).unlink(missing_ok=True)
        (r / name).symlink_to(precious / "file")
    os.chmod(precious / "file", 0o600)
    Path("a.danet").write_text(spec_text(epochs=2))
    told = danetc.passes("train", "a.danet", *TINY, "-o", "r", "--override").err
    assert "overridden: recipe.phases.train.epochs: 1 there, 2 now" in told
    for name in linked:
        assert not (r / name).is_symlink()
    assert danetc("eval", "r").status == 0


@pytest.mark.thorough
@posix
@pytest.mark.parametrize("place", ["checkpoints", "tensorboard", ".lock"])
def test_training_writes_to_no_linked_folder(
    danetc: Run, r: Path, precious: Path, place: str
) -> None:
    if (r / place).is_dir():
        shutil.rmtree(r / place)
    (r / place).unlink(missing_ok=True)
    (r / place).symlink_to(precious / ("file" if place == ".lock" else "inner"))
    longer = ("--set", "recipe.epochs=2", "--override")
    result = danetc("train", "a.danet", *TINY, "-o", "r", *longer)
    if place != "tensorboard":  # training continues without curves
        assert result.status == 1
        assert place in result.err


@posix
def test_a_grid_and_a_search_follow_no_links(
    danetc: Run, tmp_path: Path, precious: Path, grid_in_process: None
) -> None:
    Path("a.danet").write_text(spec_text())
    common = ("a.danet", "--data", DATA, "--backend", "eager", "--seed", "0", "-o", "g")
    select = ("search", "--select-on", "test", "--grid", "steps=1,2", "--trials", "1")
    Path("g", "small").mkdir(parents=True)
    for name in ("grid.json", "accuracy.svg", "training.svg"):
        Path("g", name).symlink_to(precious / "file")
    save_record({"format": 1, "cells": []}, Path("g/grid.json"))
    assert danetc("compare", *common).status == 0
    for name, place, command in (
        ("small", "inner", ("compare",)),
        ("search.db", "file", select),
        ("search.db-journal", "file", select),
    ):
        if command is select:
            pytest.importorskip("optuna")
        shutil.rmtree("g")
        save_record({"format": 1, "cells": []}, _made(Path("g")) / "grid.json")
        Path("g", name).symlink_to(precious / place)
        danetc.fails("leads out of g", *command, *common)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@posix
def test_files_of_our_own_replace_links(tmp_path: Path, precious: Path) -> None:
    link = tmp_path / "link"
    for write in (
        lambda: files.replace_file(link, b"new"),
        lambda: save_record({"a": 1}, link),
        lambda: files.append_own(link).close(),
    ):
        link.unlink(missing_ok=True)
        link.symlink_to(precious / "file")
        write()
        assert not link.is_symlink()
        assert (precious / "file").read_text() == "precious"


@posix
def test_files_that_the_user_names_may_be_links(danetc: Run, tmp_path: Path) -> None:
    Path("a.danet").write_text(SMALL)
    numpy.save("x.npy", numpy.zeros((1, 8, 8), "float32"))
    (tmp_path / "there").mkdir()
    for name, command in {
        "a.pth": ("export", "a.danet", "-o"),
        "a.gv": ("draw", "a.danet", "-o"),
        "a.npz": ("record", "a.danet", "x.npy", "-o"),
        "mine.danet": ("new",),
        "digits.png": ("data", "digits", "-o"),
    }.items():
        Path(name).symlink_to(Path("there", name))
        danetc.passes(*command, name)
        assert Path(name).is_symlink(), name
        assert Path("there", name).stat().st_size > 100, name


# -- reading ---------------------------------------------------------------------------------------


@posix
def test_a_file_of_a_directory_lies_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "out").write_text("x")
    (folder / "good").symlink_to("inner")
    (folder / "bad").symlink_to("../out")
    (folder / "worse").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to("folder")
    for name in ("inner", "good", "missing", "good/missing", "inner/a.json"):
        files.within(folder, name)
        files.within(tmp_path / "other", name)
    for name in ("bad", "worse", "worse/out", "../out", "inner/../inner", "..", str(tmp_path / "out"),
                 "/etc/passwd", "inner/../../out"):  # fmt: skip
        with pytest.raises(files.DamagedError, match="leads out of"):
            files.within(folder, name)
    with pytest.raises(files.DamagedError, match="not a path"):
        files.within(folder, "a\0b")


@posix
@pytest.mark.parametrize("name", ["weights.safetensors", "spec.danet", "summary.json", "model.py",
                                  "training.json"])  # fmt: skip
def test_links_out_of_a_run_are_refused(danetc: Run, r: Path, tmp_path: Path, name: str) -> None:
    (r / name).rename(tmp_path / name)
    (r / name).symlink_to(tmp_path / name)
    for command in (("eval", "r"), ("export", "r", "-o", "x.safetensors")):
        if name == "training.json" and command[0] == "export":
            continue  # export does not read it
        result = danetc.fails(f"r/{name}", *command)
        assert "leads out of r" in result.err
    (r / name).unlink()
    (tmp_path / name).rename(r / f"real.{name}")
    (r / name).symlink_to(f"real.{name}")
    assert danetc("eval", "r").status == 0


@posix
def test_links_that_leave_a_checkpoint_are_refused(danetc: Run, r: Path, tmp_path: Path) -> None:
    last = r / "checkpoints" / "last"
    (last / "model.safetensors").rename(tmp_path / "m")
    (last / "model.safetensors").symlink_to(tmp_path / "m")
    leads_out(read_checkpoint, last)
    (last / "model.safetensors").unlink()
    (tmp_path / "m").rename(last / "model.safetensors")
    read_checkpoint(last)
    last.rename(tmp_path / "last")
    last.symlink_to(tmp_path / "last")
    leads_out(read_checkpoint, last)
    assert "leads out of" in danetc("eval", "r", "--checkpoint", "last").err
    (r / "checkpoints").rename(tmp_path / "c")
    (r / "checkpoints").symlink_to(tmp_path / "c")
    assert "leads out of" in danetc("eval", "r", "--checkpoint", "last").err


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "inner/../../x"])
def test_records_name_nothing_outside(r: Path, tmp_path: Path, name: str) -> None:
    """The test covers each record that names files or folders of its directory."""
    (tmp_path / "x").write_text("x")
    last = r / "checkpoints" / "last"
    forge(last / "state.json", lambda record: record["files"].append(name))
    leads_out(read_checkpoint, last)
    save_record({"trials": [{"directory": name}]}, _made(tmp_path / "t") / "trials.json")
    leads_out(trials_in, tmp_path / "t")
    cells = [{"name": "a", "runs": [{"directory": name, "seed": 0, "state": "done"}]}]
    save_record({"format": 1, "data": "digits", "axes": [], "cells": cells},
                _made(tmp_path / "g") / "grid.json")  # fmt: skip
    leads_out(lambda place: open_runs([place]), tmp_path / "g")
    leads_out(read_results, tmp_path / "g")
    forge(r / "summary.json", lambda record: record["files"].update({name: digest(b"x")}))
    leads_out(package.load, r)


# -- git -------------------------------------------------------------------------------------------


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def new_repository() -> None:
    git("init", "-q")
    for key, value in (("user.name", "x"), ("user.email", "x@example.com")):
        git("config", key, value)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose configuration runs a program wherever git lets it. ``marker`` exists once it
    has run. Git reads only the size and the modification time of a file's status."""
    folder = _made(tmp_path / "repository")
    monkeypatch.chdir(folder)
    new_repository()
    for name in ("a", "b", "c"):
        (folder / name).write_text(name)
    (folder / ".gitattributes").write_text("* filter=e=vil diff=evil\n")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    program = folder / ".git" / "evil"
    program.write_text(f"#!/bin/sh\necho ran >> '{tmp_path / 'marker'}'\ncat\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "filter.e=vil.clean", "filter.e=vil.smudge", "filter.e=vil.process",
                "diff.evil.textconv", "diff.evil.command", "diff.external", "core.pager",
                "core.sshCommand", "remote.origin.uploadpack"):  # fmt: skip
        git("config", key, str(program))
    for key, value in (("core.trustctime", "false"), ("core.checkStat", "minimal")):
        git("config", key, value)
    hook = folder / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    shutil.copy(program, hook)
    (tmp_path / "marker").unlink(missing_ok=True)
    return folder


@posix
def test_nothing_of_a_repository_is_run(repository: Path, tmp_path: Path) -> None:
    (repository / "a").write_text("changed")
    (repository / "b").touch()
    os.utime(repository / ".git" / "index", (1, 1))
    found = git_state()
    assert not (tmp_path / "marker").exists()
    assert found["changed"] == ["a"]
    git("-c", "core.fsmonitor=false", "diff-index", "--name-only", "HEAD")
    assert (tmp_path / "marker").exists(), "git would have run the filter"


@posix
def test_a_repository_that_lacks_objects_is_not_completed(repository: Path, tmp_path: Path) -> None:
    """A partial clone fetches missing objects with a program that its configuration names."""
    tree = git("rev-parse", "HEAD^{tree}")
    (repository / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    for key, value in (
        ("core.repositoryformatversion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", f"ext::{repository / '.git' / 'evil'}"),
        ("protocol.ext.allow", "always"),
    ):
        git("config", key, value)
    git_state()
    assert not (tmp_path / "marker").exists()


def test_touched_files_are_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_repository()
    names = ("touched", "gone", "edited", "same size", "staged")
    for name in names:
        (tmp_path / name).write_bytes(b"1\n2\n")
    (tmp_path / "folder").mkdir()
    assert git_state() is None  # there is no commit
    git("add", ".")
    git("commit", "-q", "-m", "a")
    os.utime(tmp_path / "touched", (1, 1))
    (tmp_path / "gone").unlink()
    (tmp_path / "edited").write_bytes(b"1\n2\n3\n")
    (tmp_path / "same size").write_bytes(b"1\n3\n")
    (tmp_path / "staged").write_bytes(b"4")
    git("add", "staged")
    (tmp_path / "unknown").write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "folder")
    found = git_state()
    assert found["commit"] == git("rev-parse", "HEAD")
    assert found["changed"] == ["edited", "gone", "same size", "staged"]
    assert found["more_changed"] == 0
    for number in range(60):
        (tmp_path / f"{number:02}").touch()
    git("add", "--all", "..")
    found = git_state()
    assert (found["changed"], found["more_changed"]) == ([f"{n:02}" for n in range(50)], 15)


@pytest.mark.parametrize(("late", "missing"), [("status", ""), ("rev-parse", "the commit and ")])
def test_the_commit_is_recorded_without_the_changed_files(
    repository: Path, monkeypatch: pytest.MonkeyPatch, late: str, missing: str
) -> None:
    """Comparing the files may exceed the time limit for git."""
    commit, run = git("rev-parse", "HEAD"), subprocess.run

    def slow(command: list[str], **options: Any) -> Any:
        if late in command:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", slow)
    text = f"{SMALL}recipe r {{ epochs = 1; batch = 12; optimizer = sgd(lr = 0.1) }}"
    done = package.train(text=text, data=DATA, output="run", backend="eager")
    expected = {"commit": None if missing else commit, "changed": None, "more_changed": None}
    assert read_record(done.directory / "run.json")["facts"]["git"] == expected
    told = f"git did not report {missing}the changed files: run.json has null there"
    assert [note for note in done.notes if "git" in note] == [told]
