"""Each function and module of PyTorch that is read, alone behind a convolution.

The comparison of an import holds it to the numbers of the source; here is whether it is read at all, as
what, and with which options it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import danetc
from danetc.errors import UserError

SIZE = (2, 6, 6)


class Behind(nn.Module):
    """A convolution of 2 to 4 channels, and behind it what is to be read; it may use ``held``."""

    def __init__(self, tail: Callable[..., Any], held: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.held = nn.Identity() if held is None else held
        if isinstance(held, nn.BatchNorm2d) and held.running_var is not None:
            nn.init.uniform_(held.running_var, 0.5, 2.0)
            nn.init.uniform_(held.running_mean, -1.0, 1.0)
        self.tail = tail

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        return self.tail(x) if isinstance(self.held, nn.Identity) else self.tail(x, self.held)


def votes(x: Tensor, *window: int) -> Tensor:
    """Means of the votes for each class, as of SpikingJelly's VotingLayer."""
    return F.avg_pool1d(x.flatten(1).unsqueeze(1), *window).squeeze(1)


def read(tail: Callable[..., Any], held: nn.Module | None = None) -> str:
    """The lines of the spec behind ``use std``."""
    found = danetc.import_network(Behind(tail, held).eval(), SIZE, samples=4)
    assert found.agreement.difference < 1e-6
    return found.text.partition("use std")[2]


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (lambda x: x + x.tanh(), "out = in + (in -> tanh)"),
        (lambda x: torch.sub(x, torch.tanh(x)), "out = in - (in -> tanh)"),
        (lambda x: x + 0.5, "out = in + 0.5"),
        (lambda x: 0.25 + x, "out = in + 0.25"),
        (lambda x: x - 0.5, "out = in - 0.5"),
        (lambda x: 0.5 - x, "out = 0.5 - in"),
        (lambda x: torch.rsub(x, 0.25), "out = 0.25 - in"),
        (lambda x: 3 * x, "out = 3 * in"),
        (lambda x: x.div(4), "out = 0.25 * in"),
        (lambda x: x * torch.sigmoid(x), "out = in * (in -> sigmoid)"),
        (lambda x: torch.maximum(x, x.tanh()), "out = max(in, in -> tanh)"),
        (lambda x: torch.minimum(x, F.sigmoid(x)), "out = min(in, in -> sigmoid)"),
        (lambda x: torch.cat([x, x.tanh()], 1), "out = concat(in, in -> tanh)"),
        (lambda x: torch.cat([x], 1), "conv(4, bias = true) -> mean_over_time"),
        (lambda x: F.max_pool2d(x, 2), "maxpool(2)"),
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
    ],
)
def test_a_function_is_read(tail: Callable[..., Any], text: str) -> None:
    assert text in read(tail)


CONV, NORM = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)


class Reshaped(nn.Module):
    """A convolution of frames [T, N, C, H, W], whose steps are images for it, and then ``tail``."""

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
    found = danetc.import_network(model, SIZE, steps=3, events=True, samples=4)
    assert text in found.text


def test_a_view_that_mixes_steps_is_refused() -> None:
    mixed = Reshaped(lambda x, n: x.view(n, 3, 4, 6, 6).mean(1)).eval()
    with pytest.raises(UserError, match="change of shape from"):
        danetc.import_network(mixed, SIZE, steps=3, events=True)


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (Doubled(4, 6, 3), "2 * in"),
        (nn.GroupNorm(2, 4), "groupnorm(2)"),
        (nn.BatchNorm2d(4), "-> norm "),
        (nn.BatchNorm2d(4, eps=1e-3), "norm(eps = 0.001)"),
        (nn.BatchNorm2d(4, affine=False), "-> norm "),
        (nn.AvgPool2d(2), "avgpool(2)"),
        (nn.MaxPool2d(2, 1), "maxpool(2, stride = 1)"),
        (nn.Dropout(0.25), "dropout(0.25)"),
        (nn.GELU(), "gelu"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.Tanh(), "tanh"),
        (nn.Upsample(scale_factor=2), "upsample "),
        (nn.Upsample(scale_factor=(3.0, 3.0)), "upsample(3)"),
        (nn.AdaptiveAvgPool2d(2), "avgpool(3)"),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), "conv(6"),
        (nn.Conv2d(4, 6, 3, padding="same", dilation=2), "conv(6, bias = true, dilation = 2)"),
        (nn.Conv2d(4, 6, 5, padding="valid"), "conv(6, kernel = 5, padding = 0, bias = true)"),
    ],
)
def test_a_module_is_read(held: nn.Module, text: str) -> None:
    assert text in read(lambda x, held: held(x), held)


def normed(x: Tensor, norm: Any, **changes: Any) -> Tensor:
    given = {"weight": norm.weight, "bias": norm.bias, "training": False, "eps": norm.eps}
    return F.batch_norm(x, norm.running_mean, norm.running_var, **{**given, **changes})


