"""Forged run directories: every command ends with a result, or an error that names a place.

(Damaged bytes and tensors are in test_integrity, links in test_trust.)
"""

from __future__ import annotations

import io
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from danetc.main import main
from danetc.runtime.system.files import read_record, save_record

from .conftest import SMALL

DATA = "synthetic:size=8,channels=1,classes=10,count=24,test=12"
SPEC = SMALL + "\nrecipe r { epochs = 1; batch = 12; optimizer = adamw(lr = 0.01); ema = 0.9 }\n"
TRAIN = ("--data", DATA, "--backend", "eager", "-q")
COMMANDS = (
    ("eval", "r"),
    ("eval", "r", "--checkpoint", "last", "--steps", "1"),
    ("measure", "r", "--data", DATA, "--batches", "1", "--batch", "4", "--only", "firing-rate"),
    ("report", "r", "-o", "page.html"),
    ("show", "r/spec.danet"),
    ("export", "r", "-o", "w.safetensors", "--force"),
    ("train", "--from", "r", "-o", "again", "-q"),
    ("train", "a.danet", *TRAIN, "-o", "r"),
    ("train", "a.danet", *TRAIN, "-o", "r", "--set", "recipe.epochs=2", "--override"),
)
"""Those that write to the run are the last."""
VALUES: tuple[Any, ...] = (
    None, "", "x", "../x", "/etc/passwd", -1, 0, 0.5, 1e308, 10**30, True, [], {}, [None], {"x": []},
    "python:os:abort", "a\0b", "\ud800", "x" * 5000, [[]], 2**63, "nan", "\x1b[2J",
)  # fmt: skip
REMOVED = object()
FEW = 24


def make(folder: Path) -> Path:
    """A run of one epoch, with measures."""
    with chdir(folder):
        Path("a.danet").write_text(SPEC)
        assert main(["train", "a.danet", *TRAIN, "-o", "r"]) == 0
        measure = ("measure", "r", "--data", DATA, "--batches", "1", "--batch", "4", "-o", "r")
        assert main([*measure, "--only", "firing-rate"]) == 0
    return folder


# -- damage ----------------------------------------------------------------------------------------


def forge(run: Path, chance: random.Random) -> str:
    """Change a value of a record, seal it again, and say which."""
    path = chance.choice(sorted(run.rglob("*.json")))
    record = read_record(path)
    (*way, last), holder = chance.choice(list(_places(record)))
    value = REMOVED if chance.random() < 0.25 else chance.choice(VALUES)
    if value is REMOVED:
        del holder[last]
    else:
        holder[last] = value
    save_record(record, path)
    what = "removed" if value is REMOVED else repr(value)
    return f"{path}: {'.'.join(map(str, (*way, last)))} {what}"


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Where values stand in a record, and what holds each."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*way, key), value
            yield from _places(value[key], (*way, key))


# -- trying ----------------------------------------------------------------------------------------


def wrong_in(made: Path, seed: int) -> list[str]:
    """What is not as it should be with the commands on one damaged run."""
    chance = random.Random(seed)
    wrong = []
    with tempfile.TemporaryDirectory() as name, chdir(name):
        shutil.copy(made / "a.danet", "a.danet")
        shutil.copytree(made / "r", "whole")
        shutil.copytree("whole", "r")
        what = forge(Path(name).resolve() / "r", chance)
        shutil.copytree("r", "damaged")
        for command in COMMANDS:
            shutil.rmtree("again", ignore_errors=True)
            out, err = io.StringIO(), io.StringIO()
            try:
                with redirect_stdout(out), redirect_stderr(err):
                    status = main(list(command))
            except BaseException as error:
                wrong.append(f"{seed} {what}: {' '.join(command)}: {type(error).__name__}: {error}")
                continue
            said = err.getvalue()
            bad = "internal error" in said or "Traceback" in said or status not in (0, 1)
            if bad or (status == 1 and not said.strip()) or "\x1b" in said + out.getvalue():
                wrong.append(f"{seed} {what}: {' '.join(command)}: {status}: {said[-400:]}")
            if command[0] == "train":
                shutil.rmtree("r")
                shutil.copytree("damaged", "r")
    return wrong


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"))


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(FEW))
def test_a_damaged_run_is_an_error_that_names_a_place(made: Path, seed: int) -> None:
    assert wrong_in(made, seed) == []
