"""The frame around the commands: help, laziness, exit statuses, what goes wrong."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib.machinery import ModuleSpec
from io import BytesIO, TextIOWrapper
from math import inf, nan
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import danetc
from danetc import entry
from danetc.arguments import Setting, hints_of, parse_setting, split_hint
from danetc.commands.parser import LOADS, make_command
from danetc.dsl.diagnostics.habits import habits
from danetc.main import COMMANDS, LazyGroup, main, program
from danetc.output.echo import json_text
from danetc.runtime.data.sources import find
from danetc.tasks.networks import compile_spec
from danetc.tasks.training.plan import find_recipe

from .conftest import SMALL, Run, in_fresh_process

ROOT = Path(__file__).parents[2]
closing = pytest.mark.skipif(sys.platform == "win32", reason="its shell closes no stream")


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in out
        assert text in out
    _, modules = in_fresh_process([["--help"]], ROOT)
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
    ((status, *_),), modules = in_fresh_process([line.format(tmp_path).split()], ROOT)
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
        (["record", "x", "-o", "a.png"], "the name of this file ends in .npz"),
        (["eval", "x", "--steps", "1,0"], "0 is not in the range"),
        (["eval", "x", "--steps", "1,two"], "'two' is not a valid integer"),
        (["convert", "x", "--percentile", "40"], "40"),
        (["compare", "x", "--data", "digits", "--address", "auto"], "choose the engine ray"),
        (["compare", "--data", "digits"], "Missing argument"),
        (["search", "x"], "Missing option '--data'. Data sets are"),
        (["search", "x", "--data", "digits", "--front", "--pruner", "median"], "one objective"),
        (["train", "--data", "digits"], "Missing argument"),
        (["import", "m:f", "-o", "a.danet", "--input", "3x"], "channels x height x width"),
        (["list", "neruons"], "did you mean `neurons`?"),
        (["fmt", "-", "x.danet"], "cannot be combined with files"),
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
    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: failing)
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


# -- documents -------------------------------------------------------------------------------------


def commands(document: str) -> list[list[str]]:
    """The command lines of danetc in the shell blocks, torchrun's included."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "danetc" in words and "install" not in words:
                found.append(words[words.index("danetc") + 1 :])
    return found


