"""THE table of functions and methods of tensors that are read as operations."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danetc.compiler.ir.graph import Attribute
from danetc.errors import UserError
from danetc.tasks.importing.layers import (
    adaptive,
    average,
    batchnorm,
    concat,
    flatten,
    pool,
    sizes,
    with_number,
)
from danetc.tasks.importing.modules import activation
from danetc.tasks.importing.source import SourceBuilder


@dataclass(frozen=True)
class ReadValue:
    """A value that was read: its node. ``leading`` are the dimensions before those of a sample: T and
    N, both as one (``flat``), or N alone."""

    node: int
    leading: int
    flat: bool = False


@dataclass(frozen=True)
class StoredTensor:
    """A parameter or a buffer of the model, and its path."""

    path: str
    tensor: Tensor


@dataclass(frozen=True)
class Called:
    """A call: its operands as they were read (or as they are, if they are no tensors)."""

    build: SourceBuilder
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    before: tuple[int, ...]
    """The shape of the first tensor among the operands."""
    after: tuple[int, ...]
    """The shape of what is given."""
    path: str
    sequence: bool
    """The network runs all time steps at once: T is the first dimension of what varies."""

    @property
    def first(self) -> ReadValue:
        return next(item for item in self.args if isinstance(item, ReadValue))

    def option(self, place: int, name: str, default: Any = None) -> Any:
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def given(self, node: int, like: ReadValue | None = None) -> ReadValue:
        like = like or self.first
        return ReadValue(node, like.leading, like.flat)

    def refuse(self, why: str) -> UserError:
        return UserError(f"{self.path}: {why}")

    def layer(self, op: str, attrs: Mapping[str, Attribute], given: Mapping[str, Any]) -> ReadValue:
        """A layer whose weights the model's own code reads; those that are None it does not have."""
        held = {name: item for name, item in given.items() if isinstance(item, StoredTensor)}
        if any(item is not None and name not in held for name, item in given.items()):
            raise self.refuse("its weights are computed, and not stored")
        node = self.build.add(
            op, [self.first.node], attrs, self.path, {name: x.tensor for name, x in held.items()}
        )
        self.build.places[node] = {name: x.path for name, x in held.items()}
        return self.given(node)


Reader = Callable[[Called], ReadValue]


def _arithmetic(op: str) -> Reader:
    """An operation of two values, or of a value and a number."""

    def read(call: Called) -> ReadValue:
        if call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("rounding_mode"):
            raise call.refuse(f"`{op}` with a factor or a rounding")
        a, b = call.args[:2]
        if isinstance(a, ReadValue) and isinstance(b, ReadValue):
            if a.flat != b.flat:
                raise call.refuse("it joins a value with T and N as one dimension and another one")
            widest = max(a, b, key=lambda item: item.leading)  # an image, and what steps make of it
            return call.given(call.build.add(op, [a.node, b.node], {}, call.path), widest)
        first = not isinstance(a, ReadValue)
        value, number = (b, a) if first else (a, b)
        if not isinstance(number, (int, float)):
            raise call.refuse(f"`{op}` of {type(number).__name__} and a value")
        node = with_number(call.build, op, value.node, number, call.path, first=first)
        return call.given(node, value)

    return read


_sum, _difference, _product, _quotient = map(_arithmetic, ("add", "sub", "mul", "div"))


def _reverse_difference(call: Called) -> ReadValue:
    """``torch.rsub(x, y)`` is y - x."""
    return _difference(replace(call, args=(*call.args[1::-1], *call.args[2:])))


def _concat(call: Called) -> ReadValue:
    values = call.args[0]
    dim = call.option(1, "dim", 0)
    first = values[0]
    rank = len(call.after)
    if not all(isinstance(item, ReadValue) for item in values) or dim % rank != first.leading:
        raise call.refuse("concatenation along another axis than channels")
    if len({(item.leading, item.flat) for item in values}) > 1:
        raise call.refuse("concatenation of values with time steps and without")
    return call.given(concat(call.build, [item.node for item in values], call.path), first)


def _step(call: Called) -> ReadValue:
    raise call.refuse(
        "a part of a value, or one of its time steps; code that runs step by step is read where it is a "
        "neuron whose equations are the same at each step"
    )


def _relu(call: Called) -> ReadValue:
    return call.given(activation(call.build, call.first.node, call.path))


def _function(op: str) -> Reader:
    return lambda call: call.given(call.build.add(op, [call.first.node], {}, call.path))


def _flatten(call: Called) -> ReadValue:
    first, last = call.option(1, "start_dim", 0), call.option(2, "end_dim", -1)
    return _reshaped(call, first % len(call.before), last % len(call.before))