def normed_by_place(x: Tensor, norm: Any) -> Tensor:
    numbers = norm.weight, norm.bias, norm.running_mean, norm.running_var
    return torch.batch_norm(x, *numbers, False, 0.1, 1e-5, False)


@pytest.mark.parametrize(
    ("tail", "held", "text"),
    [
        (normed, nn.BatchNorm2d(4, eps=1e-3), "norm(eps = 0.001)"),
        (normed_by_place, nn.BatchNorm2d(4), "-> norm "),
        (partial(normed, weight=None), nn.BatchNorm2d(4), "-> norm "),
        (
            lambda x, conv: F.conv2d(x, conv.weight, conv.bias, 2, padding=2, dilation=2, groups=2),
            nn.Conv2d(4, 6, 3, groups=2),
            "conv(6, stride = 2, groups = 2, bias = true, dilation = 2)",
        ),
        (lambda x, held: F.linear(x.flatten(1), held.weight), nn.Linear(144, 5), "linear(5"),
    ],
)
def test_weights_read_by_the_models_code(
    tail: Callable[..., Any], held: nn.Module, text: str
) -> None:
    assert text in read(tail, held)


def over_channels(x: Tensor, held: nn.Module) -> Any:
    return held(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def attended(x: Tensor, each: Any) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    mixed, _ = each(tokens, tokens, tokens, need_weights=False)
    out: Tensor = mixed.mean(1)
    return out


def by_hand(x: Tensor, qkv: Any, **more: Any) -> Tensor:
    """Attention as in timm, and the second of the tokens."""
    tokens = x.flatten(2).transpose(1, 2)
    q, k, v = qkv(tokens).reshape(len(x), 36, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = F.scaled_dot_product_attention(q, k, v, **more).transpose(1, 2).reshape(len(x), 36, 6)
    return mixed[:, 1]


def with_token(x: Tensor, norm: Any) -> Tensor:
    token = norm.weight.reshape(1, 1, 4).expand(len(x), -1, -1)
    return torch.cat([token, x.flatten(2).transpose(1, 2)], 1)[:, 2]


@pytest.mark.parametrize(
    ("tail", "held", "text"),
    [
        (lambda x, held: F.relu6(x), CONV, "neuron ReLU6"),
        (lambda x, held: F.silu(x), CONV, "neuron = SiLU"),
        (lambda x, held: F.hardsigmoid(x), CONV, "/ 6"),
        (lambda x, held: held(x), nn.Hardswish(), "/ 6"),
        (lambda x, held: held(x), nn.GELU("tanh"), "neuron GELU_tanh"),
        (lambda x, held: F.conv2d(x, 2 * held.weight), CONV, "conv(4, kernel = 1)"),
        (lambda x, held: x * held.weight.reshape(-1, 1, 1), NORM, "in * learn(0.0, per = channel)"),
        (over_channels, nn.LayerNorm(4, eps=1e-4), "norm"),
        (over_channels, nn.Linear(4, 7), "conv(7, kernel = 1, bias = true)"),
        (attended, nn.MultiheadAttention(4, 2, batch_first=True), "scores("),
        (by_hand, nn.Linear(4, 18), "[12 .. 17]"),
        (with_token, nn.LayerNorm(4), "learn(0.0, per = neuron)"),
        (lambda x, held: x.flatten(2).permute(0, 2, 1).mean(1), CONV, "avgpool"),
    ],
)
def test_rearranged_dimensions_and_parameters(
    tail: Callable[..., Any], held: nn.Module, text: str
) -> None:
    for value in held.parameters():
        nn.init.uniform_(value, 0.5, 1.5)
    assert text in read(tail, held)


@pytest.mark.parametrize(
    ("tail", "held", "why"),
    [
        (lambda x: torch.add(x, x, alpha=2), None, "`add` with a factor"),
        (lambda x: torch.div(x, x, rounding_mode="floor"), None, "with a factor or rounding"),
        (lambda x: 1 / x, None, "cannot read `reciprocal`"),
        (lambda x: torch.maximum(x, 2 * x.amax()), None, "cannot read `amax`"),
        (lambda x: torch.rsub(x, x.tanh()), None, "`rsub` of a value and a value"),
        (lambda x: torch.cat([x, x], 2), None, "only channels can be concatenated"),
        (lambda x: torch.cat([x, x]), None, "only channels can be concatenated"),
        (lambda x: x[:, 0], None, "its dimensions in another order"),
        (lambda x: x[:, 1:], None, "a part of a value"),
        (lambda x: x.mean(), None, r"a mean over dimensions .0, 1, 2, 3. of"),
        (lambda x: x.mean(1), None, "a mean over dimensions"),
        (lambda x: x.sum(1), None, "a sum over dimensions .1."),
        (lambda x: x.flatten(1, 2), None, "returns a value with its dimensions in another order"),
        (lambda x: x.view(4, -1), None, "returns a value with its dimensions in another order"),
        (lambda x: x.view(2, 9, 16), None, "a change of shape from"),
        (lambda x: F.max_pool2d(x.permute(0, 2, 3, 1), 2), None, "not .N, C, H, W."),
        (lambda x: x + x.transpose(2, 3), None, "dimensions in different orders"),
        (lambda x: x.flatten(2).unbind(2)[0], None, "a part of a value is read along its channels"),
        (lambda x: x.reshape(-1, 2, 2, 6, 6).unbind(2)[0], None, "a part of a value"),
        (lambda x, conv: conv(x).unbind(2)[0], nn.Conv2d(4, 6, 1), "a part of a value"),
        (lambda x, norm: x * norm.weight.reshape(1, 1, 4, 1, 1), NORM, "a parameter of .1, 1, 4"),
        (lambda x, norm: norm(x), nn.LayerNorm([6, 6]), "a layer norm over several dimensions"),
        (lambda x, norm: norm(x), nn.LayerNorm(6), "whose last dimension is not its channels"),
        (
            lambda x, each: each(*[x.flatten(2).transpose(1, 2)] * 3)[0],
            nn.MultiheadAttention(4, 2),
            "held, `scaled_dot_product_attention`: attention with a mask, or of another layout",
        ),
        (
            partial(by_hand, is_causal=True),
            nn.Linear(4, 18),
            "attention with a mask, or of another",
        ),
        (lambda x: votes(x, 10), None, "144 votes are not a multiple of 10"),
        (lambda x: votes(x, 12, 6), None, "144 votes are not a multiple of 12"),
        (lambda x: x.unsqueeze(1), None, "its dimensions in another order"),
        (lambda x: x.repeat(3, 1, 1, 1), None, "a repetition by"),
        (lambda x: torch.maximum(x, torch.ones(())), None, "cannot read `ones`"),
        (
            lambda x: torch.maximum(x, NORM.weight.detach().reshape(4, 1, 1)),
            None,
            "neither a parameter nor a buffer",
        ),
        (lambda x: x.int(), None, "a conversion to torch.int32"),
        (lambda x: F.max_pool2d(x, 2, dilation=2), None, "pooling with a dilation"),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), None, "must divide by"),
        *(
            (lambda x, size=size: F.adaptive_avg_pool2d(x, size), None, "has windows of several")
            for size in (4, (3, 2), (12, 6))
        ),
        (
            lambda x, norm: torch.maximum(x, norm.weight.reshape(1, 4, 1, 1)),
            NORM,
            "danetc reads those of layers",
        ),
        (
            lambda x, held: F.linear(x, held.weight),
            nn.Linear(6, 5),
            "last dimension is not its channels; permute or flatten it",
        ),
        (lambda x, norm: normed(x, norm, training=True), NORM, "running statistics"),
        (
            lambda x, held: held(x)[0],
            nn.MaxPool2d(2, return_indices=True),
            "cannot read `max_pool2d_with_indices`",
        ),
        (lambda x: x if x.sum() > 0 else -x, None, "depends on the values of a tensor"),
        (lambda x: torch.sort(x)[0], None, "^`sort`: danetc cannot read `sort`"),
        (lambda x: F.avg_pool2d(x, 5, 2, 0, True), None, "ceil_mode pools incomplete windows"),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, False, False), None, "must divide by"),
        (lambda x: {"a": x}, None, "the model returns a dict"),
    ],
)
def test_options_are_refused(tail: Callable[..., Any], held: nn.Module | None, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read(tail, held)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (nn.GroupNorm(2, 4, eps=1e-3), "another eps than 1e-5"),
        (nn.GroupNorm(2, 4, affine=False), "or without weights"),
        (nn.BatchNorm2d(4, track_running_stats=False), "without running statistics"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "cannot read `upsample_bilinear2d`"),
        (nn.Upsample(scale_factor=1.5), "by 1.5, which is not an integer"),
        (nn.Upsample(size=12), "an upsampling to a size; give its factor"),
        (nn.Linear(6, 5), "permute or flatten it"),
        (
            nn.Sequential(nn.Flatten(2), nn.LSTM(36, 6)),
            "^held.1, .* cannot read .* of torch.nn.modules.rnn.LSTM",
        ),
        (nn.Conv2d(4, 4, (3, 1)), "^held, `conv2d_1`: its kernel is"),
        (nn.Conv2d(4, 4, 2, padding="same"), "with an even kernel is asymmetric"),
        (
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            "^held, `pad`: danetc cannot read `pad`",
        ),
    ],
)
def test_a_module_with_other_options_is_refused(held: nn.Module, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read(lambda x, held: held(x), held)
