"""Operators of ONNX as danetc's operations: what samples, or all samples of all steps, go through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from danetc.compiler.ir.graph import Attribute
from danetc.compiler.ir.ops import OPS
from danetc.errors import UserError
from danetc.tasks.importing.equations import POINTWISE, NeuronPart, written
from danetc.tasks.importing.layers import (
    average,
    batchnorm,
    concat,
    flatten,
    pool,
    sizes,
    with_number,
)
from danetc.tasks.importing.onnx_neurons import attributes
from danetc.tasks.importing.rolled import BOUNDARY
from danetc.tasks.importing.source import SourceBuilder

Array: TypeAlias = "np.ndarray[Any, Any]"

_RESHAPED = frozenset({"Reshape", "Unsqueeze", "Squeeze", "Transpose"})
_REDUCED = frozenset({"ReduceMean", "ReduceSum", "ReduceMax"})
_OVER_TIME = _REDUCED | {"Reshape", "Unsqueeze", "Expand", "Tile"}
"""Operators that know what to make of time steps."""
_OF_EACH = POINTWISE | {"MatMul", "Pad", "Slice"}
"""Operators that give of a sequence what they give of each step."""


class Reader:
    """Values that are made of samples by their names, and numbers that are stored.

    A value is [N, ...] or [T * N, ...]; those of ``in_steps`` are [T, N, ...]. ``parts`` are neurons by
    what they give, whose operators are read as one. ``samples`` is N where a file has it once and for
    all, else 0. Of one step ``numbers`` are its number, and ``of_steps`` what is stored for each,
    [T, ...], by the names of what is taken of that. ``halves`` are values that stand for a part of an
    operation, with the operators that do the rest of it and a number of it: of groups of channels, or
    of steps of a delay.
    """

    def __init__(
        self,
        build: SourceBuilder,
        stored: Mapping[str, Array],
        parts: Mapping[str, NeuronPart],
        samples: int = 0,
    ) -> None:
        self.build = build
        self.samples = samples
        self.stored = dict(stored)
        self.parts = parts
        self.members = {name for part in parts.values() for name in part.members}
        self.values: dict[str, int] = {}
        self.layers: dict[tuple[str, tuple[str, ...]], range] = {}
        self.in_steps: set[str] = set()
        self.numbers: set[str] = set()
        self.of_steps: dict[str, Array] = {}
        self.halves: dict[str, tuple[frozenset[str], int]] = {}

    def read(self, node: Any, name: str) -> None:
        for given in node.output:
            if given in self.parts:
                self._neuron(self.parts[given], name)
                if node.op_type == "Loop":
                    self.in_steps.add(given)
        if self.members.intersection(node.output):
            return
        if node.op_type == BOUNDARY:
            self.values[node.output[0]] = _Called(self, node, {}, name).x
            return
        attrs = attributes(node)
        if node.op_type == "Constant" or (node.op_type == "Add" and node.input[0] in self.numbers):
            return
        if (
            node.op_type == "Gather"
            and node.input[1] in self.numbers
            and node.input[0] in self.stored
        ):
            self.of_steps[node.output[0]] = self.stored[node.input[0]]
            return
        if not self.of_steps.keys().isdisjoint(node.input) and node.op_type in POINTWISE:
            taken = [self.of_steps.get(item, self.stored.get(item)) for item in node.input]
            if (held := [item for item in taken if item is not None]) and len(held) == len(taken):
                self.of_steps[node.output[0]] = _computed(node, held)
                return
        if all(item in self.stored or not item for item in node.input) or node.op_type == "Shape":
            found = _size(self, node, attrs)
            if found is not None:
                self.stored[node.output[0]] = found
                return
        read = FORMS.get(node.op_type)
        if read is None:
            raise UserError(
                f"{name}: the operator {node.op_type} is not read; these are: {', '.join(FORMS)}, "
                "and those of neurons' equations"
            )
        for item in node.input:
            if item in self.halves and node.op_type not in self.halves[item][0]:
                wanted = " or ".join(sorted(self.halves[item][0]))
                raise UserError(f"{name}: a {node.op_type} stands where {wanted} is read")
        if self.in_steps.intersection(node.input) and node.op_type not in _OVER_TIME:
            if node.op_type not in _OF_EACH:
                raise UserError(
                    f"{name}: a {node.op_type} of values [T, N, ...], which is not read"
                )
            self.in_steps.add(node.output[0])
        before = len(self.build.nodes)
        self.values[node.output[0]] = read(_Called(self, node, attrs, name))
        self._share(node, range(before, len(self.build.nodes)))

    def _share(self, node: Any, made: range) -> None:
        """Numbers that several layers read are of one: of norms, which start alike and may be stored
        once for that, where what they read is such a layer's."""
        build = self.build
        weighted = next((build.nodes[id] for id in made if id in build.weights), None)
        if weighted is None:
            return
        first = self.layers.setdefault(
            (node.op_type, tuple(name for name in node.input if name in self.stored)), made
        )
        if OPS[weighted.op].weighted or not build.shares.keys().isdisjoint(weighted.inputs):
            build.share(first, made)

    def _neuron(self, part: NeuronPart, name: str) -> None:
        if part.source not in self.values:
            raise UserError(f"{name}: a neuron of something that is no value of the network")
        x = self.values[part.source]
        self.values[part.given] = self.build.neuron(part.program, x, name, part.weights)