def _reshaped(call: Called, first: int, last: int) -> ReadValue:
    value = call.first
    rank = len(call.before)
    if first == last:
        return value
    if (first, last) == (0, 1) and value.leading == 2:
        return ReadValue(value.node, 1, flat=True)
    if first == value.leading and last == rank - 1:
        return call.given(flatten(call.build, value.node, call.path))
    raise call.refuse(f"flatten of the dimensions {first} to {last} of {call.before}")


def _view(call: Called) -> ReadValue:
    """Another shape: T and N as one or apart, a map as a vector, or nothing."""
    value, before, after = call.first, call.before, call.after
    sample = call.build.shape_of(value.node)
    lead = before[: value.leading]
    flat = (lead[0] * lead[1],) if value.leading == 2 else lead
    if before == after:
        return value
    if value.flat and after[2:] == sample and after[0] * after[1] == before[0]:
        return ReadValue(value.node, 2)
    if value.leading == 2 and after == (*flat, *sample):
        return ReadValue(value.node, 1, flat=True)
    if after == (*lead, math.prod(sample)):
        return call.given(flatten(call.build, value.node, call.path))
    raise call.refuse(f"a change of shape from {before} to {after}")


def _mean(call: Called) -> ReadValue:
    value = call.first
    dims = call.option(1, "dim")
    if dims is None:
        raise call.refuse("a mean over everything, samples too")
    rank = len(call.before)
    axes = {axis % rank for axis in (dims if isinstance(dims, (tuple, list)) else (dims,))}
    if axes == {0} and value.leading == 2 and not call.kwargs.get("keepdim"):
        return ReadValue(call.build.add("mean_over_time", [value.node], {}, call.path), 1)
    if axes == {rank - 1, rank - 2} and rank - value.leading == 3:
        keep = call.option(2, "keepdim", False)
        return call.given(average(call.build, value.node, call.path, keep=keep))
    raise call.refuse(f"a mean over the dimensions {sorted(axes)} of {call.before}")


def _sum_over(call: Called) -> ReadValue:
    value = call.first
    if call.option(1, "dim") == 0 and value.leading == 2 and not call.kwargs.get("keepdim"):
        return ReadValue(call.build.add("sum_over_time", [value.node], {}, call.path), 1)
    raise call.refuse(f"a sum over {call.option(1, 'dim')} of {call.before}")


def _unsqueeze(call: Called) -> ReadValue:
    """A place for time before an image, which is then repeated."""
    value = call.first
    if call.option(1, "dim") == 0 and value.leading == 1 and not value.flat and not call.sequence:
        return ReadValue(value.node, 2)
    raise call.refuse("a new dimension")


def _repeat(call: Called) -> ReadValue:
    """An image at each time step."""
    value = call.first
    times = call.args[1] if isinstance(call.args[1], (tuple, list)) else tuple(call.args[1:])
    rest = tuple(times[1:])
    others_stay = all(item in (1, -1) for item in rest) or rest in (call.before, call.before[1:])
    if not others_stay or times[0] != call.build.steps:
        raise call.refuse(f"a repetition by {tuple(times)}; T is {call.build.steps} (--steps)")
    if value.leading == 2 and call.before[0] == 1:
        return value
    if value.leading == 1 and len(times) == len(call.before) + 1:
        return ReadValue(value.node, 2)
    raise call.refuse(f"a repetition by {tuple(times)}")


def _maxpool(call: Called) -> ReadValue:
    if call.option(6, "return_indices", False):
        raise call.refuse("a max pooling with indices")
    node = pool(
        call.build, "maxpool", call.first.node, call.path, *_window(call),
        dilation=call.option(4, "dilation", 1), ceil_mode=call.option(5, "ceil_mode", False),
    )  # fmt: skip
    return call.given(node)


def _avgpool(call: Called) -> ReadValue:
    node = pool(
        call.build, "avgpool", call.first.node, call.path, *_window(call),
        ceil_mode=call.option(4, "ceil_mode", False),
        counts_padding=call.option(5, "count_include_pad", True),
        divisor=call.option(6, "divisor_override"),
    )  # fmt: skip
    return call.given(node)


def _window(call: Called) -> tuple[Any, Any, Any]:
    stride = call.option(2, "stride")  # () of torch.max_pool2d is the kernel's
    return call.option(1, "kernel_size"), stride or None, call.option(3, "padding", 0)


def _adaptive(call: Called) -> ReadValue:
    size = call.option(1, "output_size")
    return call.given(adaptive(call.build, call.first.node, call.path, size))


