"""Errors in a user's own code are shown with file, line and source, and never as a bug of danetc."""

from pathlib import Path

import pytest

from danetc.errors import UserError
from danetc.tasks.importing.network import import_network

from .conftest import SMALL, Run

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
        return torch.zeros(1, 8, 8), index % 10

class WithoutLength(Samples):
    def __len__(self):
        raise OSError("no length")  # length

class WithoutClasses(Samples):
    @property
    def classes(self):
        raise RuntimeError("no classes")  # classes

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
            raise IndexError("again")  # Net
        return torch.flatten(self.conv(x), 1)

class Untraced(Net):
    def forward(self, x):
        raise IndexError("at once")  # Untraced

def misused():
    return Net(3)  # misused
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(CODE)
    Path("net.danet").write_text(SMALL)


def place(mark: str) -> str:
    """Return the file and number of the line that has this mark as its comment."""
    lines = CODE.partition(f"# {mark}\n")[0].splitlines()
    return f"mine.py, line {len(lines)}, "


TRAIN = 'train net.danet --data digits -o run --set recipe.epochs=1 --set recipe.loss=python("mine.py:{}")'
IMPORT = "import mine.py:{} -o x.danet --input 1x8x8"
CASES = {
    "raises": (TRAIN, 'in raises: ValueError: no loss (`raise ValueError("no loss")  # raises`)'),
    "leaves": (TRAIN, "in leaves: SystemExit: 7"),
    "mute": (TRAIN, "in mute: Mute: with a message that cannot be shown"),
    "backward": (TRAIN, "in backward: KeyError: 'in backward'"),
    "length": ("data python:mine.py:{}", "OSError: no length"),
    "classes": ("data python:mine.py:{}", "RuntimeError: no classes"),
    "quits": ("data python:mine.py:{}", "SystemExit: bye"),
    "Net": (IMPORT, "IndexError: again"),
    "Untraced": (IMPORT, "IndexError: at once"),
    "misused": (IMPORT, "TypeError: "),
}
"""Command lines that run an object of the file, and the error at the line marked with its name."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.thorough] * (row[0] == TRAIN))
        for name, row in CASES.items()
    ],
)
def test_an_error_of_own_code(danetc: Run, name: str) -> None:
    line, what = CASES[name]
    told = danetc.fails(what, *line.format(name).split()).err
    assert place(name) in told
    assert "bug" not in told


def test_a_call_that_a_factory_does_not_take_is_told_as_such() -> None:
    told = r"mine.py:Net cannot be called with these arguments: .*Give them by name"
    with pytest.raises(UserError, match=told):
        import_network("mine.py:Net(depth=3)", (1, 8, 8))
