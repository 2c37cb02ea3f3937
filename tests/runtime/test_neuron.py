"""Single neurons: bounds, ties, states, errors. ``test_spiking.py`` compares with SpikingJelly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from danetc.dsl.neuron.program import Learn
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.layers.neuron import Neuron

T = 4


@pytest.mark.parametrize(
    "bound", [Learn(2.0, above=1.0), Learn(2.0, below=2.25), Learn(2.0, above=1.5, below=8.0)]
)
def test_bounds_hold(compiled: Any, bound: Learn) -> None:
    """The value starts where the spec says, and no step of training leads out of the bounds."""
    program = compiled("neuron n(k = 1.0) { s = k * x }", k=bound)
    neuron = Neuron(program.text(), 1, 1).double()
    one = torch.ones(1, 1, dtype=torch.float64)
    assert neuron(one).item() == pytest.approx(2.0, abs=1e-6)
    for raw in (-20.0, 20.0):
        neuron.params()[0].data.fill_(raw)
        value = neuron(one).item()
        assert bound.above is None or value > bound.above
        assert bound.below is None or value < bound.below


def test_equal_operands_share_the_gradient_as_in_torch(compiled: Any) -> None:
    """max(|x|, x) is a tie wherever x is positive: half the gradient goes each way."""
    x = torch.tensor([[2.0, -3.0]], requires_grad=True)
    for text, expected in (
        ("max(abs(x), 3 * x / 3)", [1.0, -1.0]),
        ("max(abs(x), 2)", [1.0, -1.0]),
    ):
        program = compiled(f"neuron n {{ s = {text} }}")
        (grad,) = torch.autograd.grad(Neuron(program.text(), 1, 1)(x).sum(), x)
        assert grad.tolist() == [expected]
    program = compiled("neuron n { a = 2 * x; b = 3 * x - 2; s = max(a, b) + min(a, b) * 10 }")
    (grad,) = torch.autograd.grad(Neuron(program.text(), 1, 1)(x).sum(), x)
    a = 2 * x
    b = 3 * x - 2
    reference = torch.maximum(a, b) + torch.minimum(a, b) * 10
    assert torch.equal(grad, torch.autograd.grad(reference.sum(), x)[0])


def test_bad_input_is_named(compiled: Any) -> None:
    neuron = Neuron(compiled("IF").text(), T, 3)
    with pytest.raises(ValueError, match=r"not 3 dimensions: \[2, 3, 4\]"):
        neuron(torch.rand(2, 3, 4))
    with pytest.raises(TypeError, match="floating-point"):
        neuron(torch.ones(2, 3, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="one time step"):
        neuron(torch.rand(0, 2, 3, 4, 4))
    with pytest.raises(ValueError, match="is not a statement"):
        Neuron("neuron x; import os", 1, 1)


def test_a_state_that_the_step_only_writes_from_scalars(compiled: Any) -> None:
    """It is spread over the tensor, and its gradient summed."""
    program = compiled(
        "neuron n { state u = 0.0; w = learn(0.4); v = x * u + w; u = w * 2; s = v }"
    )
    assert "spread" in kernel(program.text()).source
    x = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    out = torch.ops.danetc.neuron(x, [w], 3, 1, program.text())
    expected = torch.stack([x[0] * 0 + w, x[1] * (2 * w) + w, x[2] * (2 * w) + w])
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    found, wanted = (torch.autograd.grad(y.square().sum(), [x, w]) for y in (out, expected))
    torch.testing.assert_close(found, wanted)