def _size(reader: Reader, node: Any, attrs: Mapping[str, Any]) -> Array | None:
    """Numbers that are made of sizes: T is known, and the number of samples -1."""
    taken = [reader.stored[item] for item in node.input if item in reader.stored]
    match node.op_type:
        case "Shape":
            value = reader.values.get(node.input[0])
            if value is None:
                return None
            lead = [reader.build.steps, -1] if node.input[0] in reader.in_steps else [-1]
            size = [*lead, *reader.build.shape_of(value)]
            return np.array(size[attrs.get("start", 0) : attrs.get("end", len(size))])
        case "Concat" if all(array.ndim == 1 for array in taken):
            return np.concatenate(taken)
        case "Expand" | "Identity":
            return taken[0]
        case kind if kind in POINTWISE or (kind in _RESHAPED and taken[0].dtype.kind == "f"):
            return _computed(node, taken)
    return None


def _computed(node: Any, taken: Sequence[Array]) -> Array:
    """What an operator makes of numbers."""
    from onnx.reference import ReferenceEvaluator  # late: it is an extra

    given = dict(zip((name for name in node.input if name), taken, strict=False))
    try:
        (found,) = ReferenceEvaluator(node).run(None, given)
    except Exception as error:  # whatever numbers that do not fit make of it
        raise UserError(f"{node.name or node.op_type}: it cannot be computed: {error}") from error
    return np.asarray(found)


