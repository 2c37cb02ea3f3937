"""Warnings of specs reach the user once, on every way to them, and change no result."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import pytest

import danetc
from danetc.main import main

from .conftest import SMALL, Run

LEAKY = SMALL.replace("neuron = LIF", "neuron = LIF(tau = 0.5)")
RECIPE = """
recipe short {
  epochs = 1
  batch = 64
  optimizer = adamw(lr = 0.01)
}
"""


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    path = tmp_path / "leaky.danet"
    path.write_text(LEAKY + RECIPE)
    return path


def test_check_shows_warnings_too(danetc: Run, leaky: Path, small: Path, tmp_path: Path) -> None:
    result = danetc("check", leaky, small)
    assert (result.status, result.out) == (0, "2 specs checked, no errors, 1 warning\n")
    assert "warning[W0301]: the state `u` of `LIF`" in result.err
    assert f"{leaky}:6:12" in result.err
    assert "1 warning; `danetc explain W0301` tells more" in result.err
    (found,) = json.loads(danetc("check", "--json", leaky).out)
    assert (found["code"], found["severity"]) == ("W0301", "warning")
    assert (found["line"], found["column"], found["end"]) == (6, 12, {"line": 6, "column": 26})
    (tmp_path / "wrong.danet").write_text(SMALL.replace("LIF", "LFI"))
    result = danetc("check", leaky, "wrong.danet")
    assert (result.status, result.out) == (1, "")
    assert "warning[W0301]" in result.err
    assert "1 error, 1 warning; `danetc explain E0210`" in result.err
    both = json.loads(danetc("check", "--json", leaky, "wrong.danet").out)
    assert [item["severity"] for item in both] == ["warning", "error"]
    leaky.write_text(LEAKY.replace("origin", "orign"))
    assert "W0" not in danetc("check", leaky).err  # which the error may have caused


def test_deny_warnings(danetc: Run, leaky: Path, small: Path) -> None:
    assert danetc("check", "--deny-warnings", small).status == 0
    result = danetc("check", "--deny-warnings", leaky, small)
    assert (result.status, result.out) == (1, "")
    assert "--deny-warnings" in result.err
    leaky.write_text(leaky.read_text().replace("(tau = 0.5)", "(tau = 0.5)  # allow W0301"))
    assert danetc("check", "--deny-warnings", leaky).status == 0


@pytest.mark.parametrize(
    "line",
    [
        "summary leaky.danet",
        "build leaky.danet -o out",
        "draw leaky.danet -o out.gv",
        "draw leaky.danet leaky.danet -o out.gv",
        "equiv leaky.danet leaky.danet",
        "train leaky.danet --data digits --backend eager -o out -q",
    ],
)
def test_commands_say_it_once_and_go_on(danetc: Run, leaky: Path, line: str) -> None:
    result = danetc(*line.split())
    assert (result.status, result.err.count("warning[W0301]")) == (0, 1)
    assert "warning" not in result.out


def test_settings_count_and_the_chosen_network(danetc: Run, leaky: Path, small: Path) -> None:
    assert "W0301" in danetc("summary", small, "--set", "neuron=LIF(tau = 0.5)").err
    assert danetc("summary", leaky, "--set", "neuron=LIF").err == ""
    leaky.write_text(SMALL + "network other = small { neuron = LIF(tau = 0.5) }\n")
    assert danetc("summary", leaky, "-n", "small").err == ""
    assert "W0301" in danetc("summary", leaky, "-n", "other").err


def test_a_recipe_is_looked_at_with_its_settings(danetc: Run, small: Path) -> None:
    arguments = ("train", small, "--data", "digits", "--dry-run")
    result = danetc.passes(*arguments, "--set", "recipe.optimizer.lr=50")
    assert "warning[W0401]: a learning rate of 50" in result.err


def test_one_of_several_processes_says_it(
    capsys: pytest.CaptureFixture[str], leaky: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert main(["summary", str(leaky)]) == 0
        assert ("W0301" in capsys.readouterr().err) == (rank == "0")


def test_explain_knows_warnings(danetc: Run) -> None:
    listed = danetc("list", "codes").out
    assert "W0301  Leak outside 0 to 1.\n" in listed
    assert danetc("explain", "w0301").out.startswith("# W0301: leak outside")
    assert "did you mean" in danetc("explain", "W0300").err


# -- Python ----------------------------------------------------------------------------------------


def test_python_gets_warnings(leaky: Path, small: Path) -> None:
    assert danetc.check(small) == ()
    (found,) = danetc.check(leaky)
    assert (found.code, found.severity, found.span.line) == ("W0301", "warning", 6)
    assert main(["summary", str(leaky)]) == 0  # which leaves Python's warnings as they were
    with pytest.warns(danetc.SpecWarning) as caught:
        danetc.build(leaky, backend="eager")
    (warning,) = caught
    assert warning.filename == __file__
    again = pickle.loads(pickle.dumps(warning.message))
    assert str(again) == str(warning.message)
    assert [each.code for each in again.diagnostics] == ["W0301"]
    assert "warning[W0301]" in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error", danetc.SpecWarning)
        with pytest.raises(danetc.SpecWarning):
            danetc.build(leaky, backend="eager")
