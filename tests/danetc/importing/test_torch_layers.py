"""Each supported function and module of PyTorch behind a convolution, models whose own code runs neurons
step by step, and `danetc import` on the command line.

Each import compares its outputs with those of the source. These tests check which functions are read,
what they become, and which options are refused.
"""

import math
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import danetc as package
from danetc.commands.trainings import import_text
from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.errors import UserError
from danetc.tasks.importing.network import ImportedNetwork, load_model, plain_name
from danetc.tasks.importing.python_neurons import _written
from tests.differential.networks import VARIETY, small

from ..conftest import SMALL, Run

SIZE = (2, 6, 6)
Tail: TypeAlias = Callable[..., Any]


class Behind(nn.Module):
    """A convolution of 2 to 4 channels, followed by a module or by a function that may use ``held``."""

    def __init__(self, tail: Tail, held: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        if isinstance(tail, nn.Module):
            tail, held = (lambda x, held: held(x)), tail
        elif held is not None:
            for value in held.parameters():
                nn.init.uniform_(value, 0.5, 1.5)
        self.held = held
        if isinstance(held, nn.BatchNorm2d) and held.running_var is not None:
            nn.init.uniform_(held.running_var, 0.5, 2.0)
            nn.init.uniform_(held.running_mean, -1.0, 1.0)
        self.tail = tail

    def forward(self, x: Tensor) -> Any:
        return self.tail(self.conv(x), *[self.held] * (self.held is not None))


def votes(x: Tensor, *window: int) -> Tensor:
    """Return the mean vote for each class, as SpikingJelly's VotingLayer does."""
    return F.avg_pool1d(x.flatten(1).unsqueeze(1), *window).squeeze(1)


def read(tail: Tail) -> str:
    model = tail if isinstance(tail, Behind) else Behind(tail)
    found = package.import_network(model.eval(), SIZE, samples=4)
    assert found.agreement.difference < 1e-6
    return found.text.partition("use std")[2]


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


CONV, NORM, QKV = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 18)
BATCHES = nn.MultiheadAttention(4, 2)  # without batch_first
REFLECTING = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
LSTM, STORED = nn.Sequential(nn.Flatten(2), nn.LSTM(36, 6)), torch.ones(4)


class Reshaped(nn.Module):
    """A convolution that takes the steps of frames [T, N, C, H, W] as images, followed by ``tail``."""

    def __init__(self, tail: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.conv, self.tail = nn.Conv2d(2, 4, 3, padding=1), tail

    def forward(self, x: Tensor) -> Tensor:
        steps, images = x.shape[:2]
        x = self.conv(x.view(steps * images, *x.shape[2:]))
        return self.tail(x.view(steps, images, *x.shape[1:]), images)


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (lambda x, n: x.mean(0), "conv(4, bias = true) -> mean_over_time"),
        (lambda x, n: x.view(3, n, 4 * 6 * 6).mean(0), "flatten -> mean_over_time"),
        (lambda x, n: x.flatten(-3).mean(0), "flatten -> mean_over_time"),
        (lambda x, n: x.flatten(0, 1).tanh().view(3, n, 4, 6, 6).mean(0), "tanh -> mean_over_time"),
    ],
)
def test_views_of_frames_are_read(tail: Callable[[Tensor, int], Tensor], text: str) -> None:
    model = Reshaped(tail).eval()
    found = package.import_network(model, SIZE, steps=3, events=True, samples=4)
    assert text in found.text


def test_a_view_that_mixes_steps_is_refused() -> None:
    mixed = Reshaped(lambda x, n: x.view(n, 3, 4, 6, 6).mean(1)).eval()
    with pytest.raises(UserError, match="change of shape from"):
        package.import_network(mixed, SIZE, steps=3, events=True)


def normed(x: Tensor, norm: Any) -> Tensor:
    """Normalize by the statistics of the batch, as in training."""
    return F.batch_norm(x, norm.running_mean, norm.running_var, training=True)


