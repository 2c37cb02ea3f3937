"""The operators inside a model: traced, exported, compiled, copied; outputs and gradients."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from danetc.runtime.layers.attention import KeysFirst, Scores
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.norm import (
    RunningMean,
    StaticBatchNorm2d,
    StepBatchNorm2d,
    TemporalEffectiveBatchNorm2d,
)
from danetc.runtime.layers.time import Delay, DropPath, Learnt, MaskedTimeLinear, affine

STEPS = 3
ops = torch.ops.danetc


class Net(nn.Module):
    """Every kind of layer that the runtime has, on a static image or on a sequence."""

    def __init__(self, program: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = StaticBatchNorm2d(4, STEPS)
        self.first = Neuron(program, STEPS, 3)
        self.tebn = TemporalEffectiveBatchNorm2d(4, STEPS)
        self.path = DropPath(0.0, 3)
        self.second = Neuron(program, STEPS, 3)
        self.steps = StepBatchNorm2d(4, STEPS)
        self.third = Neuron(program, STEPS, 3)
        self.head = nn.Linear(4, 3)
        for norm in (self.norm, self.tebn, self.steps):
            nn.init.ones_(norm.bias)  # spikes in evaluation too

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.flatten(0, -4)).unflatten(0, x.shape[:-3])
        x = affine(self.first(self.norm(x)), 1.5, 0.1)
        x = x + self.path(self.second(self.tebn(x)))
        x = self.third(self.steps(x)).mean((-1, -2))
        return self.head(ops.mean_over_time(x, 1))


@pytest.fixture
def net(compiled: Any) -> Net:
    return Net(compiled("PLIF").text()).double()


def image() -> Tensor:
    return torch.rand(4, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def run(forward: Callable[[Tensor], Tensor], owner: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, gradients of the input and of all parameters, buffers after the step."""
    owner.zero_grad()
    x = x.clone().requires_grad_()
    out = forward(x)
    out.square().sum().backward()
    assert x.grad is not None
    grads = [p.grad for p in owner.parameters()]
    assert all(grad is not None for grad in grads)
    assert sum(grad.abs().sum() > 0 for grad in grads if grad is not None) == len(grads)
    return [
        out.detach(),
        x.grad,
        *(grad.clone() for grad in grads),
        *map(Tensor.clone, owner.buffers()),
    ]


def assert_equal(found: list[Tensor], expected: list[Tensor], tolerance: float = 0.0) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


INPUTS = {"static": image(), "sequence": torch.stack([image(), 1 - image(), image() * 2])}


@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
def test_fx_traces_again(net: Net, x: Tensor) -> None:
    twin = fx.symbolic_trace(fx.symbolic_trace(copy.deepcopy(net)))
    targets = [node.target for node in twin.graph.nodes]
    assert targets.count(ops.neuron) + targets.count(ops.neuron.default) == 3
    assert {"norm", "tebn", "steps", "path"} <= set(map(str, targets)), "norms stay modules"
    assert_equal(run(twin, twin, x), run(net, net, x))
    net.eval(), twin.eval()
    assert_equal(run(twin, twin, x), run(net, net, x))


@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("training", [True, False])
def test_export(net: Net, x: Tensor, training: bool) -> None:
    net.train(training)
    twin = torch.export.export(copy.deepcopy(net), (x,)).module()
    assert_equal(run(twin, twin, x), run(net, net, x), 1e-12)


