"""Single neurons and layers that use danetc's operators, and torch's operator checks."""

from math import exp, log1p
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import danetc
from danetc.main import main
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.layers.attention import KeysFirst, Scores
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.norm import RunningMean, StaticBatchNorm2d, StepBatchNorm2d
from danetc.runtime.layers.time import Delay, DropPath, Learnt, MaskedTimeLinear
from tests.runtime.conftest import compile_text
from tests.runtime.training.common import STILL

STEPS = 3
ops = torch.ops.danetc


def test_equal_operands_share_the_gradient_as_in_torch() -> None:
    """max(|x|, x) is a tie wherever x is positive: half the gradient goes each way."""
    x = torch.tensor([[2.0, -3.0]], requires_grad=True)
    ties = 2 * x, 3 * x - 2
    (wanted,) = torch.autograd.grad((torch.maximum(*ties) + torch.minimum(*ties) * 10).sum(), x)
    for body, expected in (
        ("s = max(abs(x), 3 * x / 3)", [[1.0, -1.0]]),
        ("s = max(abs(x), 2)", [[1.0, -1.0]]),
        ("a = 2 * x; b = 3 * x - 2; s = max(a, b) + min(a, b) * 10", wanted.tolist()),
    ):
        neuron = Neuron(compile_text(f"neuron n {{ {body} }}").text(), 1, 1)
        (grad,) = torch.autograd.grad(neuron(x).sum(), x)
        assert grad.tolist() == expected


def test_bad_input_is_named() -> None:
    neuron = Neuron(compile_text("IF").text(), 4, 3)
    with pytest.raises(ValueError, match=r"not 3 dimensions: \[2, 3, 4\]"):
        neuron(torch.rand(2, 3, 4))
    with pytest.raises(TypeError, match="floating-point"):
        neuron(torch.ones(2, 3, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="one time step"):
        neuron(torch.rand(0, 2, 3, 4, 4))
    with pytest.raises(ValueError, match="is not a statement"):
        Neuron("neuron x; import os", 1, 1)


def test_a_state_that_the_step_only_writes_from_scalars() -> None:
    """The state is expanded to the tensor's shape, and its gradient is summed."""
    program = compile_text(
        "neuron n { state u = 0.0; w = learn(0.4); v = x * u + w; u = w * 2; s = v }"
    )
    assert "spread" in kernel(program.text()).source
    x = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    out = ops.neuron(x, [w], 3, 1, program.text())
    expected = torch.stack([x[0] * 0 + w, x[1] * (2 * w) + w, x[2] * (2 * w) + w])
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    found, wanted = (torch.autograd.grad(y.square().sum(), [x, w]) for y in (out, expected))
    torch.testing.assert_close(found, wanted)


# -- values that are learnt ------------------------------------------------------------------------

LEARNT = (
    STILL.replace("neuron = LIF", "neuron = mine")
    + """
neuron mine {
  state u = 0
  a = learn(1, above = 0.5, below = 2.5)
  b = learn(2, above = 1)
  c = learn(-1, below = 0, per = channel)
  d = learn(0.5)
  v = a * u + b * x + c * d
  s = heaviside(v - 1)
  u = v * (1 - s)
}
"""
)


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_values_are_within_their_bounds(backend: str) -> None:
    neuron: Any = danetc.build(text=LEARNT, seed=1, backend=backend).get_submodule("stem.spike")
    softplus = [log1p(exp(number + 0.7)) for number in range(8)]
    start = {"a": [1.0], "b": [2.0], "c": [-1.0] * 8, "d": [0.5]}
    later = {"a": [0.5 + 2 / (1 + exp(-0.7))], "b": [1 + softplus[0]], "d": [0.7]}
    later["c"] = [-value for value in softplus]
    for expected in (start, later):
        found = {name: value.flatten().tolist() for name, value in neuron.values().items()}
        assert found == {name: pytest.approx(each, rel=1e-6) for name, each in expected.items()}
        with torch.no_grad():
            for parameter in neuron.parameters():
                parameter.copy_(torch.arange(parameter.numel()).view_as(parameter) + 0.7)
    assert neuron.values()["c"].shape == (8, 1, 1)
    assert not neuron.values()["a"].requires_grad


def test_measure_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for spec, text in (("mine.danet", LEARNT), ("plain.danet", STILL)):
        Path(spec).write_text(text)
        common = ["--data", "digits", "--batches", "1", "--only", "firing-rate"]
        assert main(["measure", spec, *common]) == 0
        out = capsys.readouterr().out
        assert ("a 1, b 2, c -1, d 0.5" in out) == ("learnt" in out) == (spec == "mine.danet")
    rates = danetc.measure("mine.danet", "digits", batches=1, only=["firing-rate"]).firing_rate
    assert rates is not None
    assert rates.layers[0].learnt["b"] == pytest.approx(2.0)


# -- operators and layers --------------------------------------------------------------------------


def test_second_derivatives() -> None:
    """The surrogate's second derivatives are equal in the operator of all steps and that of one step."""
    program = compile_text("PLIF").text()
    x = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(ops.neuron(x, [w], 2, 1, program).sum(), x, create_graph=True)
    (by_steps,) = torch.autograd.grad(dx.square().sum(), w)
    s, v = ops.neuron_step(x, [], [w], program)
    s = s + ops.neuron_step(x, [v], [w], program)[0]
    (dx,) = torch.autograd.grad(s.sum(), x, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(dx.square().sum(), w)[0], by_steps)
    assert by_steps


def test_opcheck() -> None:
    program = compile_text("PLIF").text()
    x, state, sequence = (torch.rand(*lead, 2, 3, requires_grad=True) for lead in ((), (), (3,)))
    w = torch.tensor(0.1, requires_grad=True)
    for sample in (x, sequence):
        torch.library.opcheck(ops.neuron.default, (sample, [w], 3, 1, program))
    torch.library.opcheck(ops.neuron_step.default, (x, [state], [w], program))


def test_drop_path() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.25, 3)
    x = torch.rand(STEPS, 2000, 1, 2, 2) + 1
    out = layer(x)
    kept = (out != 0).flatten(2).double().mean(2)
    assert set(kept.unique().tolist()) == {0.0, 1.0}, "a sample is kept or dropped as a whole"
    assert torch.equal(kept[0], kept[1]), "at all its time steps"
    assert kept.mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(out[:, kept[0] == 1], x[:, kept[0] == 1] * (1 / 0.75))
    assert layer(x[0]).shape == x[0].shape
    assert torch.equal(layer.eval()(x), x)
    with pytest.raises(ValueError, match="probability"):
        DropPath(1.0, 3)


def test_layers_print_their_settings() -> None:
    layers = nn.ModuleList(
        [
            Scores(2), KeysFirst(3, 0), Learnt(0.5, 4, above=0.0), StaticBatchNorm2d(4, STEPS),
            StepBatchNorm2d(4, STEPS), RunningMean(2), Delay(1), DropPath(0.1, 3),
            MaskedTimeLinear(STEPS, 2, masked=0.5),
        ]
    )  # fmt: skip
    for part in (
        "Scores(heads=2)", "KeysFirst(heads=3)", "Learnt([4], above=0.0)",
        "(4, steps=3, eps=1e-05, momentum=0.1)", "RunningMean(2, momentum=0.1)", "Delay(1)", "DropPath(p=0.1)",
        "window=2, masked=0.5",
    ):  # fmt: skip
        assert part in str(layers)