def over_channels(x: Tensor, held: nn.Module) -> Any:
    return held(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def attended(x: Tensor, each: Any) -> Any:
    tokens = x.flatten(2).transpose(1, 2)
    return each(tokens, tokens, tokens, need_weights=False)[0].mean(1)


def by_hand(x: Tensor, qkv: Any, **more: Any) -> Tensor:
    """Compute attention as in timm, and return the second token."""
    tokens = x.flatten(2).transpose(1, 2)
    q, k, v = qkv(tokens).reshape(len(x), 36, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = F.scaled_dot_product_attention(q, k, v, **more).transpose(1, 2).reshape(len(x), 36, 6)
    return mixed[:, 1]


def with_token(x: Tensor, norm: Any) -> Tensor:
    token = norm.weight.reshape(1, 1, 4).expand(len(x), -1, -1)
    return torch.cat([token, x.flatten(2).transpose(1, 2)], 1)[:, 2]


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (lambda x: x + x.tanh(), "out = in + (in -> tanh)"),
        (lambda x: torch.sub(x, torch.tanh(x)), "out = in - (in -> tanh)"),
        (lambda x: x + 0.5, "out = in + 0.5"),
        (lambda x: x - 0.5, "out = in - 0.5"),
        (lambda x: 0.5 - x, "out = 0.5 - in"),
        (lambda x: 3 * x, "out = 3 * in"),
        (lambda x: x.div(4), "out = 0.25 * in"),
        (lambda x: x * torch.sigmoid(x), "out = in * (in -> sigmoid)"),
        (lambda x: torch.maximum(x, x.tanh()), "out = max(in, in -> tanh)"),
        (lambda x: torch.minimum(x, F.sigmoid(x)), "out = min(in, in -> sigmoid)"),
        (lambda x: torch.cat([x, x.tanh()], 1), "out = concat(in, in -> tanh)"),
        (lambda x: torch.cat([x], 1), "conv(4, bias = true) -> mean_over_time"),
        (lambda x: F.max_pool2d(x, 3, 3), "maxpool(3, padding = 0)"),
        (lambda x: F.max_pool2d(x, 3, 1, 1), "maxpool(3, stride = 1) "),
        (lambda x: torch.max_pool2d(x, 2, ceil_mode=True), "maxpool(2)"),
        (lambda x: F.max_pool2d(x, 3, 5, 1, 1, True), "maxpool(3, stride = 5)"),
        (lambda x: F.avg_pool2d(x, 3, 1, 1), "avgpool(3, stride = 1, padding = 1)"),
        (lambda x: F.avg_pool2d(x, (2, 2), count_include_pad=False), "avgpool(2)"),
        (lambda x: F.adaptive_avg_pool2d(x, 1), "avgpool"),
        (lambda x: F.adaptive_avg_pool2d(x, (6, None)), "conv(4, bias = true) -> mean_over_time"),
        (lambda x: F.adaptive_avg_pool2d(x, 3), "avgpool(2)"),
        (lambda x: F.adaptive_avg_pool2d(x, 12), "upsample "),
        (lambda x: F.dropout(x, 0.25, False), "dropout(0.25)"),
        (lambda x: x.clone().contiguous().float(), "conv(4, bias = true) -> mean_over_time"),
        (lambda x: x.mean((2, 3)), "avgpool"),
        (lambda x: torch.mean(x, dim=[-1, -2], keepdim=True), "avgpool"),
        (lambda x: x.flatten(1), "flatten"),
        (lambda x: x.flatten(2, 2), "conv(4, bias = true) -> mean_over_time"),
        (lambda x: x.view(-1, 4 * 6 * 6), "flatten"),
        (lambda x: votes(x, 12), "-> mean(over = channels, groups = 12)"),
        (lambda x: x.reshape(x.shape), "conv(4, bias = true) -> mean_over_time"),
        (lambda x: x.flatten(2).permute(0, 2, 1).mean(1), "avgpool"),
        (F.relu6, "neuron ReLU6"),
        (F.silu, "neuron = SiLU"),
        (F.hardsigmoid, "/ 6"),
        (nn.Hardswish(), "/ 6"),
        (nn.GELU("tanh"), "neuron GELU_tanh"),
        (Doubled(4, 6, 3), "2 * in"),
        (nn.GroupNorm(2, 4), "groupnorm(2)"),
        (nn.BatchNorm2d(4, eps=1e-3), "norm(eps = 0.001)"),
        (nn.BatchNorm2d(4, affine=False), "-> norm "),
        (nn.GELU(), "gelu"),
        (nn.Upsample(scale_factor=(3.0, 3.0)), "upsample(3)"),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), "conv(6"),
        (
            nn.Conv2d(4, 6, 3, 2, padding=2, dilation=2, groups=2),
            "conv(6, stride = 2, groups = 2, bias = true, dilation = 2)",
        ),
        (nn.Conv2d(4, 6, 3, padding="same", dilation=2), "conv(6, bias = true, dilation = 2)"),
        (nn.Conv2d(4, 6, 5, padding="valid"), "conv(6, kernel = 5, padding = 0, bias = true)"),
        (Behind(lambda x, n: F.linear(x.flatten(1), n.weight), nn.Linear(144, 5)), "linear(5"),
        (Behind(lambda x, n: F.conv2d(x, 2 * n.weight), CONV), "conv(4, kernel = 1)"),
        (
            Behind(lambda x, n: x * n.weight.reshape(-1, 1, 1), NORM),
            "in * learn(0.0, per = channel)",
        ),
        (Behind(over_channels, nn.LayerNorm(4, eps=1e-4)), "norm"),
        (Behind(over_channels, nn.Linear(4, 7)), "conv(7, kernel = 1, bias = true)"),
        (Behind(attended, nn.MultiheadAttention(4, 2, batch_first=True)), "scores("),
        (Behind(by_hand, QKV), "[12 .. 17]"),
        (Behind(with_token, nn.LayerNorm(4)), "learn(0.0, per = neuron)"),
    ],
)
def test_a_function_or_module_is_read(tail: Tail, text: str) -> None:
    assert text in read(tail)


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (lambda x: torch.add(x, x, alpha=2), "`add` with a factor"),
        (lambda x: torch.div(x, x, rounding_mode="floor"), "with a factor or rounding"),
        (lambda x: 1 / x, "cannot read `reciprocal`"),
        (lambda x: torch.maximum(x, 2 * x.amax()), "cannot read `amax`"),
        (lambda x: torch.rsub(x, x.tanh()), "`rsub` of a value and a value"),
        (lambda x: torch.cat([x, x], 2), "only channels can be concatenated"),
        (lambda x: torch.cat([x, x]), "only channels can be concatenated"),
        (lambda x: x[:, 0], "its dimensions in another order"),
        (lambda x: x[:, 1:], "a part of a value"),
        (lambda x: x.mean(), r"a mean over dimensions .0, 1, 2, 3. of"),
        (lambda x: x.mean(1), "a mean over dimensions"),
        (lambda x: x.sum(1), "a sum over dimensions .1."),
        (lambda x: x.flatten(1, 2), "returns a value with its dimensions in another order"),
        (lambda x: x.view(4, -1), "returns a value with its dimensions in another order"),
        (lambda x: x.view(2, 9, 16), "a change of shape from"),
        (lambda x: F.max_pool2d(x.permute(0, 2, 3, 1), 2), "not .N, C, H, W."),
        (lambda x: x + x.transpose(2, 3), "dimensions in different orders"),
        (lambda x: x.flatten(2).unbind(2)[0], "a part of a value is read along its channels"),
        (lambda x: x.reshape(-1, 2, 2, 6, 6).unbind(2)[0], "a part of a value"),
        (lambda x: votes(x, 10), "144 votes are not a multiple of 10"),
        (lambda x: votes(x, 12, 6), "144 votes are not a multiple of 12"),
        (lambda x: x.unsqueeze(1), "its dimensions in another order"),
        (lambda x: x.repeat(3, 1, 1, 1), "a repetition by"),
        (lambda x: torch.maximum(x, torch.ones(())), "cannot read `ones`"),
        (lambda x: torch.maximum(x, STORED.reshape(4, 1, 1)), "neither a parameter nor a buffer"),
        (lambda x: x.int(), "a conversion to torch.int32"),
        (lambda x: F.max_pool2d(x, 2, dilation=2), "pooling with a dilation"),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), "must divide by"),
        *(
            (lambda x, size=size: F.adaptive_avg_pool2d(x, size), "has windows of several")
            for size in (4, (3, 2), (12, 6))
        ),
        (lambda x: x if x.sum() > 0 else -x, "depends on the values of a tensor"),
        (lambda x: torch.sort(x)[0], "^`sort`: danetc cannot read `sort`"),
        (lambda x: F.avg_pool2d(x, 5, 2, 0, True), "ceil_mode pools incomplete windows"),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, False, False), "must divide by"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], "read `max_pool2d_with_indices`"),
        (lambda x: {"a": x}, "the model returns a dict"),
        (nn.LayerNorm([6, 6]), "a layer norm over several dimensions"),
        (nn.LayerNorm(6), "whose last dimension is not its channels"),
        (nn.GroupNorm(2, 4, eps=1e-3), "another eps than 1e-5"),
        (nn.GroupNorm(2, 4, affine=False), "or without weights"),
        (nn.BatchNorm2d(4, track_running_stats=False), "without running statistics"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "cannot read `upsample_bilinear2d`"),
        (nn.Upsample(scale_factor=1.5), "by 1.5, which is not an integer"),
        (nn.Upsample(size=12), "an upsampling to a size; give its factor"),
        (nn.Linear(6, 5), "last dimension is not its channels; permute or flatten it"),
        (LSTM, "^held.1, .* cannot read .* of torch.nn.modules.rnn.LSTM"),
        (nn.Conv2d(4, 4, (3, 1)), "^held, `conv2d_1`: its kernel is"),
        (nn.Conv2d(4, 4, 2, padding="same"), "with an even kernel is asymmetric"),
        (REFLECTING, "^held, `pad`: danetc cannot read `pad`"),
        (Behind(lambda x, n: n(x).unbind(2)[0], nn.Conv2d(4, 6, 1)), "a part of a value"),
        (Behind(lambda x, n: x * n.weight.view(1, 1, 4, 1, 1), NORM), "a parameter of .1, 1, 4"),
        (Behind(attended, BATCHES), "^held, `scaled_dot_product_attention`: attention"),
        (Behind(partial(by_hand, is_causal=True), QKV), "with a mask, or of another layout"),
        (
            Behind(lambda x, n: x.maximum(n.weight[:, None, None]), NORM),
            "danetc reads those of layers",
        ),
        (Behind(normed, NORM), "running statistics"),
    ],
)
def test_options_are_refused(tail: Tail, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read(tail)


# -- neurons in the code of a model ------------------------------------------------------------------

Step: TypeAlias = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
Spread: TypeAlias = Callable[[Tensor], Tensor]

NETWORKS = {
    **{name: VARIETY[name] for name in ("sew_densely_additive", "densenet", "gated", "pa_a", "signed", "events")},
    "learnt": small(settings="neuron = PLIF(tau = 3.0)"),
    "soft": small(settings="neuron = LIF_soft(tau = 4.0, detach_reset = true)"),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_of_a_build_comes_back(name: str) -> None:
    """``model.py`` needs only torch. Its import is an equivalent spec with the same surrogate."""
    text = f"use std\n{NETWORKS[name]}"
    graph = graph_of(check_text(text))
    model = standalone(emit_python(graph), graph.name)
    value = graph.input.value
    found = package.import_network(
        model, value.shape, steps=graph.steps if value.varies else None, events=value.varies,
        name="again", samples=4,
    )  # fmt: skip
    again = check_text(found.text).graphs["again"]
    assert isinstance(compare_graphs(check_text(text).graphs[graph.name], again), Same)
    assert found.agreement.deviation > 0.01
    assert found.agreement.difference < 1e-9


class Fires(torch.autograd.Function):
    """A spike with the derivative of std's `rectangle`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.width = width
        return (x >= 0).float() if x.dtype == torch.float32 else (x >= 0).double()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < ctx.width / 2) / ctx.width, None


class Above(Fires):
    @staticmethod
    def forward(ctx: Any, x: Tensor, width: float) -> Tensor:
        return (x > 0).to(x)


def repeated(x: Tensor) -> Tensor:
    return x.unsqueeze(0).repeat(3, 1, 1, 1, 1)


class Stepwise(nn.Module):
    """A network whose neuron is a function. It maps the membrane, a frame and the step to the next
    membrane and the output. ``start`` may be the first membrane, as a Python number."""

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


def step_of(after: Callable[[Tensor, Tensor], Tensor], least: float | None = None) -> Step:
    """Return a leaky step that fires at 1. ``after`` maps the membrane and the spike to the next membrane."""

    def step(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        u = 0.5 * u + x
        u = u if least is None else torch.maximum(u, least * torch.ones_like(x))
        spike: Tensor = Fires.apply(u - 1.0, 0.8)
        return after(u, spike), spike

    return step


def gated(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    u = 0.5 * u + x
    return u, (u > 0.5).to(x.dtype) * u


def rational(u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    u = x - torch.ones_like(x) * (0.5 - u)
    return u, 2 / (1 + u.clone() * u) - 1


class Learnt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(0.7))

    def forward(self, u: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return gated(torch.sigmoid(self.decay) * u, x, t)


def imported(model: nn.Module, **more: Any) -> ImportedNetwork:
    return package.import_network(model, (1, 6, 6), samples=4, **more)


def test_rounded_numbers_are_written_as_they_were_meant() -> None:
    for number in (0.7, 0.0, -math.log(3.0 - 1), -math.log(1.25 - 1), -800.0, 20.0, 40.0):
        assert str(_written(float(torch.tensor(number)))) == str(number)


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
        lambda u, x, t: ((v := 0.5 * u + x), torch.tanh(u * x + v)),
        lambda u, x, t: ((v := x + 0.5 * u), torch.tanh(x * u + v)),
        lambda u, x, t: (x + 0.5 * u, torch.tanh(u * torch.relu(x) + (0.5 - u))),
    ],
)
def test_a_number_that_follows_from_the_state_is_no_state(step: Step) -> None:
    """In the first step, Python computes 0.5 * 0.5 during tracing. Torch puts numbers last."""
    found = imported(Stepwise(step, start=0.5))
    assert found.text.count("state ") == 1
    assert found.agreement.difference < 1e-9


EQUATIONS = "with the same equations at each step"


@pytest.mark.parametrize(
    ("model", "more", "why"),
    [
        (Stepwise(Learnt(), layers=2), {}, "decay is used more than once"),
        (Stepwise(lambda u, x, t: (u + x, 0.25 - u if t else u - 0.25)), {"steps": 3}, EQUATIONS),
        (Stepwise(lambda u, x, t: (u + x, (t + 1) * u)), {"steps": 3}, EQUATIONS),
        (Stepwise(lambda u, x, t: (u, Above.apply(x, 0.8))), {}, "Above: .* a step function at 0"),
        (Stepwise(lambda u, x, t: (u, Fires.apply(x, u))), {}, "Fires: .* must read one value"),
        (Stepwise(gated), {"steps": 5}, "run for 3 time steps: --steps 3"),
        (Stepwise(gated, lambda x: x.repeat(3, 1, 1, 2, 1)), {}, "a repetition by"),
        (Stepwise(gated, lambda x: x.unsqueeze(0).repeat(3, 2, 1, 1, 1)), {}, "a repetition by"),
        (Stepwise(gated, lambda x: [x] * 3), {}, "runs step by step over a value other than"),  # type: ignore[arg-type, return-value]
    ],
)
def test_steps_that_danetc_has_not_are_refused(model: nn.Module, more: Any, why: str) -> None:
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
        (step_of(lambda u, spike: u - spike, least=-1.0), "max(t_2, -1.0)"),
        (lambda u, x, t: ((v := u * torch.exp(-x.abs()) + x.relu()), v.tanh() / 2), "exp(t_2)"),
        (gated, "t_2 > 0.5"),
        (rational, "1.0 / t_4"),
    ],
)
def test_steps_of_own_code_have_the_same_outputs_and_gradients(step: Step, equation: str) -> None:
    """Gradients pass through spikes but not through other comparisons."""
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


# -- `danetc import`: the files that it writes, and errors for wrong sources -------------------------


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
    asked = ("import", "nets.py:make(width=6)", "--input", "2x8x8", "-o", "net.danet")
    compared = danetc.json(*asked, "--samples", 8)["compared"]
    assert compared["own_weights"]
    assert compared["difference"] < 1e-5
    danetc.passes("check", "net.danet")
    danetc.passes("export", "net", "-o", "w.safetensors")
    model = runpy.run_path(str(nets))["make"](width=6).eval()
    images = torch.rand(4, 2, 8, 8)
    with torch.no_grad():
        assert torch.allclose(package.load("net").eval()(images), model(images), atol=1e-5)
    danetc.fails("--force", "import", "nets.py:make", "--input", "2x8x8", "-o", "net.danet")


@pytest.mark.usefixtures("nets")
def test_a_wrong_source_is_an_error(danetc: Run) -> None:
    for source, said in (
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
    ):
        danetc.fails(said, "import", source, "--input", "2x8x8", "-o", "net.danet")
    danetc.fails("3x32x32", "import", "nets.py:make", "--input", "2x8", "-o", "net.danet", status=2)
    assert not Path("net.danet").exists()


def test_arguments_are_literals_and_names_of_modules() -> None:
    made = "torch.nn:Conv2d(in_channels=2, out_channels=3, kernel_size=(1, 3), dtype=torch.float64)"
    name, found = load_model(made)
    assert (name, found.weight.dtype) == ("Conv2d", torch.float64)
    assert found.weight.shape == (3, 2, 1, 3)
    with pytest.raises(UserError, match="dotted name"):
        load_model("a:make(x=y)")


def test_a_network_is_called_by_what_a_spec_can_have() -> None:
    names = {"net": "net", "my-net": "my_net", "18": "net_18", "for": "net_for", "IF": "net_IF"}
    for name, plain in names.items():
        assert plain_name(name) == plain
        check_text(SMALL.replace("small", plain))
