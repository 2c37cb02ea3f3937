"""Damaged files: an error names the file, and danetc uses none of its content."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import danetc as package
from danetc.main import main
from danetc.runtime.model.built import Model
from danetc.runtime.model.weight_files import NUMBERS, read_tensors, set_tensors, tensor_file
from danetc.runtime.model.weights import read_weights
from danetc.runtime.system.files import DamagedError, read_record, save_record
from danetc.tasks.grid.results import read_results
from danetc.tasks.model_directory import epochs_in, open_directory, trials_in
from danetc.tasks.training.directory import read_run

from .conftest import SMALL
from .test_build import FILES

FLIPS = 50
"""Of each file, where it ends and begins among them."""


@pytest.fixture(scope="module")
def model(written: Path) -> Model:
    return package.load(written, backend="eager")


def flips(data: bytes, count: int = FLIPS) -> Iterator[bytes]:
    """The data with one bit changed, in the first and the last byte and at places by chance."""
    chance = random.Random(len(data))
    places = [0, 7, 8, 40, len(data) - 1, *(chance.randrange(len(data)) for _ in range(count - 5))]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        yield bytes(changed)


def each_flip(path: Path, read: Callable[[], object], count: int = FLIPS) -> int:
    """Read a file with one bit changed, ``count`` times: an error names it each time."""
    data = path.read_bytes()
    try:
        for changed in flips(data, count):
            path.write_bytes(changed)
            with pytest.raises(package.UserError, match=path.name) as caught:
                read()
            assert "damaged" in str(caught.value)
    finally:
        path.write_bytes(data)
    read()
    return count


# -- model directories -----------------------------------------------------------------------------


def check(directory: Path, model: Model) -> None:
    """All that ``danetc.load`` does before it compiles."""
    open_directory(directory)
    path = directory / "weights.safetensors"
    set_tensors(model, read_tensors(path), str(path))


@pytest.mark.parametrize("name", FILES)
def test_no_changed_bit_is_loaded(written: Path, model: Model, name: str) -> None:
    assert {path.name for path in written.iterdir()} == {*FILES}
    each_flip(written / name, lambda: check(written, model))


def put(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


OTHER_BYTES: dict[str, Callable[[Path], object]] = {
    "empty": put(lambda data: b""),
    "cut": put(lambda data: data[:-1]),
    "longer": put(lambda data: data + b"\n"),
    "brackets": put(lambda data: b"[" * 200_000),
    "binary": put(lambda data: bytes(range(256)) * 4),
}
DAMAGE: dict[str, Callable[[Path], object]] = {
    **OTHER_BYTES,
    "no file": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}
if not hasattr(os, "mkfifo"):
    del DAMAGE["a pipe"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_other_damage(written: Path, model: Model, tmp_path: Path, name: str, damage: str) -> None:
    directory = tmp_path / "out"
    shutil.copytree(written, directory)
    check(directory, model)
    DAMAGE[damage](directory / name)
    if damage == "no file" and name in ("model.py", "topology.svg", "small.graph"):
        check(directory, model)
        return
    with pytest.raises((package.UserError, DamagedError), match=name):
        check(directory, model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "1"), ("format", None), ("network", 3), ("network", "../x"),
        ("files", None), ("files", []), ("files", {}), ("files", {"spec.danet": 3}),
        ("files", {"spec.danet": "", "../other": ""}), ("memory", 3), ("memory", {}),
        ("memory", {"policy": "some"}),
    ],
)  # fmt: skip
def test_values_of_the_wrong_type(written: Path, tmp_path: Path, key: str, value: object) -> None:
    shutil.copytree(written, tmp_path / "out")
    place = tmp_path / "out" / "summary.json"
    save_record({**read_record(place), key: value}, place)
    with pytest.raises((package.UserError, package.SpecError)):
        package.load(tmp_path / "out", backend="eager")


def test_nothing_names_a_place_on_this_machine(written: Path) -> None:
    for name in FILES:
        assert str(written.parent).encode() not in (written / name).read_bytes(), name


def test_model_py_refuses_damaged_weights(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "out")
    module: dict[str, object] = {}
    exec((written / "model.py").read_text(), module)
    load = module["load"]
    assert callable(load)
    path = tmp_path / "out" / "weights.safetensors"
    ours = package.load(written, backend="eager").state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in load(path).state_dict().items())
    data = path.read_bytes()
    changed = bytearray(data)
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        load(path)
    save_file(ours, path)  # of others: they have no digest
    load(path)


# -- other records ---------------------------------------------------------------------------------

EPOCH = {"phase": "a", "train_loss": 1e-05, "test_accuracy": 0.5, "note": "\u00e9\u2028"}
RECORDS: dict[str, tuple[dict[str, object], Callable[[Path], object]]] = {
    "run.json": (
        {"format": 1, "settings": {"seed": 0, "lr": 1e-05}, "facts": {}},
        lambda folder: read_run(folder),
    ),
    "training.json": ({"epochs": [EPOCH]}, lambda folder: epochs_in(folder / "training.json")),
    "trials.json": ({"trials": [{"directory": "seed-0"}]}, lambda folder: trials_in(folder)),
    "grid.json": (
        {"format": 1, "data": "digits", "axes": ["network"], "cells": []},
        lambda folder: read_results(folder),
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_no_changed_bit_of_a_record_is_read(tmp_path: Path, name: str) -> None:
    record, read = RECORDS[name]
    path = tmp_path / name
    save_record(record, path)
    each_flip(path, lambda: read(tmp_path))
    for damage in (*OTHER_BYTES, "a folder"):
        DAMAGE[damage](path)
        with pytest.raises(package.UserError, match=name):
            read(tmp_path)
        if path.is_dir():
            path.rmdir()
        save_record(record, path)


# -- weights on their own --------------------------------------------------------------------------


OF_EACH_TYPE = {str(dtype): torch.tensor([[3, 0, 1]]).to(dtype) for dtype in NUMBERS}


@pytest.mark.parametrize(
    "tensors",
    [{}, {"a": torch.zeros(0)}, {'"\\': torch.ones(1), "b": torch.tensor(2)}, OF_EACH_TYPE],
)
def test_safetensors_reads_digests(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "x.safetensors"
    written = b"".join(tensor_file(tensors, {"network": 'a"\u00e9'}))
    path.write_bytes(written)
    assert written == b"".join(
        tensor_file(dict(reversed(tensors.items())), {"network": 'a"\u00e9'})
    )
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype is value.dtype
        assert torch.equal(found[name], value)
    if tensors:
        assert read_weights(path).keys() == tensors.keys()


def test_json_says_what_its_digest_is_of(tmp_path: Path) -> None:
    """As the documentation tells, for who wants to check it with other tools."""
    import hashlib

    path = tmp_path / "x.json"
    save_record({"a": 1, "nested": {"sha256": "b" * 64}}, path)
    text = path.read_text()
    own = json.loads(text)["sha256"]
    assert hashlib.sha256(text.replace(own, "0" * 64, 1).encode()).hexdigest() == own
    assert read_record(path) == {"a": 1, "nested": {"sha256": "b" * 64}}


# -- forged records: every command ends with a result, or an error that names a place --------------


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