@dataclass(frozen=True)
class _Called:
    reader: Reader
    node: Any
    attrs: Mapping[str, Any]
    name: str

    @property
    def build(self) -> SourceBuilder:
        return self.reader.build

    @property
    def x(self) -> int:
        return self.value(0)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.build.shape_of(self.x)

    def value(self, place: int) -> int:
        """An operand that is made of samples."""
        found = self.reader.values.get(self.node.input[place])
        if found is None:
            raise self.refuse(f"its operand {place + 1} is no value of the network")
        return found

    def number(self, place: int) -> Array | None:
        """An operand that is stored, or None."""
        if len(self.node.input) <= place or not self.node.input[place]:
            return None
        return self.reader.stored.get(self.node.input[place])

    def whole_numbers(self, place: int) -> list[int] | None:
        """An operand that is a row of whole numbers that are stored."""
        found = self.number(place)
        if found is None or found.dtype.kind != "i":
            return None
        return [int(item) for item in found.reshape(-1)]

    def add(self, op: str, attrs: Mapping[str, Attribute], weights: Mapping[str, Array | None] | None = None) -> int:  # fmt: skip
        held = {
            key: torch.tensor(item) for key, item in (weights or {}).items() if item is not None
        }
        return self.build.add(op, [self.x], attrs, self.name, held)

    def refuse(self, why: str) -> UserError:
        return UserError(f"{self.name}: {why}")

    @property
    def half(self) -> int | None:
        """The number that the first half of an operation has said, where the first operand is one."""
        found = self.reader.halves.get(self.node.input[0])
        return None if found is None else found[1]

    def first_half(self, operators: frozenset[str], number: int) -> int:
        """Note that one of these operators is to follow; the value itself."""
        self.reader.halves[self.node.output[0]] = operators, number
        return self.x

    def over_steps(self, axes: Any) -> bool:
        """Whether axes are that of the time steps alone, which is not kept."""
        of_time = axes == [0]
        return of_time and self.node.input[0] in self.reader.in_steps and not self.attrs.get("keepdims", 1)  # fmt: skip

    def window(self, kernel: Sequence[int]) -> dict[str, Attribute]:
        """Kernel, stride, padding and dilation of windows."""
        if self.attrs.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            raise self.refuse("it pads by itself (auto_pad)")
        return sizes(
            self.name, kernel=kernel, stride=tuple(self.attrs.get("strides", (1, 1))),
            padding=tuple(self.attrs.get("pads", (0, 0, 0, 0))),
            dilation=tuple(self.attrs.get("dilations", (1, 1))),
        )  # fmt: skip


def _conv(call: _Called) -> int:
    weight, bias = call.number(1), call.number(2)
    if weight is None:
        raise call.refuse("its weight is not stored")
    attrs: dict[str, Attribute] = {
        "width": int(weight.shape[0]),
        "groups": int(call.attrs.get("group", 1)),
        "bias": bias is not None,
        **call.window(weight.shape[2:]),
    }
    return call.add("conv", attrs, {"weight": weight, "bias": bias})


def _norm(call: _Called) -> int:
    names = ("weight", "bias", "running_mean", "running_var")
    held = {name: call.number(place) for place, name in enumerate(names, 1)}
    if any(item is None for item in held.values()):
        raise call.refuse("its numbers are not stored")
    eps = float(f"{float(call.attrs.get('epsilon', 1e-5)):.6g}")
    return call.add(*batchnorm(eps), held)


def _gemm(call: _Called) -> int:
    weight, bias = call.number(1), call.number(2)
    if weight is None or call.attrs.get("transA") or len(call.shape) != 1:
        raise call.refuse("a product of matrices that is no linear layer")
    weight = weight if call.attrs.get("transB") else weight.T.copy()
    weight = weight * np.float32(call.attrs.get("alpha", 1.0))
    if bias is not None:
        if bias.shape not in ((), (1,), weight.shape[:1]):
            raise call.refuse(f"a bias of {bias.shape} for {weight.shape[0]} channels")
        bias = np.broadcast_to(
            bias * np.float32(call.attrs.get("beta", 1.0)), weight.shape[:1]
        ).copy()
    attrs = {"width": int(weight.shape[0]), "bias": bias is not None}
    return call.add("linear", attrs, {"weight": weight, "bias": bias})


def _pool(op: str) -> Callable[[_Called], int]:
    def read(call: _Called) -> int:
        return pool(
            call.build, op, call.x, call.name, **call.window(call.attrs["kernel_shape"]),
            ceil_mode=call.attrs.get("ceil_mode"),
            counts_padding=call.attrs.get("count_include_pad"),
        )  # fmt: skip

    return read


def _global(call: _Called) -> int:
    return call.add("global_avgpool", {})


