"""Data are looked at first: before torch is imported, and before the spec, the run and the recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from danetc.main import COMMANDS, program

from .conftest import SMALL, Run
from .datasets import SMALL_DATA, make_folder
from .test_as_trained import spec

PROBE = """
import contextlib, io, json, sys
from danetc.main import main
found = []
for arguments in json.load(sys.stdin):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        status = main(arguments)
    found.append([status, err.getvalue()])
modules = [name for name in ("torch", "danetc.compiler", "lark") if name in sys.modules]
print(json.dumps([found, modules]))
"""


def outcomes(lines: list[list[str]], folder: Path) -> Any:
    """Status and message of each command line in one fresh process, and what it has imported."""
    command, given = [sys.executable, "-c", PROBE], json.dumps(lines)
    done = subprocess.run(command, input=given, cwd=folder, capture_output=True, text=True)
    return json.loads(done.stdout)


def with_data() -> list[str]:
    """The commands that take `--data`."""
    commands = {name: program.get_command(click.Context(program), name) for name in COMMANDS}
    return [
        name
        for name, command in commands.items()
        if command is not None and any("--data" in option.opts for option in command.params)
    ]


def test_every_command_looks_at_the_data_first(tmp_path: Path) -> None:
    names = with_data()
    assert set(names) >= {"train", "eval", "measure", "report", "compare"}
    cases = {
        "digits.npz": "there is no data set `digits.npz`; did you mean `digits`?",
        "digist": "there is no data set `digist`; did you mean `digits`?",
        "folder:missing": "there is no folder missing",
        "folder:~nobody-at-all/x": "`folder:~nobody-at-all/x`: Could not determine home directory",
        "": "there is no data set ``. Data sets are digits, fashion-mnist:DIR",
    }
    # None of these have the file or the run that they are about, which is of no interest yet.
    lines = [[name, "no-such-spec", "--data", text] for name in names for text in cases]
    lines += [["train", "x", "--dry-run", "--data", text] for text in cases]
    found, modules = outcomes(lines, tmp_path)
    for (status, told), line in zip(found, lines, strict=True):
        assert status == 1, line
        assert told.startswith(f"danetc: {cases[line[-1]]}"), line
        assert told.count("\n") == 1, line
    assert modules == []


def test_no_data_at_all_is_wrong_usage_and_lists_them(danetc: Run) -> None:
    for name in set(with_data()) - {"convert", "eval", "record", "report"}:
        danetc.fails(
            "Missing option '--data'. Data sets are digits, fashion-mnist:DIR",
            name,
            "no-such-spec",
            status=2,
        )


def test_a_recipe_is_missed_after_the_data(danetc: Run, tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data")
    Path("bare.danet").write_text(SMALL)
    done = danetc.fails(
        "has no recipe, and none called `folder` is in scope", "train", "bare.danet", "--data", data
    )
    lines = len(SMALL.rstrip().splitlines())
    assert f"at the end of the file, behind line {lines}:\n\nrecipe first {{" in done.err
    shown = done.err[done.err.index("recipe first") :]
    Path("bare.danet").write_text(f"{SMALL.rstrip()}\n{shown}")
    assert danetc("check", "bare.danet").status == 0


@pytest.mark.thorough
def test_data_that_have_moved_since_the_training(danetc: Run, tmp_path: Path) -> None:
    make_folder(tmp_path / "data")
    folder = SMALL_DATA["folder"]
    Path("tiny.danet").write_text(spec(folder, f"augment = {folder.augment}; epochs = 1"))
    arguments = ("--backend", "eager", "-q", "-o", "run")
    assert danetc("train", "tiny.danet", "--data", "folder:data", *arguments).status == 0
    (tmp_path / "data").rename(tmp_path / "dta")
    found, modules = outcomes([["eval", "run"]], tmp_path)
    assert modules == []
    again = danetc("train", "--from", "run/run.json")
    for status, told in (*found, (again.status, again.err)):
        assert status == 1
        assert "there is no folder data; folder:DIR takes one" in told
        assert "--data" in told
    moved = danetc.passes("eval", "run", "--data", "folder:dta", "--json")
    assert json.loads(moved.out)["evaluated"][0]["unlike_training"] == []


def test_torchrun_prints_it_once_per_machine(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        done = danetc("train", "x", "--data", "digist")
        assert done.status == 1
        said.append("did you mean `digits`?" in done.err)
    assert said == [True, False]