def test_export_with_any_batch(net: Net) -> None:
    net.eval()
    batch = torch.export.Dim("batch")
    twin = torch.export.export(net, (image(),), dynamic_shapes=({0: batch},)).module()
    x = torch.cat([image(), image(), 1 - image()])
    torch.testing.assert_close(twin(x), net(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
def test_compile_without_a_break(net: Net, x: Tensor) -> None:
    twin = copy.deepcopy(net)
    torch.compiler.reset()
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    assert_equal(run(compiled, twin, x), run(net, net, x), 1e-12)


def test_copies_and_state(net: Net) -> None:
    twin = copy.deepcopy(net)
    again = pickle.loads(pickle.dumps(net))
    fresh = Net(net.first.program).double()
    for parameter in fresh.parameters():
        parameter.data.add_(1.0)
    fresh.load_state_dict(net.state_dict())
    expected = run(net, net, image())
    for other in (twin, again, fresh):
        assert_equal(run(other, other, image()), expected)


def test_backward_twice(net: Net) -> None:
    """Two passes in a row are independent: no state is left behind."""
    net.eval()
    first = run(net, net, INPUTS["sequence"])
    run(net, net, image())
    assert_equal(run(net, net, INPUTS["sequence"]), first)


def test_the_same_graph_backward_twice(net: Net) -> None:
    net.eval()
    out = net(image()).square().sum()
    out.backward(retain_graph=True)
    first = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    out.backward()
    assert_equal([p.grad / 2 for p in net.parameters() if p.grad is not None], first)


def test_second_derivatives(compiled: Any) -> None:
    """Those of the surrogate, by torch's own check of the operators of all steps and of one."""
    program = compiled("PLIF").text()
    x = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    u = torch.rand_like(x).requires_grad_()
    (dx,) = torch.autograd.grad(ops.neuron(x, [w], 2, 1, program).sum(), x, create_graph=True)
    (by_steps,) = torch.autograd.grad(dx.square().sum(), w)
    s, v = ops.neuron_step(x, [], [w], program)
    s = s + ops.neuron_step(x, [v], [w], program)[0]
    (dx,) = torch.autograd.grad(s.sum(), x, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(dx.square().sum(), w)[0], by_steps)
    assert by_steps
    spikes = ops.neuron_step(x, [u], [w], program)[0]
    grads = torch.autograd.grad(spikes.sum(), [x, u, w], create_graph=True)
    assert all(g.requires_grad for g in grads)


def test_opcheck(compiled: Any) -> None:
    """torch's own checks of schemas, fake tensors and autograd registration."""
    program = compiled("PLIF").text()
    x = torch.rand(2, 3, requires_grad=True)
    w = torch.tensor(0.1, requires_grad=True)
    states = [torch.rand(2, 3, requires_grad=True)]
    for sample in (x, torch.rand(3, 2, 3, requires_grad=True)):
        torch.library.opcheck(ops.neuron.default, (sample, [w], 3, 1, program))
    torch.library.opcheck(ops.neuron_step.default, (x, states, [w], program))


def test_mean_over_time_and_per_step() -> None:
    x, sequence = torch.rand(2, 3), torch.rand(5, 2, 3)
    assert torch.equal(ops.mean_over_time(x, 1), x)
    assert torch.equal(ops.mean_over_time(sequence, 1), sequence.mean(0))
    assert torch.equal(ops.per_step(x, 4, 1), torch.stack([x] * 4))
    assert torch.equal(ops.per_step(sequence, 4, 1), sequence)


def test_poisson() -> None:
    torch.manual_seed(0)
    x = torch.tensor([[-0.5, 0.0, 0.25, 0.9, 1.0, 1.5]])
    spikes = ops.poisson(x, 20_000, 1)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    rates = spikes.mean((0, 1)).tolist()
    assert rates[:2] == [0.0, 0.0]
    assert rates[4:] == [1.0, 1.0]
    assert rates[2:4] == pytest.approx([0.25, 0.9], abs=0.015)
    assert ops.poisson(torch.rand(5, 2, 3), 4, 1).shape == (5, 2, 3)


def test_latency() -> None:
    tau, x = 6.0, torch.tensor([[1.0, 2.0, 0.9, 0.5, 0.2, 0.0, -1.0]], dtype=torch.float64)
    spikes = ops.latency(x, 8, 1, tau)
    assert spikes.shape == (8, 1, 7)
    assert spikes.sum(0).tolist() == [[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]
    # 6 ln(1 / 0.9) = 0.63, 6 ln 2 = 4.16, 6 ln 5 = 9.66: after the last step
    assert spikes.argmax(0)[0, :4].tolist() == [0, 0, 0, 4]
    assert torch.equal(ops.latency(x.expand(8, *x.shape), 8, 1, tau), spikes)
    assert torch.equal(ops.latency(x.expand(3, *x.shape), 8, 1, tau), spikes[:3])


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
    text = str(layers)
    for part in (
        "Scores(heads=2)", "KeysFirst(heads=3)", "Learnt([4], above=0.0)",
        "(4, steps=3, eps=1e-05, momentum=0.1)", "RunningMean(2, momentum=0.1)", "Delay(1)", "DropPath(p=0.1)",
        "window=2, masked=0.5",
    ):  # fmt: skip
        assert part in text
