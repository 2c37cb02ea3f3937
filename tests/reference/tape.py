"""Reverse-mode differentiation on numpy, with arrays that record their operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import erf, expit

Array = npt.NDArray[np.float64]
Pull = Callable[[Array], Array]
"""Maps the gradient of a value to the gradient of one of its operands."""
Like: TypeAlias = "Var | float"

SLOPES: Mapping[np.ufunc, Callable[..., tuple[Array | float, ...]]] = {
    np.add: lambda a, b, y: (1.0, 1.0),
    np.subtract: lambda a, b, y: (1.0, -1.0),
    np.multiply: lambda a, b, y: (b, a),
    np.divide: lambda a, b, y: (1 / b, -a / (b * b)),
    np.negative: lambda x, y: (-1.0,),
    np.exp: lambda x, y: (y,),
    np.log: lambda x, y: (1 / x,),
    np.sqrt: lambda x, y: (0.5 / y,),
    np.absolute: lambda x, y: (np.sign(x),),
    np.tanh: lambda x, y: (1 - y * y,),
    np.sin: lambda x, y: (np.cos(x),),
    np.cos: lambda x, y: (-np.sin(x),),
    np.rint: lambda x, y: (1.0,),
    np.logaddexp: lambda a, b, y: (expit(a - b), expit(b - a)),
    erf: lambda x, y: (2 / math.sqrt(math.pi) * np.exp(-(x**2)),),
    expit: lambda x, y: (y * (1 - y),),
    # if both operands are equal, each gets half of the gradient
    np.maximum: lambda a, b, y: ((a > b) + 0.5 * (a == b), (a < b) + 0.5 * (a == b)),
    np.minimum: lambda a, b, y: ((a < b) + 0.5 * (a == b), (a > b) + 0.5 * (a == b)),
}
"""Elementwise functions with their derivatives, computed from the operands and the value."""


class Var(np.lib.mixins.NDArrayOperatorsMixin):
    """A float64 array, with its operands and the functions that compute their gradients.

    Functions in ``SLOPES`` return a ``Var``. Other functions, such as comparisons, return plain arrays.
    """

    _numbers = count()

    def __init__(self, data: npt.ArrayLike, *parents: tuple[Var, Pull]) -> None:
        self.data: Array = np.asarray(data, dtype=np.float64)
        self.parents = parents
        self.number = next(Var._numbers)  # operands have smaller numbers

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __array_ufunc__(self, function: np.ufunc, method: str, *args: Like) -> Any:
        """Operands are broadcast."""
        operands = [as_var(arg) for arg in args]
        known = [operand.data for operand in operands]
        with np.errstate(all="ignore"):
            y = function(*known)
            if function not in SLOPES:
                return y
            slopes = SLOPES[function](*known, y)
        return Var(y, *map(scaled, operands, slopes))

    def __getitem__(self, index: Any) -> Var:
        def pull(grad: Array) -> Array:
            whole = np.zeros(self.shape)
            np.add.at(whole, index, grad)
            return whole

        return Var(self.data[index], (self, pull))

    def reshape(self, *shape: int) -> Var:
        return Var(self.data.reshape(shape), (self, lambda g: g.reshape(self.shape)))

    def mean(self, axes: tuple[int, ...]) -> Var:
        """The mean over some axes, which are kept with size 1."""
        size = np.prod([self.shape[axis] for axis in axes])
        mean = self.data.mean(axes, keepdims=True)
        return Var(mean, (self, lambda g: np.broadcast_to(g / size, self.shape)))


def as_var(value: Like) -> Var:
    return value if isinstance(value, Var) else Var(value)


def scaled(operand: Var, slope: Array | float) -> tuple[Var, Pull]:
    """An operand of an elementwise function, with the function that computes its gradient."""
    return operand, lambda grad: summed(grad * slope, operand.shape)


def summed(grad: Array, shape: tuple[int, ...]) -> Array:
    """A gradient summed over the axes that were broadcast."""
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
    """The value broadcast to a shape."""
    return value if value.shape == shape else value + np.zeros(shape)


def gradients(
    of: Sequence[tuple[Var, Array]], by: Sequence[Var], noise: float = 0.0
) -> list[Array]:
    """The gradients of the values ``by``, given the gradients of the values in ``of``.

    With ``noise``, each part of a gradient is changed by this relative amount, at random.
    """
    random = np.random.default_rng(1)
    waiting = [value for value, _ in of]
    order: dict[int, Var] = {}
    while waiting:
        value = waiting.pop()
        if value.number not in order:
            order[value.number] = value
            waiting += [parent for parent, _ in value.parents]
    grads: dict[int, Array] = {}
    for value, grad in of:
        grads[value.number] = grads.get(value.number, 0) + grad
    for number in sorted(order, reverse=True):
        if number in grads:
            for parent, pull in order[number].parents:
                part = pull(grads[number])
                if noise:
                    part = part * (1 + noise * random.standard_normal(part.shape))
                grads[parent.number] = grads.get(parent.number, 0) + part
    return [grads.get(value.number, np.zeros(value.shape)) for value in by]
