"""The operations of networks on arrays [T, N, C, H, W] or [T, N, C]."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.fft import dct

from tests.reference.tape import Array, Var, binary, unary

EPS = 1e-5
MOMENTUM = 0.1

# -- element by element ---------------------------------------------------------------------------


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))


def _function(
    value: Callable[[Array], Array], slope: Callable[[Array, Array], Array | float]
) -> Callable[[Var], Var]:
    """Return a function of one array, element by element; ``slope`` takes operand and value."""

    def apply(x: Var) -> Var:
        y = value(x.data)
        return unary(x, y, slope(x.data, y))

    return apply


_erf = np.vectorize(math.erf, otypes=[float])
exp = _function(np.exp, lambda x, y: y)
log = _function(np.log, lambda x, y: 1 / x)
sqrt = _function(np.sqrt, lambda x, y: 0.5 / y)
absolute = _function(np.abs, lambda x, y: np.sign(x))
sigmoid = _function(_sigmoid, lambda x, y: y * (1 - y))
tanh = _function(np.tanh, lambda x, y: 1 - y * y)
erf = _function(_erf, lambda x, y: 2 / math.sqrt(math.pi) * np.exp(-(x**2)))
sin = _function(np.sin, lambda x, y: np.cos(x))
cos = _function(np.cos, lambda x, y: -np.sin(x))
softplus = _function(lambda x: np.logaddexp(0, x), lambda x, y: _sigmoid(x))
relu = _function(lambda x: np.maximum(x, 0), lambda x, y: np.where(x > 0, 1.0, 0.0))
rounded = _function(np.rint, lambda x, y: 1.0)


def gelu(x: Var) -> Var:
    return x * (0.5 * (1 + erf(x * (1 / math.sqrt(2)))))


def softmax(x: Var, axis: int) -> Var:
    """Of [T, N, C, ...] along an axis."""
    power = np.exp(x.data - x.data.max(axis, keepdims=True))
    share = power / power.sum(axis, keepdims=True)

    def pull(gradient: Array) -> Array:
        return share * (gradient - (gradient * share).sum(axis, keepdims=True))

    return Var(share, (x, pull))


def detach(x: Var) -> Var:
    return Var(x.data)


def maximum(a: Var, b: Var) -> Var:
    """Where the two are equal, each gets half of the gradient."""
    return binary(
        a, b, np.maximum, lambda a, b: ((a > b) + 0.5 * (a == b), (a < b) + 0.5 * (a == b))
    )


def minimum(a: Var, b: Var) -> Var:
    return -maximum(-a, -b)


def bounded(x: Var, bound: float, above: bool) -> Var:
    """``max`` (not ``above``) or ``min`` of a value and a constant; at the bound gradients pass."""
    if above:
        return unary(x, np.minimum(x.data, bound), np.where(x.data <= bound, 1.0, 0.0))
    return unary(x, np.maximum(x.data, bound), np.where(x.data >= bound, 1.0, 0.0))


def where(condition: Any, a: Var | float, b: Var | float) -> Var:
    return binary(
        a,
        b,
        lambda a, b: np.where(condition, a, b),
        lambda a, b: (condition * 1.0, ~condition * 1.0),
    )


def heaviside(x: Var, slope: Callable[[Array], Array]) -> Var:
    """1 from 0 on; its derivative is the surrogate's."""
    return unary(x, np.where(x.data >= 0, 1.0, 0.0), slope(x.data))


# -- over channels and pixels ---------------------------------------------------------------------


def _padded(x: Array, padding: int, value: float) -> Array:
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(padding, padding)] * 2, constant_values=value)


