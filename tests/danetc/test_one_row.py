"""An operation and a function of equations that nobody knew are one row each: every command and the
Python interface work with them.

The rows are drawn from a few templates and put into the tables from outside.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import danetc as package
from danetc import reference
from danetc.compiler import check_text, graph_of
from danetc.compiler.ir.graph import Shape
from danetc.compiler.ir.ops import OPS, Op, Parameter, TorchFunction, TorchModule, kinds, shapes
from danetc.compiler.ir.ops.forms import function
from danetc.dsl.neuron.opcodes import OPCODES, OpInfo
from danetc.dsl.ranges import REAL, NumberRange
from tests.differential.test_step_memory import check_exact

from .conftest import Run

DATA = "synthetic:size=8,channels=1,count=64,test=16"
TEXT = """\
use std

neuron bent(tau = 2.0, v_threshold = 1.0) {{
  state u = 0.0
  v = u + ({f}(x) - u) / tau
  s = heaviside(v - v_threshold)
  u = v * (1 - s)
}}

network odd(classes = 10) {{
  input = image(1, 8, 8)
  steps = 2
  neuron = bent
  surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> {plain} -> spike
  stages = stage(basic(4), 2) via sew
  head = {sized}({value}) -> {heavy} -> avgpool -> mean_over_time -> linear(classes) -> {plain}
}}

