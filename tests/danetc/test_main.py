"""The frame around the commands: help, lazy imports, exit statuses and errors."""

import importlib
import json
import os
import re
import shlex
import shutil
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
from unittest.mock import Mock

import click
import pytest

import danetc
from danetc import entry
from danetc.arguments import hints_of, parse_setting, split_hint
from danetc.commands.parser import LOADS, make_command
from danetc.dsl.diagnostics.habits import habits
from danetc.main import COMMANDS, LazyGroup, main, program
from danetc.output.echo import json_text
from danetc.runtime.data.sources import find
from danetc.runtime.kernels import compiled
from danetc.runtime.system.files import read_record
from danetc.tasks.networks import compile_spec
from danetc.tasks.training.plan import find_recipe

from .conftest import FEW, SMALL, Run, in_fresh_process

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in out
        assert text in out
    _, modules = in_fresh_process([["--help"]], ROOT)
    assert not any(name.startswith("danetc.commands.") for name in modules)
    assert not {"torch", "rich", "lark", "networkx", "numpy", "danetc.compiler"} & modules
    assert "danetc.tasks.networks" not in modules
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        own = capsys.readouterr().out
        assert own.startswith(f"Usage: danetc {name} ")
        assert not re.search(r"  \s*$", own, re.MULTILINE), "an option without a text"


def test_python_m_danetc_is_the_same_program() -> None:
    assert in_shell("--version").stdout == f"danetc {danetc.__version__}\n"


USAGE = {
    "biuld": "no such command: biuld; did you mean `build`?",
    "build x --sed 1": "No such option",
    "build x --seed -1": "--seed",
    "build x --set steps": "is not NAME=VALUE",
    "build x --set steps=1 --set steps=2": "set twice",
    "build x --memory 8XB": "is not a size",
    "build x --memory 1kB": "--batch",
    "explain": "Missing argument",
    "draw x -o a": "ends in .svg, .png, .pdf or .gv",
    "draw x --level layer": "'layer' is not one of",
    "draw x --theme red": "'red' is not one of",
    "draw danet_c_r18 sew_r18": "several specs need -o",
    "record x -o a.png": "the name of this file ends in .npz",
    "eval x --steps 1,0": "0 is not in the range",
    "eval x --steps 1,two": "'two' is not a valid integer",
    "eval x --steps 2 -o x.svg": "--over-time",
    "eval x --confusion a.svg": "--per-class",
    "eval x --over-time -o a.jpg": "ends in .svg, .png or .pdf",
    "convert x --percentile 40": "40",
    "compare x --data digits --address auto": "choose the engine ray",
    "compare --data digits": "Missing argument",
    "measure --data digits": "Missing argument",
    "measure x --data digits --batches 0": "0 is not in the range",
    "search x": "Missing option '--data'. Data sets are",
    "search x --data digits --front --pruner median": "one objective",
    "train --data digits": "Missing argument",
    "import m:f -o a.danet --input 3x": "channels x height x width",
    "list neruons": "did you mean `neurons`?",
    "fmt - x.danet": "cannot be combined with files",
    "compare x --data digits --grid steps": "is not NAME=VALUE",
    "compare x --data digits --grid steps=": "is not NAME=VALUE",
    "compare x --data digits --grid steps=1,,2": "is not NAME=VALUE",
    "compare x --data digits --grid steps=1,2,1": "has the value 1 twice",
    "compare x --data digits --grid seed=1,2": "use --seeds N",
    "compare x --data digits --grid classes=1,5": "2 or more",
    "compare x --data digits --grid recipe=1,2": "names of recipes",
}


@pytest.mark.parametrize("line", USAGE)
def test_usage(line: str, danetc: Run) -> None:
    found = danetc(*line.split())
    assert (found.status, found.out) == (2, "")
    assert USAGE[line] in " ".join(found.err.split())


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
    error: BaseException, status: int, message: str, monkeypatch: pytest.MonkeyPatch, danetc: Run
) -> None:
    failing = click.Command("check", callback=Mock(side_effect=error))
    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: failing)
    assert main(["check"]) == status
    err = danetc.capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    monkeypatch.setenv("DANETC_DEBUG", "1")
    assert main(["check"]) == status
    is_bug = isinstance(error, RuntimeError)
    assert ("Traceback" in danetc.capsys.readouterr().err) == is_bug


