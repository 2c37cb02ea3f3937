"""`danetc.draw`, `train`, `evaluate`, `export`: what the commands do, from Python, without a word."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc

from .conftest import QUICK, SMALL, Run

FUNCTIONS = [name for name in dir(danetc) if inspect.isfunction(getattr(danetc, name))]
QUIET: dict[str, Any] = {"backend": "eager"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("python") / "run"
    return danetc.train(text=SMALL + QUICK, output=output, seed=3, **QUIET)


def test_what_is_listed_is_what_is_meant_to_be_used() -> None:
    assert set(FUNCTIONS) == {
        "build", "check", "compare", "convert", "data", "draw", "evaluate", "export", "fold", "import_network", "load", "measure", "predict", "record", "search", "train",
    }  # fmt: skip
    rest = set(dir(danetc)) - set(FUNCTIONS)
    assert rest == {
        "Callback", "SpecError", "SpecWarning", "StopTraining", "UserError", "__version__",
    }  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_typed_and_explained(name: str) -> None:
    function = getattr(danetc, name)
    text = inspect.getdoc(function) or ""
    assert "Raises" in text
    for parameter in inspect.signature(function).parameters.values():
        assert parameter.annotation is not parameter.empty, parameter
        assert parameter.name in text, parameter


def test_draw(danetc: Run, small: Path, tmp_path: Path) -> None:
    import danetc as package

    assert danetc("draw", small, "-o", "by_command.svg").status == 0
    picture = package.draw(small, output=tmp_path / "by_python.svg")
    for way in ("command", "python"):
        assert picture == (tmp_path / f"by_{way}.svg").read_bytes()
    assert package.draw(text=small.read_text(), level="block", format="gv").startswith(b"digraph")
    assert package.draw(small, set={"neuron": "IF"}) != picture
    assert danetc("draw", "sew_r18", "origin_r18", "-o", "c.gv").status == 0
    both = package.draw("sew_r18", "origin_r18", format="gv")
    assert both == (tmp_path / "c.gv").read_bytes()


@pytest.mark.parametrize(
    ("function", "argument", "value", "message"),
    [
        ("train", "backend", "turbo", "is one of eager, fused, spikingjelly, not 'turbo'"),
        ("train", "seeds", 0, "is a whole number, 1 to 1000, not 0"),
        ("train", "seed", True, "`seed` is int, not True"),
        ("train", "memory", "much", "much"),
        ("train", "data", "nothing", "nothing"),
        ("evaluate", "split", "all", "split is one of test, train"),
        ("evaluate", "steps", [0], "steps is a whole number, 1 to 10000, not 0"),
        ("evaluate", "precision", "int8", "precision is one of"),
        ("evaluate", "checkpoint", "later", "later"),
        ("draw", "level", "layer", "no level layer"),
        ("draw", "format", "bmp", "no format bmp"),
        ("draw", "output", "nowhere/a.svg", "no folder nowhere"),
        ("draw", "output", "a", "no format"),
        ("draw", "theme", "pink", "no theme pink"),
    ],
)
def test_wrong_arguments_say_what_is_taken(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, argument: str,
    value: Any, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = {"directory": run.directory} if function == "evaluate" else {"text": SMALL + QUICK}
    with pytest.raises(danetc.UserError, match=message):
        getattr(danetc, function)(**given, **{argument: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_nothing_is_printed(run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = {"text": SMALL + QUICK, "set": {"recipe.epochs": 1}, **QUIET}
    danetc.train(output=tmp_path / "a", **quick)
    danetc.evaluate(tmp_path / "a")
    danetc.export(tmp_path / "a", tmp_path / "w.safetensors")
    danetc.draw(text=SMALL, output=tmp_path / "a.svg")
    assert capfd.readouterr() == ("", "")
    danetc.train(output=tmp_path / "b", progress=True, **quick)
    assert "train loss" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        ("train", "data"), ("train", "set"), ("evaluate", "directory"), ("evaluate", "steps"),
        ("export", "source"), ("compare", "specs"), ("search", "specs"), ("convert", "source"),
    ],
)  # fmt: skip
def test_arguments_of_wrong_types_say_what_is_taken(function: str, argument: str) -> None:
    called = getattr(danetc, function)
    parameters = inspect.signature(called).parameters
    needed = [
        name for name, each in parameters.items() if each.default is each.empty and name != argument
    ]
    for value in (torch.nn.ReLU6, object(), b"digits", 1.5):
        with pytest.raises(danetc.UserError, match=rf"`{argument}` is .*, not "):
            called(**dict.fromkeys(needed, "nothing"), **{argument: value})


def test_functions_of_the_interface_are_found_by_pickle() -> None:
    for name in FUNCTIONS:
        assert pickle.loads(pickle.dumps(getattr(danetc, name))) is getattr(danetc, name)
