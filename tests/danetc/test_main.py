"""The frame around the commands: help, laziness, exit statuses, what goes wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from math import inf, nan
from pathlib import Path
from typing import Any

import click
import pytest

import danetc
from danetc import main as program
from danetc.main import COMMANDS, main, process
from danetc.output.echo import json_text

ROOT = Path(__file__).parents[2]
closing = pytest.mark.skipif(sys.platform == "win32", reason="its shell closes no stream")

PROBE = """
import json, sys
from danetc.main import main
status = main(sys.argv[1:])
print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)
"""


def modules_after(*arguments: str) -> tuple[int, set[str]]:
    """Exit status of a command in a fresh process, and the modules that it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True
    )
    status, names = json.loads(done.stderr.splitlines()[-1])
    return status, set(names)


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in out
        assert text in out
    _, modules = modules_after("--help")
    assert not any(name.startswith("danetc.commands.") for name in modules)
    assert not {"torch", "rich", "lark", "networkx", "numpy", "danetc.compiler"} & modules
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        own = capsys.readouterr().out
        assert own.startswith(f"Usage: danetc {name} ")
        assert not re.search(r"  \s*$", own, re.MULTILINE), "an option without a text"


@pytest.mark.parametrize(
    "line",
    [
        "check danet_c_r18",
        "check no-such-file",
        "summary danet_c_r18",
        "list codes",
        f"fmt --check {ROOT / 'specs' / 'danet_c_r18.danet'}",
        "draw danet_c_r18 -o {}/out.svg",
        "prove baa_r18 --no-numbers",
        "equiv origin_r18 danet_c_r18",
        "report pretrained:danet_c_small_digits -o {}/out.html",
    ],
)
def test_commands_on_text_never_import_torch(line: str, tmp_path: Path) -> None:
    status, modules = modules_after(*line.format(tmp_path).split())
    assert status == ("no-such-file" in line)
    assert not {"torch", "torchvision", "danetc.commands.build"} & modules


def test_importing_the_package_imports_neither_torch_nor_the_compiler() -> None:
    code = "import danetc, sys; print([m for m in sys.modules if m in %r])"
    wanted = ["torch", "danetc.compiler", "danetc.tasks.networks", "lark", "click", "numpy"]
    done = subprocess.run(
        [sys.executable, "-c", code % wanted], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_python_m_danetc_is_the_same_program() -> None:
    assert in_shell("--version").stdout == f"danetc {danetc.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["biuld"], "no such command: biuld; did you mean `build`?"),
        (["build", "x", "--sed", "1"], "No such option"),
        (["build", "x", "--seed", "-1"], "--seed"),
        (["build", "x", "--set", "steps"], "is not NAME=VALUE"),
        (["build", "x", "--set", "steps=1", "--set", "steps=2"], "set twice"),
        (["build", "x", "--memory", "8XB"], "is not a size"),
        (["explain"], "Missing argument"),
        (["draw", "x", "-o", "a"], "ends in .svg, .png, .pdf or .gv"),
        (["draw", "x", "--level", "layer"], "'layer' is not one of"),
        (["draw", "x", "--theme", "red"], "'red' is not one of"),
        (["draw", "danet_c_r18", "sew_r18"], "several specs need -o"),
        (["eval", "x", "--steps", "1,0"], "0 is not in the range"),
        (["eval", "x", "--steps", "1,two"], "'two' is not a valid integer"),
        (["convert", "x", "--percentile", "40"], "40"),
        (["compare", "x", "--data", "digits", "--address", "auto"], "choose the engine ray"),
        (["compare", "x", "--data", "digits", "--grid", "steps"], "is not NAME=VALUE"),
        (["compare", "--data", "digits"], "Missing argument"),
        (["search", "x"], "Missing option '--data'. Data sets are"),
        (["search", "x", "--data", "digits", "--front", "--pruner", "median"], "single objective"),
        (["train", "--data", "digits"], "Missing argument"),
        (["import", "m:f", "-o", "a.danet", "--input", "3x"], "channels x height x width"),
        (["list", "neruons"], "did you mean `neurons`?"),
        (["fmt", "-", "x.danet"], "cannot be combined with files"),
        (["draw", "x", "-o", "out.bmp"], "ends in .svg, .png, .pdf or .gv"),
    ],
)
def test_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "a.danet"), 1, "a.danet: Permission denied"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (RuntimeError("oh"), 1, "internal error: RuntimeError: oh"),
        (RecursionError(), 1, "report it"),
    ],
)
def test_what_goes_wrong_is_said_without_a_traceback_unless_asked_for(
    error: BaseException,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    failing = click.Command("check", callback=fail)
    monkeypatch.setattr(program.LazyGroup, "get_command", lambda *_: failing)
    monkeypatch.delenv("DANETC_DEBUG", raising=False)
    assert main(["check"]) == status
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    monkeypatch.setenv("DANETC_DEBUG", "1")
    assert main(["check"]) == status
    is_bug = isinstance(error, RuntimeError)
    assert ("Traceback" in capsys.readouterr().err) == is_bug


@pytest.mark.thorough
def test_a_reader_that_leaves_is_no_error() -> None:
    """As in `danetc list codes | head -1`."""
    command = [sys.executable, "-m", "danetc", "list", "codes"]
    process: Any = subprocess.Popen(command, stdout=-1, stderr=-1)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1)
    assert err == b""


def in_shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run ``danetc LINE`` in a shell, which can close streams."""
    command = f'"{sys.executable}" -m danetc {line}'
    return subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.thorough
@closing
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_process_without_an_output_writes_to_nowhere(closed: str) -> None:
    for arguments, status in (("--version", 0), ("check no-such-spec", 1)):
        done = in_shell(f"{arguments} {closed}")
        assert done.returncode == status
        assert "Traceback" not in done.stderr


@closing
@pytest.mark.parametrize("command", ["check", "fmt"])
def test_a_process_without_an_input_has_no_spec_to_read(command: str) -> None:
    done = in_shell(f"{command} - <&-")
    told = "danetc: there is no standard input to read a spec from\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"# \xff", "not UTF-8 text (byte 0xff in line 1)"),
        (b"use std\0", "is a binary file"),
        (b"#" * 1_000_001, "is larger than 1 MB"),
    ],
)
@pytest.mark.parametrize("command", ["check", "fmt"])
def test_standard_input_has_the_limits_of_a_file(
    command: str, data: bytes, told: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(data)))
    assert main([command, "-"]) == 1
    assert told in capsys.readouterr().err


def test_json_has_null_for_what_is_no_number() -> None:
    found = json.loads(json_text({"a": (inf, -inf, [nan, 1.5])}))
    assert found == {"a": [None, None, [None, 1.5]]}


def test_a_short_command_disables_garbage_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    for name in ("disable", "freeze"):
        monkeypatch.setattr(f"danetc.main.gc.{name}", lambda name=name: calls.append(name))
    for command in ("check", "train"):
        monkeypatch.setattr(sys, "argv", ["danetc", command, "--help"])
        assert process() == 0
    assert calls == ["disable", "freeze"]
