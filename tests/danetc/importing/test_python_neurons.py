"""Models whose own code runs neurons step by step: danetc's model.py comes back, and what users write."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.errors import UserError
from danetc.tasks.importing.network import ImportedNetwork
from danetc.tasks.importing.python_neurons import _written
from tests.differential.networks import VARIETY, small

Step: TypeAlias = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
Spread: TypeAlias = Callable[[Tensor], Tensor]
"""An image at each time step."""

NETWORKS = {
    **{name: VARIETY[name] for name in ("sew_densely_additive", "densenet", "gated", "pa_a", "signed", "events")},
    "learnt": small(settings="neuron = PLIF(tau = 3.0)"),
    "soft": small(settings="neuron = LIF_soft(tau = 4.0, detach_reset = true)"),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_of_a_build_comes_back(name: str) -> None:
    """``model.py``, which needs torch alone: a spec that is equivalent, its surrogate too."""
    text = f"use std\n{NETWORKS[name]}"
    graph = graph_of(check_text(text))
    model = standalone(emit_python(graph), graph.name)
    value = graph.input.value
    found = danetc.import_network(
        model, value.shape, steps=graph.steps if value.varies else None, events=value.varies,
        name="again", samples=4,
    )  # fmt: skip
    again = check_text(found.text).graphs["again"]
    assert isinstance(compare_graphs(check_text(text).graphs[graph.name], again), Same)
    assert found.agreement.deviation > 0.01
    assert found.agreement.difference < 1e-9


class Fires(torch.autograd.Function):
    """A spike, whose derivative is that of std's `rectangle`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.width = width
        return (x >= 0).float() if x.dtype == torch.float32 else (x >= 0).double()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < ctx.width / 2) / ctx.width, None


def repeated(x: Tensor) -> Tensor:
    return x.unsqueeze(0).repeat(3, 1, 1, 1, 1)


class Stepwise(nn.Module):
    """A network whose neuron is a function of the membrane, a frame and the step: what the membrane
    and the output become. Python may compute with ``start`` at first."""

    def __init__(
        self, step: Step, spread: Spread = repeated, start: float | None = None, layers: int = 1
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)
        self.step, self.spread, self.start, self.layers = step, spread, start, layers
        with torch.no_grad():
            self.conv.weight.mul_(3.0)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == x.ndim == len(x.shape) == 4
        assert (x.size(1), x.numel(), x.device.type) == (1, 36 * len(x), "cpu")
        x = self.spread(self.conv(x))
        for _ in range(self.layers):
            u, given = torch.zeros_like(x[0]) if self.start is None else self.start, []
            for t, frame in enumerate(x):
                u, out = self.step(u, frame, t)
                given.append(out)
            x = torch.stack(given)
        return self.last(x.mean((-2, -1)).mean(0))  # type: ignore[no-any-return]


