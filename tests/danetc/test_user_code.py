"""Errors of a user's own code are shown as the user's: file, line, source, and never as a bug."""

from __future__ import annotations

from pathlib import Path

import pytest

from danetc.errors import UserError
from danetc.main import main
from danetc.runtime.data import Batches, DataError, open_data
from danetc.runtime.data.augment import image_transform
from danetc.tasks.importing.network import import_network

CODE = """
import sys
import torch
from torch import nn

class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")

class Backward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.mean()

    @staticmethod
    def backward(context, gradient):
        raise KeyError("in backward")  # backward

def raises(output, labels):
    raise ValueError("no loss")  # raises

def mistyped(output, labels):
    return (output @ labels).mean()  # mistyped

def leaves(output, labels):
    sys.exit(7)  # leaves

def mute(output, labels):
    raise Mute  # mute

def backward(output, labels):
    return Backward.apply(output)

class Samples:
    targets = [index % 10 for index in range(200)]

    def __len__(self):
        return 200

    def __getitem__(self, index):
        if index == 133:
            raise LookupError("gone")  # late
        return torch.zeros(1, 8, 8), index % 10

class WithoutLength(Samples):
    def __len__(self):
        raise OSError("no length")  # length

class WithoutClasses(Samples):
    @property
    def classes(self):
        raise RuntimeError("no classes")  # classes

def late():
    return Samples(), Samples()

def length():
    return WithoutLength(), Samples()

def classes():
    return WithoutClasses(), Samples()

def quits():
    sys.exit("bye")  # quits

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 1:
            raise IndexError("again")  # again
        return torch.flatten(self.conv(x), 1)

class Untraced(Net):
    def forward(self, x):
        raise IndexError("at once")  # at once

def misused():
    return Net(3)  # misused
"""
SPEC = """
use std
network small {
  input = image(1, 8, 8)
  steps = 2
  neuron = IF
  surrogate = atan
  out = in -> conv(4) -> spike -> avgpool -> mean_over_time -> linear(10)
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "net.danet").write_text(SPEC)
    return tmp_path


def place(mark: str) -> str:
    """``line N`` of the line that has this mark as its comment."""
    lines = CODE.splitlines()
    return f"mine.py, line {next(n for n, line in enumerate(lines, 1) if line.endswith(f'# {mark}'))}, "


def assert_told(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    told = capsys.readouterr().err
    assert all(part in told for part in parts), told
    assert "bug" not in told


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("loss", "what"),
    [
        ("raises", 'ValueError: no loss (`raise ValueError("no loss")  # raises`)'),
        ("mistyped", "RuntimeError: "),
        ("leaves", "SystemExit: 7"),
        ("mute", "Mute: with a message that fails itself"),
        ("backward", "KeyError: 'in backward'"),
    ],
)
def test_an_error_of_an_own_loss(loss: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = f'recipe.loss=python("mine.py:{loss}")'
    arguments = ["train", "net.danet", "--data", "digits", "-o", "run", "--set", recipe]
    assert main([*arguments, "--set", "recipe.epochs=1"]) == 1
    assert_told(capsys, f"{place(loss)}in {loss}: {what}")


@pytest.mark.parametrize(("name", "what"), [
    ("length", "OSError: no length"), ("classes", "RuntimeError: no classes"), ("quits", "SystemExit: bye"),
])  # fmt: skip
def test_an_error_of_own_data(name: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", f"python:mine.py:{name}"]) == 1
    assert_told(capsys, place(name), what)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_an_error_of_a_sample(workers: int) -> None:
    data = open_data("python:mine.py:late")
    batches = Batches(
        data.train, image_transform([]), batch=50, seed=0, train=True, workers=workers
    )
    with pytest.raises(DataError, match="LookupError: gone") as caught:
        for _ in batches.epoch(0):
            pass
    batches.close()
    assert place("late") in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "mark", "what"),
    [
        ("Net", "again", "IndexError: again"),
        ("Untraced", "at once", "IndexError: at once"),
        ("misused", "misused", "TypeError: "),
    ],
)
def test_an_error_of_an_imported_model(
    factory: str, mark: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", f"mine.py:{factory}", "-o", "x.danet", "--input", "1x8x8"]) == 1
    assert_told(capsys, place(mark), what)


def test_a_call_that_a_factory_does_not_take_is_told_as_such() -> None:
    with pytest.raises(
        UserError, match=r"mine.py:Net cannot be called with these arguments: .*Give them by name"
    ):
        import_network("mine.py:Net(depth=3)", (1, 8, 8))