def _windows(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _at(offset: int, count: int, stride: int) -> slice:
    """The places under one entry of a kernel, for every window."""
    return slice(offset, offset + stride * (count - 1) + 1, stride)


def einsum(letters: str, a: Var, b: Var) -> Var:
    """Sums of products; each axis of an operand is one of the other operand or of the result."""
    left, right, made = re.split(",|->", letters)
    return Var(
        np.einsum(letters, a.data, b.data, optimize=True),
        (a, lambda g: np.einsum(f"{made},{right}->{left}", g, b.data, optimize=True)),
        (b, lambda g: np.einsum(f"{made},{left}->{right}", g, a.data, optimize=True)),
    )


def conv(
    x: Var, weight: Var, bias: Var | None, stride: tuple[int, int], padding: int, dilation: int,
    groups: int,
) -> Var:  # fmt: skip
    """A cross-correlation: the kernel is not turned round."""
    t, n, c, height, width = x.shape
    out, _, *kernel = weight.shape
    rows, columns = (
        _windows(size, *each, padding, dilation)
        for size, *each in zip((height, width), kernel, stride, strict=True)
    )
    inside = _padded(x.data, padding, 0.0).reshape(
        t * n, groups, c // groups, height + 2 * padding, -1
    )
    weights = weight.data.reshape(groups, out // groups, c // groups, *kernel)
    places = [
        ((i, j), (_at(i * dilation, rows, stride[0]), _at(j * dilation, columns, stride[1])))
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    y = np.zeros((t * n, groups, out // groups, rows, columns))
    for (i, j), (down, across) in places:
        y += np.einsum("bgchw,goc->bgohw", inside[..., down, across], weights[..., i, j])

    def by_input(grad: Array) -> Array:
        grad, result = grad.reshape(y.shape), np.zeros(inside.shape)
        for (i, j), (down, across) in places:
            result[..., down, across] += np.einsum("bgohw,goc->bgchw", grad, weights[..., i, j])
        result = result[..., padding : padding + height, padding : padding + width]
        return result.reshape(x.shape)

    def by_weight(grad: Array) -> Array:
        grad, result = grad.reshape(y.shape), np.zeros(weights.shape)
        for (i, j), (down, across) in places:
            result[..., i, j] = np.einsum("bgohw,bgchw->goc", grad, inside[..., down, across])
        return result.reshape(weight.shape)

    made = Var(y.reshape(t, n, out, rows, columns), (x, by_input), (weight, by_weight))
    return made if bias is None else made + bias.reshape(-1, 1, 1)


def linear(x: Var, weight: Var, bias: Var | None) -> Var:
    made = einsum("tni,oi->tno", x, weight)
    return made if bias is None else made + bias


def maxpool(x: Var, kernel: int, stride: int, padding: int) -> Var:
    """Of equal entries the first in reading order gets the gradient; padding never wins."""
    height, width = x.shape[-2:]
    rows, columns = (_windows(size, kernel, stride, padding) for size in (height, width))
    inside = _padded(x.data, padding, -np.inf)
    places = [
        (_at(i, rows, stride), _at(j, columns, stride))
        for i in range(kernel)
        for j in range(kernel)
    ]
    entries = np.stack([inside[..., down, across] for down, across in places])
    first = entries.argmax(0)

    def pull(grad: Array) -> Array:
        result = np.zeros(inside.shape)
        for number, (down, across) in enumerate(places):
            result[..., down, across] += grad * (first == number)
        return result[..., padding : padding + height, padding : padding + width]

    return Var(entries.max(0), (x, pull))


def avgpool(x: Var, kernel: int, stride: int, padding: int) -> Var:
    """Zeros of the padding are counted."""
    channels = x.shape[2]
    weight = Var(np.full((channels, 1, kernel, kernel), 1 / kernel**2))
    return conv(x, weight, None, (stride, stride), padding, 1, channels)


def shares(size: int, larger: int, bilinear: bool) -> Array:
    """What each of ``larger`` pixels takes of each of ``size``: of the nearest, or of two."""
    result = np.zeros((larger, size))
    for place in range(larger):
        if not bilinear:
            share = np.float32(size) / np.float32(larger)  # as torch has it, which rounds
            result[place, min(int(np.float32(place) * share), size - 1)] = 1
            continue
        at = max(0.0, (place + 0.5) * size / larger - 0.5)
        low = int(at)
        result[place, low] += 1 - (at - low)
        result[place, min(low + 1, size - 1)] += at - low
    return result


# -- along axes -----------------------------------------------------------------------------------


def taken(x: Var, axis: int, places: Array) -> Var:
    """Entries along an axis, some maybe several times."""

    def pull(grad: Array) -> Array:
        result = np.zeros(x.shape)
        np.add.at(np.moveaxis(result, axis, 0), places, np.moveaxis(grad, axis, 0))
        return result

    return Var(np.take(x.data, places, axis), (x, pull))


def swapped(x: Var, a: int, b: int) -> Var:
    return Var(np.swapaxes(x.data, a, b), (x, lambda grad: np.swapaxes(grad, a, b)))


def moved(x: Var, axis: int, to: int) -> Var:
    """An axis at another place among the others."""
    return Var(np.moveaxis(x.data, axis, to), (x, lambda grad: np.moveaxis(grad, to, axis)))


def padded(x: Var, axes: tuple[int, ...], before: int, after: int) -> Var:
    """Zeros at both ends of axes."""
    more = [(before, after) if axis in axes else (0, 0) for axis in range(len(x.shape))]
    inside = tuple(slice(low, low + size) for (low, _), size in zip(more, x.shape, strict=True))
    return Var(np.pad(x.data, more), (x, lambda grad: grad[inside]))


def mixed_first(x: Var, weight: Var) -> Var:
    """``weight`` [A, B] along the first axis of x [B, ...]."""
    made = einsum("ab,bp->ap", weight, x.reshape(x.shape[0], -1))
    return made.reshape(made.shape[0], *x.shape[1:])


def reduced(name: str, x: Var, axes: tuple[int, ...]) -> Var:
    """``sum``, ``mean`` or ``max`` over axes that stay as 1; equal maxima share the gradient."""
    if name == "mean":
        return x.mean(axes)
    if name == "sum":
        return Var(x.data.sum(axes, keepdims=True), (x, lambda g: np.broadcast_to(g, x.shape)))
    most = x.data.max(axes, keepdims=True)
    share = (x.data == most) / (x.data == most).sum(axes, keepdims=True)
    return Var(most, (x, lambda g: g * share))


def side_by_side(values: list[Any]) -> list[Any]:
    """Values that are joined: a vector beside a map is a map of one pixel."""
    rank = max((len(value.shape) for value in values if isinstance(value, Var)), default=0)
    return [
        value.reshape(*value.shape, 1, 1)
        if isinstance(value, Var) and rank - len(value.shape) == 2 and value.shape
        else value
        for value in values
    ]


# -- attention ------------------------------------------------------------------------------------


def scores(q: Var, k: Var, heads: int) -> Var:
    """Maps [T, N, C, H, W] to [T, N, heads, queries, keys]: sums over a head's channels."""
    a, b = (x.reshape(*x.shape[:2], heads, x.shape[2] // heads, -1) for x in (q, k))
    return einsum("tnhdq,tnhdk->tnhqk", a, b)


def mix(a: Var, v: Var, pixels: tuple[int, ...]) -> Var:
    """Scores [T, N, heads, queries, keys] and a map to a map of ``pixels``: sums over keys."""
    heads = a.shape[2]
    parts = v.reshape(*v.shape[:2], heads, v.shape[2] // heads, -1)
    return einsum("tnhqk,tnhdk->tnhdq", a, parts).reshape(*v.shape[:3], *pixels)


# -- norms ----------------------------------------------------------------------------------------


def _channelwise(value: Var, rank: int) -> Var:
    """[..., C] so that it meets the channels of [..., C, H, W] or [..., C]."""
    return value.reshape(*value.shape, *[1] * (rank - 1))


def batchnorm(
    x: Var,
    weight: Var,
    bias: Var,
    running: tuple[Array, Array] | None,
    axes: tuple[int, ...],
    eps: float = EPS,
) -> tuple[Var, tuple[Array, Array]]:
    """Normalised over ``axes``, with the running statistics where they are given.

    ``weight`` and ``bias`` have the axes that stay and 1 for the others. Gives the value, and mean
    and variance of the batch in the shape of ``weight``.
    """
    if running is not None:
        mean, variance = (Var(value) for value in running)
    else:
        mean = x.mean(axes)
        variance = ((x - mean) * (x - mean)).mean(axes)
    y = (x - mean) / sqrt(variance + eps) * weight + bias
    return y, (mean.data, variance.data)


def groupnorm(x: Var, weight: Var, bias: Var, groups: int) -> Var:
    """Each group of channels of each sample at each step by itself."""
    rank = len(x.shape) - 2
    split = x.reshape(*x.shape[:2], groups, -1)
    mean = split.mean((-1,))
    variance = ((split - mean) * (split - mean)).mean((-1,))
    y = ((split - mean) / sqrt(variance + EPS)).reshape(*x.shape)
    return y * _channelwise(weight, rank) + _channelwise(bias, rank)


# -- time -----------------------------------------------------------------------------------------


def orthogonal(by: str, size: int) -> Array:
    """The rows of the DCT-II by scipy, or of the Haar wavelets by their supports."""
    if by == "dct":
        return np.asarray(dct(np.eye(size), norm="ortho", axis=0))
    rows, width = [np.full(size, size**-0.5)], size
    while width > 1:
        for start in range(0, size, width):
            row = np.zeros(size)
            row[start : start + width // 2] = width**-0.5
            row[start + width // 2 : start + width] = -(width**-0.5)
            rows.append(row)
        width //= 2
    return np.stack(rows)


def positions(shape: tuple[int, ...], over: str) -> Array:
    """The sinusoidal positions of a map, number by number."""
    found = np.zeros(shape)
    for channel, row, column in np.ndindex(*shape):
        place = {"pixels": row * shape[2] + column, "rows": row, "columns": column}[over]
        angle = place / 10000 ** (2 * (channel // 2) / shape[0])
        found[channel, row, column] = np.cos(angle) if channel % 2 else np.sin(angle)
    return found


def latency(x: Array, tau: float) -> Array:
    """One spike at step floor(tau * ln(1 / x)), none from T on: [T, N, ...] to the same."""
    with np.errstate(divide="ignore"):
        when = np.floor(-tau * np.log(np.clip(x, 0.0, 1.0)))
    steps = np.arange(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1))
    return np.where(when == steps, 1.0, 0.0)