recipe quick {{ epochs = 1; batch = 32; optimizer = adamw(lr = 0.01) }}
"""


def plain(dice: Random, name: str) -> Op:
    """A function of each number."""
    target = dice.choice([f"torch.nn.functional.{name}" for name in ("silu", "mish", "selu")])
    emit = function(target, layout="any")
    return Op(name, "bends", shapes.same, kinds.analog, emit)


def sized(dice: Random, name: str) -> Op:
    """The same with a parameter."""
    target = dice.choice(["torch.nn.functional.leaky_relu", "torch.nn.functional.elu"])
    return Op(
        name,
        "bends below 0",
        shapes.same,
        kinds.analog,
        lambda attrs, values, value, context: TorchFunction(target, (attrs["bend"],), layout="any"),
        (Parameter("bend", float, "the slope below 0", 0.1, 0.0, 1.0),),
    )


def heavy(dice: Random, name: str) -> Op:
    """A layer with weights of its own."""

    def prelu(attrs: Any, values: Any, context: Any) -> dict[str, Shape]:
        return {"weight": values[0].shape[:1]}

    def square(attrs: Any, values: Any, context: Any) -> dict[str, Shape]:
        channels = values[0].shape[0]
        return {"weight": (channels, channels, 1, 1), "bias": (channels,)}

    if dice.random() < 0.5:
        return Op(
            name, "a slope for each channel", shapes.same, kinds.analog,
            lambda attrs, values, value, context: TorchModule("torch.nn.PReLU", values[0].shape[:1]),
            weights=prelu,
        )  # fmt: skip
    return Op(
        name, "mixes the channels of each pixel", shapes.same, kinds.analog,
        lambda attrs, values, value, context: TorchModule(
            "torch.nn.Conv2d", (values[0].shape[0],) * 2, {"kernel_size": 1}
        ),
        weights=square,
        macs=lambda attrs, values, shape: shape[0] * math.prod(shape),
    )  # fmt: skip


def bent(dice: Random) -> OpInfo:
    """A function of equations."""

    def arctan(to: Any, grad: Any, out: Any, args: Any) -> Any:
        square = to.emit("add", 1.0, to.emit("mul", args[0], args[0]))
        return (to.emit("div", grad, square),)

    def erf(to: Any, grad: Any, out: Any, args: Any) -> Any:
        power = to.emit("exp", to.emit("neg", to.emit("mul", args[0], args[0])))
        return (to.emit("mul", grad, to.emit("mul", 2 / math.sqrt(math.pi), power)),)

    text, derivative, value, bounds = dice.choice(
        [
            ("torch.atan({0})", arctan, math.atan, NumberRange(-1.6, 1.6, 0.0)),
            ("torch.erf({0})", erf, math.erf, REAL),
        ]
    )
    return OpInfo(1, text, derivative, lambda a: bounds, value, takes=(1, 1), rounds=True)


@pytest.fixture
def spec(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """A network of operations and a function that were put into the tables."""
    dice = Random(request.param)
    names = [f"{word}{dice.randrange(1000)}" for word in ("plain", "sized", "heavy", "f")]
    for template, name in zip((plain, sized, heavy), names[:3], strict=True):
        monkeypatch.setitem(OPS, name, template(dice, name))  # type: ignore[arg-type]
    monkeypatch.setitem(OPCODES, names[3], bent(dice))
    words = dict(zip(("plain", "sized", "heavy", "f"), names, strict=True))
    path = tmp_path / "odd.danet"
    path.write_text(TEXT.format(**words, value=0.25))
    path.with_suffix(".names").write_text(" ".join(names))
    forget()
    yield path
    forget()


def forget() -> None:
    """What the reference has read of the tables."""
    for each in (reference.section, reference._by_name):
        each.cache_clear()


def done(danetc: Run, *arguments: str | Path) -> str:
    result = danetc(*arguments)
    assert result.status == 0, f"danetc {' '.join(map(str, arguments))}\n{result.err}"
    return result.out


def names_of(spec: Path) -> Sequence[str]:
    return spec.with_suffix(".names").read_text().split()


@pytest.mark.parametrize("spec", [1, 2], indirect=True)
def test_commands_that_read_a_spec(danetc: Run, spec: Path, tmp_path: Path) -> None:
    first, second, third, function_name = names_of(spec)
    done(danetc, "check", spec)
    done(danetc, "fmt", spec)
    told = done(danetc, "explain", second)
    assert f"{second}(bend = 0.1)" in told
    assert "the slope below 0 (a number from 0 to 1; 0.1 by default)" in told
    listed = done(danetc, "list", "operations") + done(danetc, "list", "equations")
    assert {first, second, third, function_name} <= {
        line.split()[0] for line in listed.splitlines()
    }
    for level in ("network", "stage", "block", "op"):
        done(danetc, "draw", spec, "--level", level, "-o", f"{level}.svg")
    picture = (tmp_path / "op.svg").read_text()
    assert all(name in picture for name in (first, second, third))
    done(danetc, "draw", spec, "--level", "neuron", "-o", "neuron.svg")
    assert f"{function_name}(" in (tmp_path / "neuron.svg").read_text()
    done(danetc, "summary", spec, "--batch", "4", "--json")
    done(danetc, "build", spec, "-o", "shown")
    done(danetc, "prove", spec, "--json")
    done(danetc, "equiv", spec, spec)
    other = tmp_path / "other.danet"
    other.write_text(spec.read_text().replace("(0.25)", "(0.5)"))
    assert f"{second} with bend 0.25 and 0.5" in danetc("equiv", spec, other).out


@pytest.mark.parametrize(
    ("spec", "backend"),
    [pytest.param(3, "eager", marks=pytest.mark.thorough), (4, "fused")],
    indirect=["spec"],
)
def test_training_and_what_follows(danetc: Run, spec: Path, tmp_path: Path, backend: str) -> None:
    run = tmp_path / "runs" / "odd"
    done(danetc, "train", spec, "--data", DATA, "--dry-run", "--backend", backend)
    done(danetc, "train", spec, "--data", DATA, "--backend", backend, "--memory", "recompute")
    record = json.loads(done(danetc, "eval", run, "--json", "--batch", "300"))
    assert record
    done(danetc, "measure", run, "--data", DATA, "--batches", "1", "--batch", "8", "--json")
    model = package.load(run).eval()
    before = {name for name, _ in model.named_parameters()}
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        assert expected.std() > 0
        assert torch.equal(
            _written(run / "model.py", run / "weights.safetensors")(images), expected
        )
        if backend == "eager":
            torch.testing.assert_close(package.fold(model)(images), expected, rtol=1e-4, atol=1e-5)
            done(danetc, "export", run, "-o", "net.pt2")
            program = torch.export.load(tmp_path / "net.pt2").module()
            assert torch.equal(program(images), expected)
    done(danetc, "export", run, "-o", "w.safetensors")
    assert {name for name, _ in package.build(spec).named_parameters()} == before


def _written(path: Path, weights: Path) -> Any:
    """The model of a standalone model.py."""
    spec = importlib.util.spec_from_file_location("written_model", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(str(weights)).eval()


@pytest.mark.parametrize("spec", [5], indirect=True)
def test_the_python_interface_and_the_bench(danetc: Run, spec: Path) -> None:
    assert package.check(spec) == ()
    eager, fused = (package.build(spec, backend=name) for name in ("eager", "fused"))
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    losses = [model(images).square().sum() for model in (eager, fused)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(*losses)
    for (name, a), (_, b) in zip(eager.named_parameters(), fused.named_parameters(), strict=True):
        assert a.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    quick = ("--rounds", "1", "--batch", "2", "--threads", "1", "--json")
    done(danetc, "bench", spec, *quick)


@pytest.mark.parametrize("spec", [7], indirect=True)
def test_what_is_saved_for_the_backward_pass_is_counted_exactly(spec: Path) -> None:
    cases = [
        (backend, policy, "float32")
        for backend in ("eager", "fused")
        for policy in ("none", "recompute")
    ]
    check_exact(graph_of(check_text(spec.read_text())), *cases)


@pytest.mark.parametrize("spec", [6], indirect=True)
def test_the_first_weights_are_drawn_from_the_seed_alone(spec: Path) -> None:
    torch.manual_seed(1)
    one = package.build(spec, seed=3).state_dict()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert all(
        torch.equal(a, one[name]) for name, a in package.build(spec, seed=3).state_dict().items()
    )
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
