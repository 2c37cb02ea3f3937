"""A full disk: the error names the file, and no file is half written or lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from danetc.runtime.system.files import explain_os_error, replace_file

from .conftest import QUICK, SMALL, Run

resource = pytest.importorskip("resource", reason="only POSIX has limits of a file's size")

FULL = "the disk is full or a limit of it is reached"


@contextmanager
def full() -> Iterator[None]:
    """No file may grow beyond some bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITES = {
    ("build", "a.danet", "-o", "out"): "out/model.py",
    ("train", "a.danet", "--data", "digits", "--backend", "eager", "-o", "out"): "out/run.json",
    ("export", "DIR", "-o", "x.safetensors"): "x.safetensors",
    ("draw", "a.danet", "-o", "x.svg"): "x.svg",
    ("draw", "a.danet", "-o", "x.gv"): "x.gv",
    ("fmt", "bent.danet"): "bent.danet",
    ("report", "DIR", "-o", "x.html"): "x.html",
    ("measure", "DIR", "--data", "digits", "--batches", "1", "--only", "firing-rate", "-o", "out"):
        "out/measures.json",
    ("eval", "DIR", "--data", "digits", "--over-time", "-o", "x.svg"): "x.svg",
    ("compare", "a.danet", "--grid", "steps=1,2", "--data", "digits", "--backend", "eager",
     "-o", "out"): "out/grid.json",
}  # fmt: skip


@pytest.mark.parametrize("command", WRITES, ids=lambda command: f"{command[0]} {command[-1]}")
def test_the_file_is_named(
    danetc: Run, written: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "a.danet").write_text(SMALL + QUICK)
    bent = SMALL.replace(" = ", "   =   ")
    (tmp_path / "bent.danet").write_text(bent)
    arguments = [str(written) if word == "DIR" else word for word in command]
    with full():
        result = danetc(*arguments)
    assert result.status == 1
    if command[0] in ("measure", "eval"):  # what took the time is not lost
        assert "small: " in result.out
    told = f"danetc: {WRITES[command]}: {FULL} (File too large); free some space and try again"
    assert result.err.splitlines()[-1] == told
    assert (tmp_path / "bent.danet").read_text() == bent
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"a.danet", "bent.danet", ".lock"}
    if command[0] in ("build", "draw", "fmt"):
        assert danetc(*arguments).status == 0  # when there is room again


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["--version"], ["summary", "danet_c_small", "--json"]])
def test_standard_output_is_named(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "danetc", *arguments],
            stdout=stream, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"danetc: standard output: {FULL} (No space left on device); free some space and try again\n"
    )


def test_other_errors_are_named_too(tmp_path: Path) -> None:
    place = tmp_path / "nowhere" / "x.json"
    with pytest.raises(OSError, match=r"x\.json") as caught:
        replace_file(place, b"")
    assert explain_os_error(caught.value) == f"{place}: No such file or directory"


def test_replacing_retries_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses it while the file is open."""
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
