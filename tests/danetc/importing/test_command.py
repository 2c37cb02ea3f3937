"""`danetc import` on the command line: what it writes, and what it says of wrong sources."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import danetc as package
from danetc.commands.trainings import import_text
from danetc.compiler import check_text
from danetc.errors import UserError
from danetc.tasks.importing.network import load_model, plain_name

from ..conftest import Run

NETS = """
import torch
from torch import nn

def make(width=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3),
    )

model = make()
number = 3
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def test_the_text_of_an_import() -> None:
    stage = SimpleNamespace(own=("odd",), rule="dense", text="stage(basic(4), 2)", connection="sew")
    found = SimpleNamespace(network="net", lines=12, stages=[stage], own=["odd"])
    seen = SimpleNamespace(own_weights=True, samples=10, deviation=0.5, difference=1e-7, flipped=1)
    assert import_text(SimpleNamespace(found=found, agreement=seen)).splitlines() == [  # type: ignore[arg-type]
        "net: 12 lines",
        "  stage(basic(4), 2) via sew by dense  (odd: its own)",
        "not in the standard library: odd",
        "compared    10 samples with its weights: logits vary by 0.5, the largest difference "
        "is 1.0e-07",
        "            1 more (10.0 %) differ: rounding changes a spike at its threshold",
    ]


def test_it_writes_a_spec_and_a_directory_that_others_read(danetc: Run, nets: Path) -> None:
    done = danetc("import", "nets.py:make(width=6)", "--input", "2x8x8", "-o", "net.danet", "--samples", 8, "--json")  # fmt: skip
    assert done.status == 0, done.err
    record = json.loads(done.out)
    assert record["compared"]["own_weights"]
    assert record["compared"]["difference"] < 1e-5
    assert danetc("check", "net.danet").status == 0
    assert danetc("export", "net", "-o", "w.safetensors").status == 0
    namespace: dict[str, object] = {}
    exec(NETS, namespace)
    model = namespace["make"](width=6).eval()  # type: ignore[operator]
    images = torch.rand(4, 2, 8, 8)
    with torch.no_grad():
        assert torch.allclose(package.load("net").eval()(images), model(images), atol=1e-5)
    danetc.fails("--force", "import", "nets.py:make", "--input", "2x8x8", "-o", "net.danet")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nets.py:mak", "did you mean `make`"),
        ("nets.py:number", "neither a model nor a function"),
        ("nets.py:make(depth=3)", "cannot be called with these arguments"),
        ("nets.py:make(3)", "arguments by name"),
        ("nets.py:make(width=1+1)", "not a literal"),
        ("nets.py:make(width=__import__('os').getpid())", "not a literal"),
        ("nowhere.py:make", "there is no file "),
        ("no_such_module:make", "there is no module `no_such_module`"),
        ("nets.py", "MODULE:FACTORY"),
        ("net.onnx", "ONNX is not imported; give the PyTorch model that it was exported from"),
    ],
)
def test_a_wrong_source_is_an_error(danetc: Run, nets: Path, source: str, said: str) -> None:
    danetc.fails(said, "import", source, "--input", "2x8x8", "-o", "net.danet")
    assert not Path("net.danet").exists()


def test_a_wrong_shape_is_wrong_usage(danetc: Run, nets: Path) -> None:
    danetc.fails("3x32x32", "import", "nets.py:make", "--input", "2x8", "-o", "net.danet", status=2)


def test_arguments_are_literals_and_names_of_modules() -> None:
    made = "torch.nn:Conv2d(in_channels=2, out_channels=3, kernel_size=(1, 3), dtype=torch.float64)"
    name, found = load_model(made)
    assert (name, found.weight.dtype) == ("Conv2d", torch.float64)
    assert found.weight.shape == (3, 2, 1, 3)
    with pytest.raises(UserError, match="dotted name"):
        load_model("a:make(x=y)")


@pytest.mark.parametrize(
    ("name", "plain"),
    [("net", "net"), ("my-net", "my_net"), ("18", "net_18"), ("for", "net_for"), ("IF", "net_IF")],
)
def test_a_network_is_called_by_what_a_spec_can_have(name: str, plain: str) -> None:
    assert plain_name(name) == plain
    check_text(
        f"use std\nnetwork {plain} {{ input = image(1, 4, 4); steps = 1; neuron = IF; "
        "surrogate = atan; out = in -> conv(2) -> spike -> avgpool -> linear(2) }"
    )
