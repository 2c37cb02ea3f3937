"""The operations of a network on arrays [T, N, C, H, W] or [T, N, C]."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct
from scipy.special import erf

from tests.reference.tape import Array, Var, as_var, scaled

EPS = 1e-5
MOMENTUM = 0.1

# -- element by element ---------------------------------------------------------------------------


def softplus(x: Var) -> Var:
    return np.logaddexp(0.0, x)


def relu(x: Var) -> Var:
    return Var(np.maximum(x.data, 0), scaled(x, x.data > 0))


def gelu(x: Var) -> Var:
    return x * (0.5 * (1 + erf(x * (1 / np.sqrt(2)))))


def softmax(x: Var, axis: int) -> Var:
    """The softmax of [T, N, C, ...] along an axis."""
    power = np.exp(x.data - x.data.max(axis, keepdims=True))
    share = power / power.sum(axis, keepdims=True)

    def pull(gradient: Array) -> Array:
        return share * (gradient - (gradient * share).sum(axis, keepdims=True))

    return Var(share, (x, pull))


def detach(x: Var) -> Var:
    return Var(x.data)


def bounded(x: Var, bound: float, above: bool) -> Var:
    """``min`` (if ``above``) or ``max`` of a value and a constant. Gradients pass at the bound."""
    if above:
        return Var(np.minimum(x.data, bound), scaled(x, x.data <= bound))
    return Var(np.maximum(x.data, bound), scaled(x, x.data >= bound))


def where(condition: Any, a: Var | float, b: Var | float) -> Var:
    a, b = as_var(a), as_var(b)
    return Var(np.where(condition, a.data, b.data), scaled(a, condition), scaled(b, ~condition))


def heaviside(x: Var, slope: Callable[[Array], Array]) -> Var:
    """1 if x >= 0, else 0. The derivative is that of the surrogate."""
    return Var(x.data >= 0, scaled(x, slope(x.data)))


# -- over channels and pixels ---------------------------------------------------------------------


def einsum(letters: str, a: Var, b: Var) -> Var:
    """Sums of products. Each axis of an operand is an axis of the other operand or of the result."""
    left, right, made = re.split(",|->", letters)
    return Var(
        np.einsum(letters, a.data, b.data, optimize=True),
        (a, lambda g: np.einsum(f"{made},{right}->{left}", g, b.data, optimize=True)),
        (b, lambda g: np.einsum(f"{made},{left}->{right}", g, a.data, optimize=True)),
    )


def mixed(x: Var, weight: Var, axis: int) -> Var:
    """Multiply by ``weight`` [A, B] along an axis with B entries."""
    letters = "tnchw"[: len(x.shape)]
    made = letters.replace(letters[axis], "a")
    return einsum(f"{letters},a{letters[axis]}->{made}", x, weight)


def windows(x: Var, kernel: Sequence[int], stride: Sequence[int], dilation: int = 1) -> Var:
    """[..., H, W] as [..., rows, columns, *kernel]: the entries under the kernel at each position."""
    spans = tuple(dilation * (size - 1) + 1 for size in kernel)
    each = (..., *(slice(None, None, step) for step in (*stride, dilation, dilation)))

    def pull(grad: Array) -> Array:
        result = np.zeros(x.shape)
        seen = sliding_window_view(result, spans, (-2, -1), writeable=True)[each]
        for i, j in np.ndindex(*kernel):
            seen[..., i, j] += grad[..., i, j]
        return result

    return Var(sliding_window_view(x.data, spans, (-2, -1))[each], (x, pull))


def conv(
    x: Var, weight: Var, bias: Var | None, stride: tuple[int, int], dilation: int, groups: int
) -> Var:
    """A cross-correlation: the kernel is not flipped."""
    t, n, c, *size = x.shape
    kernel = weight.shape[2:]
    seen = windows(x.reshape(t, n, groups, c // groups, *size), kernel, stride, dilation)
    parts = weight.reshape(groups, -1, c // groups, *kernel)
    y = einsum("tngchwij,gocij->tngohw", seen, parts)
    y = y.reshape(t, n, -1, *y.shape[4:])
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _pools(x: Var, kernel: int, stride: int, padding: int, border: float) -> Var:
    """The entries of each window: [T, N, C, rows, columns, entries]."""
    wide = padded(x, (3, 4), padding, padding, border)
    seen = windows(wide, (kernel, kernel), (stride, stride))
    return seen.reshape(*seen.shape[:5], kernel * kernel)


def maxpool(x: Var, kernel: int, stride: int, padding: int) -> Var:
    """The first of several equal maxima gets the gradient. Padding is never the maximum."""
    entries = _pools(x, kernel, stride, padding, -np.inf)
    first = entries.data.argmax(-1)
    return entries[(*np.indices(first.shape, sparse=True), first)]


def avgpool(x: Var, kernel: int, stride: int, padding: int) -> Var:
    """The mean includes the zeros of the padding."""
    entries = _pools(x, kernel, stride, padding, 0.0)
    return entries.mean((-1,)).reshape(*entries.shape[:5])


def shares(size: int, larger: int, bilinear: bool) -> Array:
    """The shares of ``size`` pixels in each of ``larger`` pixels: the nearest one, or two of them."""
    result = np.zeros((larger, size))
    for place in range(larger):
        if not bilinear:
            share = np.float32(size) / np.float32(larger)  # torch also rounds this to float32
            result[place, min(int(np.float32(place) * share), size - 1)] = 1
            continue
        at = max(0.0, (place + 0.5) * size / larger - 0.5)
        low = int(at)
        result[place, low] += 1 - (at - low)
        result[place, min(low + 1, size - 1)] += at - low
    return result


# -- along axes -----------------------------------------------------------------------------------


def taken(x: Var, axis: int, places: Array) -> Var:
    """The entries at ``places`` along an axis. Places may be repeated."""
    return x[(*[slice(None)] * axis, places)]


def swapped(x: Var, a: int, b: int) -> Var:
    return Var(np.swapaxes(x.data, a, b), (x, lambda grad: np.swapaxes(grad, a, b)))


def padded(x: Var, axes: tuple[int, ...], before: int, after: int, value: float = 0.0) -> Var:
    """Pad both ends of the axes with the same number."""
    more = [(before, after) if axis in axes else (0, 0) for axis in range(len(x.shape))]
    inside = tuple(slice(low, low + size) for (low, _), size in zip(more, x.shape, strict=True))
    data = np.pad(x.data, more, constant_values=value)
    return Var(data, (x, lambda grad: grad[inside]))


def reduced(name: str, x: Var, axes: tuple[int, ...]) -> Var:
    """``sum``, ``mean`` or ``max`` over axes, kept with size 1. Equal maxima share the gradient."""
    if name == "mean":
        return x.mean(axes)
    if name == "sum":
        return Var(x.data.sum(axes, keepdims=True), (x, lambda g: np.broadcast_to(g, x.shape)))
    most = x.data.max(axes, keepdims=True)
    share = (x.data == most) / (x.data == most).sum(axes, keepdims=True)
    return Var(most, (x, lambda g: g * share))


def side_by_side(values: list[Any]) -> list[Any]:
    """Values for a join: a vector becomes a map of one pixel if another value is a map."""
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


def normed(x: Var, axes: tuple[int, ...], eps: float = EPS) -> tuple[Var, Array, Array]:
    """Normalise over ``axes``, and also return the mean and variance."""
    mean = x.mean(axes)
    far = x - mean
    variance = (far * far).mean(axes)
    return far / np.sqrt(variance + eps), mean.data, variance.data


# -- time -----------------------------------------------------------------------------------------


def orthogonal(by: str, size: int) -> Array:
    """The rows of the DCT-II, computed by scipy, or of the Haar wavelets, built from their supports."""
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
    """The sinusoidal positions of a map, computed entry by entry."""
    found = np.zeros(shape)
    for channel, row, column in np.ndindex(*shape):
        place = {"pixels": row * shape[2] + column, "rows": row, "columns": column}[over]
        angle = place / 10000 ** (2 * (channel // 2) / shape[0])
        found[channel, row, column] = np.cos(angle) if channel % 2 else np.sin(angle)
    return found


def latency(x: Array, tau: float) -> Array:
    """One spike at step floor(tau * ln(1 / x)), or none from step T on. The shape is [T, N, ...]."""
    with np.errstate(divide="ignore"):
        when = np.floor(-tau * np.log(np.clip(x, 0.0, 1.0)))
    steps = np.arange(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1))
    return np.where(when == steps, 1.0, 0.0)
