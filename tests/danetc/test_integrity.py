"""Damaged files and a full disk: an error names the file, danetc uses none of its content, and no
file is half written or lost.
"""

import errno
import hashlib
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
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
from danetc.runtime.system import files
from danetc.runtime.system.files import DamagedError, read_record, replace_file, save_record
from danetc.tasks.grid.results import read_results
from danetc.tasks.model_directory import epochs_in, open_directory, trials_in
from danetc.tasks.training.directory import read_run

from .conftest import QUICK, SMALL, Run
from .test_build import FILES


@pytest.fixture(scope="module")
def model(written: Path) -> Model:
    return package.load(written, backend="eager")


def each_flip(path: Path, read: Callable[[], object]) -> None:
    """Read a file with one bit flipped, at its ends and at random places. Each error names the file."""
    data = path.read_bytes()
    chance = random.Random(len(data))
    try:
        for place in (0, 7, 8, 40, len(data) - 1, *chance.choices(range(len(data)), k=45)):
            changed = bytearray(data)
            changed[place] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(package.UserError, match=path.name) as caught:
                read()
            assert "damaged" in str(caught.value)
    finally:
        path.write_bytes(data)
    read()


# -- model directories -----------------------------------------------------------------------------


def check(directory: Path, model: Model) -> None:
    """Do everything that ``danetc.load`` does before it compiles."""
    open_directory(directory)
    path = directory / "weights.safetensors"
    set_tensors(model, read_tensors(path), str(path))


@pytest.mark.parametrize("name", FILES)
def test_no_changed_bit_is_loaded(written: Path, model: Model, name: str) -> None:
    assert {path.name for path in written.iterdir()} == {*FILES}
    each_flip(written / name, lambda: check(written, model))
    assert str(written.parent).encode() not in (written / name).read_bytes()  # it names no folder


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
}
if hasattr(os, "mkfifo"):
    DAMAGE["a pipe"] = lambda path: (path.unlink(), os.mkfifo(path))


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_other_damage(written: Path, model: Model, tmp_path: Path, name: str, damage: str) -> None:
    directory = shutil.copytree(written, tmp_path / "out")
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
    place = shutil.copytree(written, tmp_path / "out") / "summary.json"
    save_record({**read_record(place), key: value}, place)
    with pytest.raises((package.UserError, package.SpecError)):
        package.load(tmp_path / "out", backend="eager")


def test_model_py_refuses_damaged_weights(written: Path, model: Model, tmp_path: Path) -> None:
    load = runpy.run_path(str(written / "model.py"))["load"]
    path = tmp_path / "weights.safetensors"
    data = (written / path.name).read_bytes()
    path.write_bytes(data)
    load(path)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        load(path)
    save_file(model.state_dict(), path)  # other programs write no digest
    load(path)


# -- other records ---------------------------------------------------------------------------------

EPOCH = {"phase": "a", "train_loss": 1e-05, "test_accuracy": 0.5, "note": "\u00e9\u2028"}
RECORDS: dict[str, tuple[dict[str, object], Callable[[Path], object]]] = {
    "run.json": ({"format": 1, "settings": {"seed": 0, "lr": 1e-05}, "facts": {}}, read_run),
    "training.json": ({"epochs": [EPOCH]}, lambda folder: epochs_in(folder / "training.json")),
    "trials.json": ({"trials": [{"directory": "seed-0"}]}, trials_in),
    "grid.json": ({"format": 1, "data": "digits", "axes": ["network"], "cells": []}, read_results),
}


@pytest.mark.parametrize("name", RECORDS)
def test_no_changed_bit_of_a_record_is_read(tmp_path: Path, name: str) -> None:
    record, read = RECORDS[name]
    path = tmp_path / name
    save_record(record, path)
    each_flip(path, lambda: read(tmp_path))
    for damage in (*OTHER_BYTES, "a folder"):
        save_record(record, path)
        DAMAGE[damage](path)
        with pytest.raises(package.UserError, match=name):
            read(tmp_path)


# -- digests of weights and records ----------------------------------------------------------------


OF_EACH_TYPE = {str(dtype): torch.tensor([[3, 0, 1]]).to(dtype) for dtype in NUMBERS}