def _dropout(call: Called) -> ReadValue:
    attrs = {"p": float(call.option(1, "p", 0.5))}
    return call.given(call.build.add("dropout", [call.first.node], attrs, call.path))


def _same(call: Called) -> ReadValue:
    return call.first


def _greatest(op: str) -> Reader:
    def read(call: Called) -> ReadValue:
        a, b = call.args[:2]
        if not (isinstance(a, ReadValue) and isinstance(b, ReadValue)):
            raise call.refuse(f"`{op}` of a value and a number")
        return call.given(call.build.add(op, [a.node, b.node], {}, call.path))

    return read


def _conv(call: Called) -> ReadValue:
    weight, bias = call.option(1, "weight"), call.option(2, "bias")
    if not isinstance(weight, StoredTensor):
        raise call.refuse("its weight is computed, and not stored")
    width, _, *kernel = weight.tensor.shape
    attrs = sizes(
        call.path, kernel=tuple(kernel), stride=call.option(3, "stride", 1),
        padding=call.option(4, "padding", 0), dilation=call.option(5, "dilation", 1),
    )  # fmt: skip
    attrs |= {"width": width, "groups": call.option(6, "groups", 1), "bias": bias is not None}
    return call.layer("conv", attrs, {"weight": weight, "bias": bias})


def _linear(call: Called) -> ReadValue:
    weight, bias = call.option(1, "weight"), call.option(2, "bias")
    if not isinstance(weight, StoredTensor) or len(call.build.shape_of(call.first.node)) != 1:
        raise call.refuse("a linear layer of a map, or of a weight that is not stored")
    attrs = {"width": int(weight.tensor.shape[0]), "bias": bias is not None}
    return call.layer("linear", attrs, {"weight": weight, "bias": bias})


def _batchnorm(*places: int) -> Reader:
    """A norm whose arguments stand at these places: weight, bias, mean, variance, training, eps."""

    def read(call: Called) -> ReadValue:
        names = ("weight", "bias", "running_mean", "running_var", "training", "eps")
        usual = (None, None, None, None, False, 1e-5)
        *stored, training, eps = (
            call.option(place, name, default)
            for place, name, default in zip(places, names, usual, strict=True)
        )
        if training or any(item is None for item in stored):
            raise call.refuse("a norm without weights, or with the statistics of its input")
        return call.layer(*batchnorm(eps), dict(zip(names[:4], stored, strict=True)))

    return read


WEIGHTED: Mapping[Any, Reader] = {
    F.conv2d: _conv, torch.conv2d: _conv, F.linear: _linear,
    F.batch_norm: _batchnorm(3, 4, 1, 2, 5, 7), torch.batch_norm: _batchnorm(1, 2, 3, 4, 5, 7),
}  # fmt: skip
"""Functions that read parameters and buffers of the model."""

FUNCTIONS: Mapping[Any, Reader] = {
    **WEIGHTED,
    operator.add: _sum, operator.iadd: _sum, torch.add: _sum,
    operator.sub: _difference, operator.isub: _difference, torch.sub: _difference,
    torch.rsub: _reverse_difference,
    operator.mul: _product, operator.imul: _product, torch.mul: _product,
    operator.truediv: _quotient, torch.div: _quotient,
    torch.cat: _concat, torch.concat: _concat, torch.concatenate: _concat,
    operator.getitem: _step, torch.stack: _step,
    torch.flatten: _flatten, torch.reshape: _view,
    torch.relu: _relu, F.relu: _relu,
    torch.sigmoid: _function("sigmoid"), torch.tanh: _function("tanh"),
    F.sigmoid: _function("sigmoid"), F.tanh: _function("tanh"),
    torch.mean: _mean, torch.sum: _sum_over,
    torch.maximum: _greatest("maximum"), torch.minimum: _greatest("minimum"),
    torch.unsqueeze: _unsqueeze,
    F.max_pool2d: _maxpool, torch.max_pool2d: _maxpool, F.avg_pool2d: _avgpool,
    F.adaptive_avg_pool2d: _adaptive, F.dropout: _dropout,
}  # fmt: skip

METHODS: Mapping[str, Reader] = {
    "add": _sum, "add_": _sum, "sub": _difference, "mul": _product, "mul_": _product,
    "div": _quotient, "flatten": _flatten, "view": _view, "reshape": _view, "unflatten": _view,
    "relu": _relu, "relu_": _relu, "sigmoid": _function("sigmoid"), "tanh": _function("tanh"),
    "mean": _mean, "sum": _sum_over, "unsqueeze": _unsqueeze, "repeat": _repeat, "expand": _repeat,
    "contiguous": _same, "clone": _same, "float": _same,
}  # fmt: skip
