"""Neurons against SpikingJelly, and against plain PyTorch where it has none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate as sj_surrogate
from torch import Tensor, nn

from danetc.dsl.neuron.program import Learn
from danetc.runtime.checks.propositions import first_step, slope
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.layers.neuron import Neuron

T, SHAPE = 4, (3, 2, 5, 4)


def inputs(seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(T, *SHAPE, generator=generator, dtype=torch.float64) * scale


def gradients(module: Any, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Output, gradient of the input and of the parameters, for a loss that tells all apart."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    out = module(x)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    (out * weight).sum().backward()
    assert x.grad is not None
    grads = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    return out.detach(), x.grad.clone(), grads


def assert_same(ours: Any, theirs: Any, x: Tensor, tolerance: float = 1e-9) -> None:
    out, grad, params = gradients(ours, x)
    expected, expected_grad, expected_params = gradients(theirs, x)
    assert torch.equal(out, expected)
    assert 0.02 < (out != 0).double().mean() < 0.98, "the test needs spikes and silence"
    torch.testing.assert_close(grad, expected_grad, rtol=tolerance, atol=tolerance)
    assert len(params) == len(expected_params)
    for one, other in zip(params, expected_params, strict=True):
        torch.testing.assert_close(one, other.view_as(one), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(
    ("name", "arguments", "node", "options"),
    [
        ("IF", {}, sj.IFNode, {}),
        ("IF", {"v_rest": 0.25}, sj.IFNode, {"v_reset": 0.25}),
        ("LIF", {}, sj.LIFNode, {"tau": 2.0}),
        ("LIF", {"tau": 3.5}, sj.LIFNode, {"tau": 3.5}),
        ("LIF", {"tau": 4.0, "v_rest": 0.25}, sj.LIFNode, {"tau": 4.0, "v_reset": 0.25}),
        ("PLIF", {}, sj.ParametricLIFNode, {"init_tau": 2.0}),
        ("PLIF", {"tau": 3.0}, sj.ParametricLIFNode, {"init_tau": 3.0}),
        ("IF_soft", {}, sj.IFNode, {"v_reset": None}),
        ("LIF_soft", {"tau": 3.0}, sj.LIFNode, {"tau": 3.0, "v_reset": None}),
        ("PLIF_soft", {}, sj.ParametricLIFNode, {"v_reset": None}),
    ],
)
def test_spikingjelly(
    compiled: Any, name: str, arguments: Any, node: Any, options: Any, detach: bool
) -> None:
    program = compiled(name, detach_reset=detach, **arguments)
    ours = Neuron(program.text(), T, 3).double()
    theirs = node(
        step_mode="m",
        surrogate_function=sj_surrogate.Sigmoid(alpha=4.0),
        detach_reset=detach,
        **options,
    ).double()
    for item in theirs.parameters():  # 0-dimensional float32 log(tau - 1)
        item.data = ours.params()[0].detach().clone()

    def reference(x: Tensor) -> Tensor:
        theirs.reset()
        return theirs(x)

    reference.zero_grad = theirs.zero_grad  # type: ignore[attr-defined]
    reference.parameters = theirs.parameters  # type: ignore[attr-defined]
    assert_same(ours, reference, inputs())


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("surrogate a(alpha = 3.0) { y = sigmoid(alpha * x) }", sj_surrogate.Sigmoid(3.0)),
        (
            "surrogate a(alpha = 2.0) { z = 3.141592653589793 / 2 * alpha * x;"
            " dy = alpha / 2 / (1 + z * z) }",
            sj_surrogate.ATan(2.0),
        ),
        (
            "surrogate triangle(width = 0.5) { dy = max(1 - abs(x) / width, 0) / width }",
            sj_surrogate.PiecewiseQuadratic(2.0),
        ),
        (
            "surrogate rectangle(width = 0.5) { dy = (abs(x) < width / 2) / width }",
            sj_surrogate.Rect(2.0),
        ),
        (
            "surrogate soft(a = 2.0) { y = (a * x / (1 + abs(a * x)) + 1) / 2 }",
            sj_surrogate.SoftSign(2.0),
        ),
    ],
)
def test_surrogates(compiled: Any, text: str, theirs: nn.Module) -> None:
    ours = Neuron(compiled("neuron step { s = heaviside(x) }", text).text(), T, 3)
    assert_same(ours, theirs, inputs())


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


def test_steps_one_by_one(compiled: Any) -> None:
    """Streaming gives the numbers and the gradients of the whole sequence."""
    neuron = Neuron(compiled("ALIF", beta=Learn(1.8)).text(), T, 3).double()

    class Streamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = neuron

        def forward(self, x_seq: Tensor) -> Tensor:
            states, out = None, []
            for x in x_seq:
                s, states = self.neuron.step(x, states)
                out.append(s)
            return torch.stack(out)

    assert_same(neuron, Streamed(), inputs(), 1e-12)


def test_spikes_are_exact_in_every_type(compiled: Any) -> None:
    program = compiled("PLIF", tau=3.0)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        neuron = Neuron(program.text(), T, 3)
        x = inputs().to(dtype).requires_grad_()
        out = neuron(x)
        assert out.dtype == dtype
        assert set(out.unique().tolist()) == {0.0, 1.0}
        out.sum().backward()
        assert x.grad is not None
        assert x.grad.dtype == dtype
        (w,) = neuron.params()
        assert w.grad is not None
        assert w.grad.dtype == w.dtype == torch.float32


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
    with pytest.raises(ValueError, match=r"not with 3 dimensions: \[2, 3, 4\]"):
        neuron(torch.rand(2, 3, 4))
    with pytest.raises(TypeError, match="floating-point"):
        neuron(torch.ones(2, 3, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="one time step"):
        neuron(torch.rand(0, 2, 3, 4, 4))
    with pytest.raises(ValueError, match="is no statement"):
        Neuron("neuron x; import os", 1, 1)


INTEGER = """
neuron integer_LIF(most = 4) {
  state u = 0.0
  v = 0.5 * u + x
  s = round(min(max(v, 0), most))
  u = v - s
}
"""


@pytest.mark.parametrize("name", ["IF", "LIF", "MSLIF", "ReLU", "integer"])
def test_the_reference_has_the_slopes_of_the_kernel(compiled: Any, name: str) -> None:
    """Also at kinks and at the threshold, where whole numbers often are."""
    program = compiled(INTEGER if name == "integer" else name)
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 4.0, 5.0, 8.0], dtype=torch.float64).view(-1, 1)
    ours = kernel(program.text())
    (expected,) = ours.backward(torch.ones(1, 8, 1).double(), x.unsqueeze(0), [], None)
    torch.testing.assert_close(slope(program, x), expected[0], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(first_step(program, x), ours.forward(x.unsqueeze(0), [], None)[0])


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