@pytest.mark.thorough
def test_a_reader_that_leaves_is_no_error() -> None:
    """The reader closes the pipe early, as in `danetc list codes | head -1`."""
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
@pytest.mark.skipif(sys.platform == "win32", reason="its shell closes no stream")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_process_without_an_output_writes_to_nowhere(closed: str) -> None:
    for arguments, status in (("--version", 0), ("check no-such-spec", 1)):
        done = in_shell(f"{arguments} {closed}")
        assert done.returncode == status
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "fmt"])
def test_standard_input_limits(command: str, danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard input has no spec to read."""
    if sys.platform != "win32":  # the Windows shell does not close streams
        done = in_shell(f"{command} - <&-")
        told = "danetc: there is no standard input to read a spec from\n"
        assert (done.returncode, done.stderr) == (1, told)
    for data, told in (
        (b"# \xff", "not UTF-8 text (byte 0xff in line 1)"),
        (b"use std\0", "is a binary file"),
        (b"#" * 1_000_001, "is larger than 1 MB"),
    ):
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(data)))
        danetc.fails(told, command, "-")


def test_json_has_null_for_what_is_no_number() -> None:
    found = json.loads(json_text({"a": (inf, -inf, [nan, 1.5])}))
    assert found == {"a": [None, None, [None, 1.5]]}


# -- documents -------------------------------------------------------------------------------------


def commands(document: Path) -> list[list[str]]:
    """Return the command lines of danetc in the shell blocks, including those of torchrun."""
    text = "".join(re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL))
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [x[x.index("danetc") + 1 :] for x in found if "danetc" in x and "install" not in x]


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "results/README.md"]


@pytest.mark.parametrize("document", [*filter(commands, PAGES)], ids=lambda page: page.stem)
def test_commands_are_understood(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.runtime.data.sources.look_at", find)  # DIR is a placeholder
    with program.make_context("danetc", ["check", "x"]) as context:
        for name, *arguments in commands(document):
            command = program.get_command(context, name)
            assert isinstance(command, click.Command), name
            command.make_context(name, arguments)  # an invalid line exits with a usage error


# -- parameters of commands ------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_is_on_the_command_line_and_explained(name: str) -> None:
    """An annotation that cannot be evaluated would silently drop its parameter."""
    module = importlib.import_module(f"danetc.commands.{COMMANDS[name][0]}")
    function: Any = getattr(module, f"{name}_command")
    hints = hints_of(function)
    wanted = {"allow_code" for _ in LOADS & {name}}
    for key in hints.keys() - {"return"}:
        if is_dataclass(hints[key]):
            kinds = hints_of(hints[key])  # type: ignore[arg-type]
            names = {each.name for each in fields(hints[key])}
            wanted |= {each for each in names if not split_hint(kinds[each])[1].python}
        else:
            wanted.add(key)
    found = {each.name: each for each in make_command(name, function).params}
    assert ("device" in found) == (name in RUNS)
    assert found.keys() - {"json"} == wanted
    for each in found.values():
        assert not isinstance(each, click.Option) or each.help, each.name


# -- Ctrl-C ----------------------------------------------------------------------------------------


interrupting = pytest.mark.skipif(os.name == "nt", reason="processes of Windows have no SIGINT")


@interrupting
def test_interrupts_raise_except_during_torch_import(monkeypatch: pytest.MonkeyPatch) -> None:
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


# -- --set, and options of other programs that correspond to a setting -----------------------------


def test_values_that_read_as_numbers_are_numbers() -> None:
    """Numbers that the language does not have stay text for the compiler."""
    values = {"shift=-3": -3, "a.b.c=5": 5, "lr=1e-4": 1e-4, "flag=true": True, "neuron=LIF": "LIF"}
    texts = ("b==c", "1_000", "nan", "9" * 5000, "9**9**9", "LIF(tau = 4.0)")
    for text, value in {**values, **{f" a = {text} ": text for text in texts}}.items():
        name, found = parse_setting(text)
        assert (name, found, type(found)) == (text.partition("=")[0].strip(), value, type(value))
    for text in ("", "steps", "=2", "steps=", "steps= ", "1a=2", "a b=2", "é=1", "a;b=1", "a..b=2"):
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


def test_every_command_with_set_knows_the_options(danetc: Run) -> None:
    for command in ("summary", "build", "draw", "prove", "bench", "measure", "search"):
        assert "write `--set steps=4`" in danetc(command, "a.danet", "--T=4").err, command
        said = danetc(command, "a.danet", "--epochs", "5").err
        assert ("write `--set recipe.epochs=5`" in said) == (command == "search"), command
        assert "Error:" in said


# -- backends and devices --------------------------------------------------------------------------


def test_no_compiler_means_eager(danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "missing_compiler", lambda device: "no C++ compiler")
    train = ("train", quick, "--data", FEW, "--quiet", "-o", "run")
    noted = danetc.passes(*train, "--device", "cpu").err
    assert noted.count("note:") == 1
    assert "the backend is eager: there is no C++ compiler" in noted
    assert read_record(Path("run/training.json"))["backend"] == "eager"
    assert read_record(Path("run/run.json"))["facts"]["device"] == "cpu"
    assert danetc.passes("eval", "run").out == danetc.passes("eval", "run", "--device", "cpu").out
    missing = ImportError("the backend `spikingjelly` needs SpikingJelly 2, which is not installed")
    require = "danetc.runtime.layers.spikingjelly.require"
    monkeypatch.setattr(require, Mock(side_effect=missing))
    danetc.fails("needs SpikingJelly 2", *train, "-o", "other", "--backend", "spikingjelly")


SHIPPED = "pretrained:danet_c_small_digits"
GRID = f"a.danet --data {FEW} --grid steps=1,2"
RUNS = {
    "train": f"a.danet --data {FEW}",
    "eval": SHIPPED,
    "predict": f"{SHIPPED} a.danet",
    "record": f"{SHIPPED} --data digits",
    "measure": f"{SHIPPED} --data digits --batches 1",
    "convert": "pretrained:ann_c_small_digits",
    "export": f"{SHIPPED} -o x.safetensors",
    "compare": GRID,
    "search": f"{GRID} --select-on test",
    "bench": "a.danet",
    "report": "built --data digits",
}


@pytest.mark.parametrize("name", RUNS)
def test_a_device_that_is_missing(name: str, danetc: Run, written: Path) -> None:
    if name == "search":
        pytest.importorskip("optuna")
    Path("a.danet").write_text(SMALL)
    shutil.copytree(written, "built")
    told = "this machine has no device xpu:7; it has cpu"
    danetc.fails(told, name, *RUNS[name].split(), "--device", "xpu:7")
    assert {each.name for each in Path().iterdir()} == {"a.danet", "built"}


# -- commands that work without torch, torchvision and scikit-learn --------------------------------


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
    "check no-such-file": "",
    "fmt a.danet": "",
    "fmt --check a.danet": "",
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
DO_NOT = (
    "build a.danet",
    "prove a.danet",
    "train a.danet --data digits",
    "summary a.danet --batch 32",
    "bench a.danet",
)


@pytest.mark.parametrize("before", ["", WITHOUT], ids=["not imported", "not installed"])
def test_commands_on_text_need_no_torch(tmp_path: Path, before: str) -> None:
    (tmp_path / "a.danet").write_text(SMALL)
    (tmp_path / "b.danet").write_text(SMALL.replace("LIF", "IF"))
    works = [line for line in WORK if before or not line.endswith(" --help")]
    report = "report pretrained:danet_c_small_digits -o c.html"
    lines = [*works, *([*DO_NOT, "equiv a.danet b.danet"] if before else [report])]
    found, modules = in_fresh_process([line.split() for line in lines], tmp_path, before)
    assert not {"torch", "torchvision"} & modules
    assert (tmp_path / "a.svg").is_file()
    results = dict(zip(lines, found, strict=True))
    for line in works:
        status, out, err = results[line]
        fails = WORK[line] == "different" or "no-such-file" in line
        assert (status, WORK[line] in out) == (fails, True), (line, err)
    if not before:
        assert results[report][0] == 0
        return
    told = "danetc: this needs torch, which is not installed; `pip install danetc` brings it\n"
    for line in DO_NOT:
        status, _, err = results[line]
        assert (status, err) == (1, told), line
    status, out, err = results["equiv a.danet b.danet"]
    assert (status, out) == (1, "")
    assert "the graphs of small and small differ: " in err
    assert "needs torch, which is not installed; --no-numbers compares the graphs alone" in err