def _reduced(name: str) -> Callable[[_Called], int]:
    """A mean, sum or maximum over time steps, over the channels of each group, or over pixels."""

    def read(call: _Called) -> int:
        axes = call.whole_numbers(1) if len(call.node.input) > 1 else call.attrs.get("axes")
        axes = [] if axes is None else [*axes]
        keep = call.attrs.get("keepdims", 1)
        if call.half is not None:
            if axes != [2] or keep:
                raise call.refuse(f"a {name} that is not over the channels of each group")
            return call.add(f"{name}_over", {"over": "channels", "groups": call.half})
        if call.over_steps(axes):
            return call.add(f"{name}_over_time", {})
        over = _OVER.get(tuple(sorted(axis % (len(call.shape) + 1) for axis in axes)))
        if over == "pixels" and name == "mean":
            return average(call.build, call.x, call.name, keep=keep)
        if over is None or len(call.shape) != 3 or not keep:
            raise call.refuse(f"a {name} that is not over time steps, rows or columns")
        return call.add(f"{name}_over", {"over": over})

    return read


_OVER: Mapping[tuple[int, ...], str] = {(2,): "rows", (3,): "columns", (2, 3): "pixels"}


def _flatten(call: _Called) -> int:
    if call.attrs.get("axis", 1) != 1:
        raise call.refuse("a flatten of samples")
    return flatten(call.build, call.x, call.name)


def _reshape(call: _Called) -> int:
    wanted = call.whole_numbers(1)
    if not wanted:
        raise call.refuse("a change of shape to sizes that are not stored")
    steps, samples = call.build.steps, call.reader.samples
    if samples and wanted[0] == steps * samples:
        wanted[0] = -1
    elif samples and wanted[:2] == [steps, samples]:
        wanted[1] = -1
    flat = int(np.prod(call.shape))
    if len(wanted) == len(call.shape) + 2 and wanted[3:] == [*call.shape[1:]] and wanted[1] * wanted[2] == call.shape[0]:  # fmt: skip
        return call.first_half(_REDUCED, wanted[1])
    if wanted in ([steps, -1, *call.shape], [steps, -1, flat]):
        call.reader.in_steps.add(call.node.output[0])
        wanted = wanted[1:]
    if wanted == [-1, *call.shape]:
        return call.x
    if len(wanted) != 2 or wanted[1] not in (-1, flat):
        raise call.refuse(f"a change of shape to {wanted}")
    return flatten(call.build, call.x, call.name)


def _joined(op: str) -> Callable[[_Called], int]:
    def read(call: _Called) -> int:
        numbers = [call.number(place) for place in (0, 1)]
        for place in (0, 1):
            if (array := call.reader.of_steps.get(call.node.input[place])) is not None:
                values = [call.value(1 - place), _parameter(call, array, 1 - place, per_step=True)]
                return call.build.add(op, values[:: 1 if place else -1], {}, call.name)
        if all(item is None for item in numbers):
            return call.build.add(op, [call.value(0), call.value(1)], {}, call.name)
        place = 0 if numbers[0] is None else 1
        number = numbers[1 - place]
        if number is None:
            raise call.refuse(f"one operand of `{op}` is no value of the network")
        if number.size != 1:
            steps, rank = call.build.steps, len(call.build.shape_of(call.value(place)))
            if call.node.input[place] in call.reader.in_steps and number.shape[:2] == (steps, 1):
                number = number[:, 0]
            per_step = number.ndim == rank + 1 and number.shape[0] == steps > 1
            values = [call.value(place), _parameter(call, number, place, per_step=per_step)]
            return call.build.add(op, values if place == 0 else values[::-1], {}, call.name)
        value = written(float(number.reshape(-1)[0]))
        return with_number(call.build, op, call.value(place), value, call.name, first=place == 1)

    return read


def _extreme(op: str) -> Callable[[_Called], int]:
    return lambda call: call.build.add(
        op, [*map(call.value, range(len(call.node.input)))], {}, call.name
    )


