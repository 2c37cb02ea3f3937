"""Arrays that remember what they were computed from: reverse mode on numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Pull = Callable[[Array], Array]
"""From the gradient of a value to that of one of its operands."""
Like: TypeAlias = "Var | float"


class Var:
    """A float64 array, and how gradients get from it to what it was computed from."""

    _numbers = count()

    def __init__(self, data: npt.ArrayLike, *parents: tuple[Var, Pull]) -> None:
        self.data: Array = np.asarray(data, dtype=np.float64)
        self.parents = parents
        self.number = next(Var._numbers)  # operands have smaller ones

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __add__(self, other: Like) -> Var:
        return binary(self, other, np.add, lambda a, b: (1.0, 1.0))

    def __sub__(self, other: Like) -> Var:
        return binary(self, other, np.subtract, lambda a, b: (1.0, -1.0))

    def __mul__(self, other: Like) -> Var:
        return binary(self, other, np.multiply, lambda a, b: (b, a))

    def __truediv__(self, other: Like) -> Var:
        return binary(self, other, np.divide, lambda a, b: (1 / b, -a / (b * b)))

    def __radd__(self, other: float) -> Var:
        return as_var(other) + self

    def __rsub__(self, other: float) -> Var:
        return as_var(other) - self

    def __rmul__(self, other: float) -> Var:
        return as_var(other) * self

    def __rtruediv__(self, other: float) -> Var:
        return as_var(other) / self

    def __neg__(self) -> Var:
        return Var(-self.data, (self, lambda g: -g))

    def __getitem__(self, index: Any) -> Var:
        def pull(grad: Array) -> Array:
            whole = np.zeros(self.shape)
            np.add.at(whole, index, grad)
            return whole

        return Var(self.data[index], (self, pull))

    def reshape(self, *shape: int) -> Var:
        return Var(self.data.reshape(shape), (self, lambda g: g.reshape(self.shape)))

    def mean(self, axes: tuple[int, ...]) -> Var:
        """The mean over some axes, which stay with a size of 1."""
        size = np.prod([self.shape[axis] for axis in axes])
        mean = self.data.mean(axes, keepdims=True)
        return Var(mean, (self, lambda g: np.broadcast_to(g / size, self.shape)))


def as_var(value: Like) -> Var:
    return value if isinstance(value, Var) else Var(value)


def binary(
    a: Like,
    b: Like,
    value: Callable[[Array, Array], Array],
    slopes: Callable[[Array, Array], tuple[Array | float, Array | float]],
) -> Var:
    """A function of two arrays, element by element; sizes of 1 are repeated."""
    a, b = as_var(a), as_var(b)
    with np.errstate(all="ignore"):
        left, right = slopes(a.data, b.data)
        result = value(a.data, b.data)
    return Var(
        result, (a, lambda g: summed(g * left, a.shape)), (b, lambda g: summed(g * right, b.shape))
    )


def unary(a: Var, value: Array, slope: Array | float) -> Var:
    """A function of one array, element by element."""
    return Var(value, (a, lambda g: g * slope))


def summed(grad: Array, shape: tuple[int, ...]) -> Array:
    """A gradient summed over what was repeated."""
    grad = grad.sum(tuple(range(grad.ndim - len(shape))))
    axes = tuple(i for i, size in enumerate(shape) if size == 1 and grad.shape[i] != 1)
    result: Array = grad.sum(axes, keepdims=True)
    return result


def concat(parts: Sequence[Var], axis: int) -> Var:
    ends = np.cumsum([part.shape[axis] for part in parts])

    def pull(number: int) -> Pull:
        return lambda grad: np.split(grad, ends[:-1], axis)[number]

    data = np.concatenate([part.data for part in parts], axis)
    return Var(data, *((part, pull(number)) for number, part in enumerate(parts)))


def stack(parts: Sequence[Var]) -> Var:
    return concat([part.reshape(1, *part.shape) for part in parts], 0)


def broadcast(value: Var, shape: tuple[int, ...]) -> Var:
    """The value repeated to a shape."""
    return value if value.shape == shape else value + Var(np.zeros(shape))


def gradients(
    of: Mapping[int, tuple[Var, Array]], by: Sequence[Var], noise: float = 0.0
) -> list[Array]:
    """The gradients of some values, given that of others (any keys), added up.

    With ``noise`` each part of a gradient is changed by so much of itself, at random.
    """
    random = np.random.default_rng(1)
    grads: dict[int, Array] = {}
    found: dict[int, Var] = {}

    def add(value: Var, grad: Array) -> None:
        known = grads.get(value.number)
        grads[value.number] = grad if known is None else known + grad
        found[value.number] = value

    waiting = [value for value, _ in of.values()]
    order: dict[int, Var] = {}
    while waiting:
        value = waiting.pop()
        if value.number not in order:
            order[value.number] = value
            waiting += [parent for parent, _ in value.parents]
    for value, grad in of.values():
        add(value, grad)
    for number in sorted(order, reverse=True):
        if number in grads:
            for parent, pull in order[number].parents:
                part = pull(grads[number])
                if noise:
                    part = part * (1 + noise * random.standard_normal(part.shape))
                add(parent, part)
    return [grads.get(value.number, np.zeros(value.shape)) for value in by]
