"""Fixtures for tests of the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from danetc.main import main

SMALL = """\
use std

network small(classes = 10) {
  input = image(1, 8, 8)
  steps = 2
  neuron = LIF
  surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> spike
  stages = stage(basic(4), 2) via origin by densely_additive
  head = avgpool -> mean_over_time -> linear(classes)
}
"""

QUICK = "recipe quick { epochs = 1; batch = 300; optimizer = adamw(lr = 0.01) }\n"
FEW = "synthetic:size=8,channels=1,classes=10,count=300,test=60"
"""A small data set for SMALL, for tests that do not depend on the images."""


class Result(NamedTuple):
    status: int
    out: str
    err: str


class Run:
    """Runs command lines. A traceback fails the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        status = main([str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        assert "internal error" not in captured.err
        return Result(status, captured.out, captured.err)

    def passes(self, *arguments: object) -> Result:
        done = self(*arguments)
        assert done.status == 0, done.err
        return done

    def json(self, *arguments: object) -> Any:
        return json.loads(self.passes(*arguments, "--json").out)

    def fails(self, message: str, *arguments: object, status: int = 1) -> Result:
        done = self(*arguments)
        assert done.status == status, done.out
        assert message in done.err
        return done


PROBE = """
import contextlib, io, json, sys
from danetc.main import main
found = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    found.append([status, out.getvalue(), err.getvalue()])
print(json.dumps([found, [*sys.modules]]))
"""


def in_fresh_process(
    lines: list[list[str]], folder: Path, before: str = ""
) -> tuple[list[tuple[int, str, str]], set[str]]:
    """Run the code ``before`` and then command lines in one new process. Return the status, output and
    errors of each line, and the names of the imported modules."""
    command = [sys.executable, "-c", before + PROBE]
    found = subprocess.check_output(command, input=json.dumps(lines), cwd=folder, text=True)
    results, modules = json.loads(found)
    return results, {*modules}


@pytest.fixture
def danetc(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Run command lines in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DANETC_DEBUG", raising=False)
    return Run(capsys)


@pytest.fixture(scope="module", autouse=True)
def _few_digits(request: pytest.FixtureRequest) -> None:
    """Use few digits, except in modules that set ``ALL_DIGITS``."""
    if not getattr(request.module, "ALL_DIGITS", False):
        request.getfixturevalue("few_digits")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.danet"
    path.write_text(SMALL)
    return path


@pytest.fixture
def quick(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The file of a small network with a recipe of one epoch, or with the recipe ``QUICK`` of the module."""
    path = tmp_path / "quick.danet"
    path.write_text(SMALL + getattr(request.module, "QUICK", QUICK))
    return path


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model directory of SMALL. Tests leave it unchanged."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "small.danet").write_text(SMALL)
    assert main(["build", str(folder / "small.danet"), "-o", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture
def grid_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the runs of a grid in this process. test_compare tests the real processes."""
    from danetc.requests import TrainingRequest
    from danetc.runtime.training.observer import Callback
    from danetc.tasks.training.trials import run

    def train(request: str, *rest: Any, **options: Any) -> int:
        run(TrainingRequest.from_json(request), observer=Callback(), note=lambda text: None)
        return 0

    monkeypatch.setattr("danetc.tasks.grid.process.train", train)


@pytest.fixture
def few_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time only two steps in a dry run, for tests that do not depend on the number."""
    monkeypatch.setattr("danetc.tasks.training.dry_run.TIMED", 2)