DOCUMENTS = [
    name
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "results/README.md"]
    if commands(name := page.relative_to(ROOT).as_posix())
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_understood(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # DIR stands for a folder of the reader's; the kinds of data must be known ones.
    monkeypatch.setattr("danetc.runtime.data.sources.look_at", find)
    with program.make_context("danetc", ["check", "x"]) as context:
        for name, *arguments in commands(document):
            command = program.get_command(context, name)
            assert isinstance(command, click.Command), name
            command.make_context(name, arguments)  # exits with a usage error where it is none


# -- parameters of commands ------------------------------------------------------------------------


def function_of(name: str) -> Any:
    module = importlib.import_module(f"danetc.commands.{COMMANDS[name][0]}")
    return getattr(module, f"{name}_command")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_is_on_the_command_line_and_explained(name: str) -> None:
    """An annotation that cannot be evaluated would drop its parameter without a word."""
    function = function_of(name)
    wanted: set[str] = set()
    for key, hint in hints_of(function).items():
        if is_dataclass(hint) and key != "return":
            kinds = hints_of(hint)  # type: ignore[arg-type]
            names = {each.name for each in fields(hint)}
            wanted |= {each for each in names if not split_hint(kinds[each])[1].python}
        elif key != "return":
            wanted.add(key)
    command = make_command(name, function)
    found = {each.name: each for each in command.params}
    assert found.keys() - {"json"} == wanted | {"allow_code" for _ in LOADS & {name}}
    for each in found.values():
        assert not isinstance(each, click.Option) or each.help, each.name


# -- Ctrl-C ----------------------------------------------------------------------------------------


interrupting = pytest.mark.skipif(os.name == "nt", reason="processes of Windows have no SIGINT")


@interrupting
def test_interrupts_raise_except_during_torch_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = ModuleType("torch")
    torch.__spec__ = ModuleSpec("torch", None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(entry, "_end", lambda: pytest.exit("ended"))
    with pytest.raises(KeyboardInterrupt):
        entry._interrupt(signal.SIGINT, None)
    torch.__spec__._initializing = True  # type: ignore[attr-defined]
    with pytest.raises(pytest.exit.Exception, match="ended"):
        entry._interrupt(signal.SIGINT, None)


@interrupting
def test_an_interrupt_during_the_first_imports_is_one_line() -> None:
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from danetc.entry import run
sys.exit(run())
"""
    done = subprocess.run([sys.executable, "-c", code, "list"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "\ninterrupted\n")


# -- --set, and options of other programs that stand for one ---------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("shift=-3", "shift", -3),
        ("lr=1e-4", "lr", 1e-4),
        ("flag=true", "flag", True),
        ("neuron=LIF", "neuron", "LIF"),
        (" neuron = LIF(tau = 4.0) ", "neuron", "LIF(tau = 4.0)"),
        ("recipe.full.epochs=5", "recipe.full.epochs", 5),
        ("a=b==c", "a", "b==c"),
        ("a=1_000", "a", "1_000"),  # not a number of the language, so left to the compiler
        ("a=nan", "a", "nan"),
        ("a=" + "9" * 5000, "a", "9" * 5000),  # int() would refuse it
        ("a=9**9**9", "a", "9**9**9"),
    ],
)
def test_values_that_read_as_numbers_are_numbers(text: str, name: str, value: Setting) -> None:
    found = parse_setting(text)
    assert found == (name, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    "text", ["", "steps", "=2", "steps=", "steps= ", "1a=2", "a b=2", "a..b=2", "é=1", "a;b=1"]
)
def test_invalid_settings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=VALUE"):
        parse_setting(text)


OPTIONS = {row.answer: row.name for row in habits() if "--set" in row.answer}


@pytest.mark.parametrize("answer", OPTIONS)
def test_an_option_of_other_programs_says_which_setting_to_write(danetc: Run, answer: str) -> None:
    option = f"--{OPTIONS[answer].replace('_', '-')}"
    result = danetc("train", "a.danet", option, "4")
    assert (result.status, result.out) == (2, "")
    assert f"no such option: {option}; {answer}" in result.err
    _, written = shlex.split(answer.split("`")[1])
    name, value = parse_setting(written)
    if name.startswith("recipe."):
        module = compile_spec(text=SMALL).checked.module
        recipe = find_recipe(module, None, "digits", {name.removeprefix("recipe."): value})
        origins = (*recipe.origins, *recipe.phases[0].origins)
        assert "--set" in [origin.kind for _, origin in origins]
    else:
        assert compile_spec(text=SMALL, settings={name: value}).graph


@pytest.mark.parametrize(
    "command", ["summary", "build", "draw", "prove", "bench", "measure", "search"]
)
def test_every_command_with_set_knows_the_options(danetc: Run, command: str) -> None:
    assert "write `--set steps=4`" in danetc(command, "a.danet", "--T=4").err
    said = danetc(command, "a.danet", "--epochs", "5").err
    assert ("write `--set recipe.epochs=5`" in said) == (command == "search")
    assert "Error:" in said


# -- what works where torch, torchvision and scikit-learn are not installed ------------------------


WITHOUT = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "sklearn", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else found(name, *more)
"""

WORK: dict[str, str] = {
    "--help": "Commands:",
    **{f"{name} --help": "Usage:" for name in COMMANDS},
    "check a.danet": "no errors",
    "fmt a.danet": "",
    "explain E0301": "E0301",
    "explain conv": "kernel",
    "list operations": "conv",
    "new first": "first.danet",
    "show std/neurons.danet": "neuron LIF",
    "completion bash": "_DANETC_COMPLETE",
    "prove a.danet --no-numbers": "Proposition 4",
    "summary a.danet": "parameters",
    "draw a.danet -o a.svg": "",
    "draw sew_r18 origin_r18 -o b.svg": "",
    "equiv a.danet danet_a_r18": "different",
    "equiv a.danet a.danet": "equal",
    "equiv a.danet b.danet --no-numbers": "different",
}
"""Command lines, and what they print."""
DO_NOT = (
    "build a.danet",
    "prove a.danet",
    "train a.danet --data digits",
    "summary a.danet --batch 32",
    "bench a.danet",
)


def test_commands_without_torch(tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text(SMALL)
    (tmp_path / "b.danet").write_text(SMALL.replace("LIF", "IF"))
    lines = [*WORK, *DO_NOT, "equiv a.danet b.danet"]
    found, modules = in_fresh_process([line.split() for line in lines], tmp_path, WITHOUT)
    assert "torch" not in modules
    assert (tmp_path / "a.svg").is_file()
    results = dict(zip(lines, found, strict=True))
    for line, printed in WORK.items():
        status, out, err = results[line]
        assert (status, printed in out) == (printed == "different", True), (line, err)
    told = "danetc: this needs torch, which is not installed; `pip install danetc` brings it\n"
    for line in DO_NOT:
        status, _, err = results[line]
        assert (status, err) == (1, told), line
    status, out, err = results["equiv a.danet b.danet"]
    assert (status, out) == (1, "")
    assert "the graphs of small and small differ: " in err
    assert "needs torch, which is not installed; --no-numbers compares the graphs alone" in err