@pytest.mark.parametrize(
    "tensors",
    [{}, {"a": torch.zeros(0)}, {'"\\': torch.ones(1), "b": torch.tensor(2)}, OF_EACH_TYPE],
)
def test_safetensors_reads_digests(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "x.safetensors"
    turned = dict(reversed(tensors.items()))
    data, same = (b"".join(tensor_file(x, {"network": 'a"\u00e9'})) for x in (tensors, turned))
    assert data == same
    path.write_bytes(data)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype is value.dtype
        assert torch.equal(found[name], value)
    if tensors:
        assert read_weights(path).keys() == tensors.keys()


def test_json_says_what_its_digest_is_of(tmp_path: Path) -> None:
    """Other tools can check the digest as the documentation describes."""
    path = tmp_path / "x.json"
    save_record({"a": 1, "nested": {"sha256": "b" * 64}}, path)
    text = path.read_text()
    own = json.loads(text)["sha256"]
    assert hashlib.sha256(text.replace(own, "0" * 64, 1).encode()).hexdigest() == own
    assert read_record(path) == {"a": 1, "nested": {"sha256": "b" * 64}}


# -- forged records: every command ends with a result, or an error that names a place --------------


DATA = "synthetic:size=8,channels=1,classes=10,count=24,test=12"
SPEC = SMALL + "\nrecipe r { epochs = 1; batch = 12; optimizer = adamw(lr = 0.01); ema = 0.9 }\n"
TRAIN = f"train a.danet --data {DATA} --backend eager -q -o r"
MEASURE = f"measure r --data {DATA} --batches 1 --batch 4 --only firing-rate"
COMMANDS = (
    "eval r",
    "eval r --checkpoint last --steps 1",
    MEASURE,
    "report r -o page.html",
    "show r/spec.danet",
    "export r -o w.safetensors --force",
    "train --from r -o again -q",
    TRAIN,
    f"{TRAIN} --set recipe.epochs=2 --override",
)
"""Commands that write to the run come last."""
VALUES: tuple[Any, ...] = (
    None, "", "x", "../x", "/etc/passwd", -1, 0, 0.5, 1e308, 10**30, True, [], {}, [None], {"x": []},
    "python:os:abort", "a\0b", "\ud800", "x" * 5000, [[]], 2**63, "nan", "\x1b[2J",
)  # fmt: skip


def forge(run: Path, chance: random.Random) -> str:
    """Change or remove a value of a record, seal the record again, and describe the change."""
    path = chance.choice(sorted(run.rglob("*.json")))
    record = read_record(path)
    (*way, last), holder = chance.choice(list(_places(record)))
    what = "removed"
    if chance.random() < 0.25:
        del holder[last]
    else:
        holder[last] = chance.choice(VALUES)
        what = repr(holder[last])
    save_record(record, path)
    return f"{path}: {'.'.join(map(str, (*way, last)))} {what}"


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the path of each value in a record, and the container of the value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*way, key), value
            yield from _places(value[key], (*way, key))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with chdir(folder := tmp_path_factory.mktemp("made")):
        Path("a.danet").write_text(SPEC)
        assert main(TRAIN.split()) == 0
        assert main([*MEASURE.split(), "-o", "r"]) == 0
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(24))
def test_a_damaged_run_is_an_error_that_names_a_place(danetc: Run, made: Path, seed: int) -> None:
    shutil.copytree(made, ".", dirs_exist_ok=True)
    what = forge(Path("r").resolve(), random.Random(seed))
    shutil.copytree("r", "damaged")
    for command in COMMANDS:
        shutil.rmtree("again", ignore_errors=True)
        done = danetc(*command.split())
        assert done.status in (0, 1), (what, command, done.err)
        assert done.status == 0 or done.err.strip(), (what, command)
        assert "\x1b" not in done.out + done.err, (what, command)
        if command.startswith("train"):
            shutil.rmtree("r")
            shutil.copytree("damaged", "r")


# -- a full disk -----------------------------------------------------------------------------------


FULL = "the disk is full or a limit of it is reached"
WRITES = {
    "build a.danet -o out": "out/model.py",
    "train a.danet --data digits --backend eager -o out": "out/run.json",
    "export DIR -o x.safetensors": "x.safetensors",
    "draw a.danet -o x.svg": "x.svg",
    "draw a.danet -o x.gv": "x.gv",
    "fmt bent.danet": "bent.danet",
    "report DIR -o x.html": "x.html",
    "measure DIR --data digits --batches 1 --only firing-rate -o out": "out/measures.json",
    "eval DIR --data digits --over-time -o x.svg": "x.svg",
    "compare a.danet --grid steps=1,2 --data digits --backend eager -o out": "out/grid.json",
}


@pytest.mark.parametrize("command", WRITES)
def test_the_file_is_named(danetc: Run, written: Path, command: str) -> None:
    """No file can grow beyond 100 bytes, as on a full disk."""
    resource = pytest.importorskip("resource", reason="only POSIX has limits of a file's size")
    Path("a.danet").write_text(SMALL + QUICK)
    bent = SMALL.replace(" = ", "   =   ")
    Path("bent.danet").write_text(bent)
    arguments = command.replace("DIR", str(written)).split()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        result = danetc(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.status == 1
    if arguments[0] in ("measure", "eval"):  # results are still printed
        assert "small: " in result.out
    told = f"danetc: {WRITES[command]}: {FULL} (File too large); free some space and try again"
    assert result.err.splitlines()[-1] == told
    assert Path("bent.danet").read_text() == bent
    left = [path for path in Path().rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"a.danet", "bent.danet", ".lock"}
    if arguments[0] in ("build", "draw", "fmt"):
        danetc.passes(*arguments)  # once there is room again


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", ["--version", "summary danet_c_small --json"])
def test_standard_output_is_named(arguments: str) -> None:
    command = [sys.executable, "-m", "danetc", *arguments.split()]
    with open("/dev/full", "wb") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, text=True)
    told = f"{FULL} (No space left on device); free some space and try again\n"
    assert (done.returncode, done.stderr) == (1, f"danetc: standard output: {told}")


def test_replacing_retries_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to replace an open file. Other errors name the file."""
    refused = [PermissionError(errno.EACCES, "in use")]
    replace = os.replace

    def once(*places: Path) -> None:
        if refused:
            raise refused.pop()
        replace(*places)

    monkeypatch.setattr("danetc.runtime.system.files._WAITS", (0.0,))
    monkeypatch.setattr("danetc.runtime.system.files.os.replace", once)
    replace_file(tmp_path / "x.json", b"new")
    assert (tmp_path / "x.json").read_bytes() == b"new"
    assert not refused
    place = tmp_path / "nowhere" / "x.json"
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(place, b"")
    assert files.explain_os_error(caught.value) == f"{place}: No such file or directory"