def step_of(after: Callable[[Tensor, Tensor], Tensor]) -> Step:
    """A leaky step that fires at 1, and what becomes of the membrane by it and the spike."""

    def step(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        u = 0.5 * u + x
        spike: Tensor = Fires.apply(u - 1.0, 0.8)
        return after(u, spike), spike

    return step


def bounded(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    u = torch.maximum(0.5 * u + x, -1.0 * torch.ones_like(x))
    spike: Tensor = Fires.apply(u - 1.0, 0.8)
    return u - spike, spike


def decaying(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    u = u * torch.exp(-torch.abs(x)) + x.relu()
    return u, torch.tanh(u) / 2


def gated(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    u = 0.5 * u + x
    return u, (u > 0.5).to(x.dtype) * u


def rational(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    u = x - torch.ones_like(x) * (0.5 - u)
    return u, 2 / (1 + u.clone() * u) - 1


def twice(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    v = 0.5 * u + x
    return v, torch.tanh(u * x + v)


def turned(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    u = 0.5 * u + x
    return u, 0.25 - u if t else u - 0.25


def louder(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    u, out = gated(u, x, t)
    return u, (t + 1) * out


class Learnt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(0.7))

    def forward(self, u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return gated(torch.sigmoid(self.decay) * u, x, t)


def imported(model: nn.Module, **more: Any) -> ImportedNetwork:
    return danetc.import_network(model, (1, 6, 6), samples=4, **more)


@pytest.mark.parametrize(
    "number", [0.7, 0.0, -math.log(3.0 - 1), -math.log(1.25 - 1), -800.0, 20.0, 40.0]
)
def test_rounded_numbers_are_written_as_they_were_meant(number: float) -> None:
    found = _written(float(torch.tensor(number)))
    assert str(found) == str(number)


@pytest.mark.parametrize("start", [None, 0.0])
def test_a_network_of_plain_code_is_read(start: float | None) -> None:
    found = imported(Stepwise(step_of(lambda u, spike: u - spike), start=start))
    assert "surrogate = rectangle(width = 0.8)" in found.text
    assert "steps     = 3" in found.text
    assert " = 0.0\n" in found.text
    assert found.found.own == ("imported_neuron",)  # std's leaky neurons scale their input
    assert found.agreement.difference < 1e-9


@pytest.mark.parametrize(
    "step",
    [
        twice,
        lambda u, x, t: ((v := x + 0.5 * u), torch.tanh(x * u + v)),
        lambda u, x, t: (x + 0.5 * u, torch.tanh(u * torch.relu(x) + (0.5 - u))),
    ],
)
def test_a_number_that_follows_from_the_state_is_no_state(step: Step) -> None:
    """At first Python computes 0.5 * 0.5 while it traces, and torch puts numbers last."""
    found = imported(Stepwise(step, start=0.5))
    assert found.text.count("state ") == 1
    assert found.agreement.difference < 1e-9


@pytest.mark.parametrize(
    ("model", "more", "why"),
    [
        (Stepwise(Learnt(), layers=2), {}, "decay is used more than once"),
        (Stepwise(turned), {"steps": 3}, "with the same equations at each step"),
        (Stepwise(louder), {"steps": 3}, "with the same equations at each step"),
        (Stepwise(gated), {"steps": 5}, "run for 3 time steps: --steps 3"),
    ],
)
def test_steps_that_differ_are_refused(model: nn.Module, more: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        imported(model, **more)


@pytest.mark.parametrize(
    ("step", "equation"),
    [
        (step_of(lambda u, spike: u * (1 - spike)), "1.0 - t_4"),
        (step_of(lambda u, spike: u * (1 - spike.detach())), "detach(t_4)"),
        (step_of(lambda u, spike: torch.where(u >= 1.0, 0.0, u)), "0.0 if t_5 else t_2"),
        (step_of(lambda u, spike: torch.where(u >= 1.0, u, 0.0)), "t_2 if t_5 else 0.0"),
        (step_of(lambda u, spike: torch.where((u > -1) & ~(u > 2), u, 0.5 * u)), " and "),
        (step_of(lambda u, spike: (u >= 0.0).float() * u), "t_2 >= 0.0"),
        (bounded, "max(t_2, -1.0)"),
        (decaying, "exp(t_2)"),
        (gated, "t_2 > 0.5"),
        (rational, "1.0 / t_4"),
    ],
)
def test_steps_of_own_code_have_the_same_outputs_and_gradients(step: Step, equation: str) -> None:
    """Gradients go through spikes, and through no other comparison."""
    model = Stepwise(step)
    found = imported(model)
    assert equation in found.text
    x = torch.rand(5, 1, 6, 6)
    results = []
    for each in (model, found.model):
        seen = x.clone().requires_grad_()
        y = each.eval()(seen)
        y.square().sum().backward()
        results.append((y.detach(), seen.grad))
    torch.testing.assert_close(*results)
    assert float(results[0][1].abs().max()) > 1e-4


@pytest.mark.parametrize(
    "spread",
    [
        lambda x: x.repeat(3, 1, 1, 1, 1),
        lambda x: x.repeat(2, 1, 1, 1, 1),
        lambda x: x.expand(3, *x.shape),
        lambda x: x.expand((3, -1, -1, -1, -1)),
        lambda x: x.unsqueeze(0).expand(3, *x.shape),
    ],
)
def test_an_image_is_spread_over_time(spread: Spread) -> None:
    found = imported(Stepwise(gated, spread))
    assert "in -> conv(4, bias = true) -> spike -> " in found.text
    assert f"steps  = {len(spread(torch.zeros(1, 4, 6, 6)))}\n" in found.text


@pytest.mark.parametrize(
    "spread", [lambda x: x.repeat(3, 1, 1, 2, 1), lambda x: x.unsqueeze(0).repeat(3, 2, 1, 1, 1)]
)
def test_a_repetition_of_more_than_time_is_refused(spread: Spread) -> None:
    with pytest.raises(UserError, match="a repetition by"):
        imported(Stepwise(gated, spread))


def test_steps_that_all_read_the_same_value_are_refused() -> None:
    with pytest.raises(UserError, match="runs step by step over a value other than"):
        imported(Stepwise(gated, lambda x: [x] * 3))  # type: ignore[arg-type, return-value]