def _parameter(call: _Called, numbers: Array, place: int, *, per_step: bool) -> int:
    """Numbers that an operand is joined with: one for each channel or neuron, [T, ...] ``per_step``."""
    joins = call.build.shape_of(call.value(place))
    shape = numbers.shape[1:] if per_step else numbers.shape
    while len(shape) > len(joins) and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != len(joins) or any(a not in (1, b) for a, b in zip(shape, joins, strict=True)):
        raise call.refuse(
            f"several numbers of shape {numbers.shape} for values of {joins}, which no learnt value has"
        )
    sizes_ = dict(zip(("channels", "height", "width"), shape, strict=False))
    attrs = {"init": written(float(numbers.reshape(-1)[0])), "per_step": per_step, **sizes_}
    held = {"weight": torch.tensor(numbers.reshape(numbers.shape[:1] * per_step + shape))}
    return call.build.add("parameter", [], attrs, call.name, held)


def _concat(call: _Called) -> int:
    if call.attrs["axis"] % (len(call.shape) + 1) != 1:
        raise call.refuse("concatenation along another axis than channels")
    values = [call.value(place) for place in range(len(call.node.input))]
    return concat(call.build, values, call.name)


def _same(call: _Called) -> int:
    return call.x


def _repeat(call: _Called) -> int:
    """An image at each time step: it is read so from the start. So is what all samples share."""
    times = call.whole_numbers(1)
    if times in ([-1, *call.shape], [-1, *[1] * len(call.shape)]):
        return call.x
    in_steps = call.node.input[0] in call.reader.in_steps
    wanted = [[count, *[1] * (len(call.shape) + in_steps)] for count in (call.build.steps, 1)]
    if times not in wanted[: 1 + in_steps]:
        raise call.refuse("a repetition that is not over time steps")
    if in_steps:
        call.reader.in_steps.add(call.node.output[0])
    return call.x


def _step(call: _Called) -> int:
    """An image as a sequence of one step, which is repeated then."""
    if call.whole_numbers(1) != [0]:
        raise call.refuse("a dimension that is not that of time steps")
    call.reader.in_steps.add(call.node.output[0])
    return call.x


def _padded(call: _Called) -> int:
    """The first half of a delay: steps of 0 before the first one."""
    match call.whole_numbers(1):
        case [steps, 0] if steps > 0 and call.whole_numbers(3) == [0]:
            if call.node.input[0] in call.reader.in_steps:
                return call.first_half(frozenset({"Slice"}), steps)
    raise call.refuse("a border that is not of steps before the first one")


def _sliced(call: _Called) -> int:
    """The other half: without as many of the last steps."""
    steps = call.half
    if steps is None or [call.whole_numbers(place) for place in (1, 2, 3)] != [[0], [-steps], [0]]:
        raise call.refuse("a part of a value that is no delay over time steps")
    return call.add("delay", {"steps": steps})


def _function(op: str) -> Callable[[_Called], int]:
    return lambda call: call.add(op, {})


FORMS: Mapping[str, Callable[[_Called], int]] = {
    "Conv": _conv,
    "BatchNormalization": _norm,
    "Gemm": _gemm,
    "MatMul": _gemm,
    "MaxPool": _pool("maxpool"),
    "AveragePool": _pool("avgpool"),
    "GlobalAveragePool": _global,
    "ReduceMean": _reduced("mean"),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Add": _joined("add"),
    "Sub": _joined("sub"),
    "Mul": _joined("mul"),
    "Max": _extreme("maximum"),
    "Min": _extreme("minimum"),
    "Concat": _concat,
    "Relu": _function("relu"),
    "Sigmoid": _function("sigmoid"),
    "Tanh": _function("tanh"),
    "ReduceSum": _reduced("sum"),
    "ReduceMax": _reduced("max"),
    "Pad": _padded,
    "Slice": _sliced,
    "Tile": _repeat,
    "Expand": _repeat,
    "Unsqueeze": _step,
    "Identity": _same,
    "Dropout": _same,
}
"""Operators of ONNX that are read."""
