"""A file of ONNX as danetc's operations: networks without states, as PyTorch exports them.

Operators on samples are read; a spiking network in ONNX is a program of T steps, or a loop, whose
neurons are no operators any more, and is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from danetc.compiler.ir.graph import Attribute
from danetc.errors import UserError
from danetc.tasks.extras import check_installed
from danetc.tasks.importing.acceptance import Runner, Weights
from danetc.tasks.importing.layers import (
    average,
    batchnorm,
    concat,
    flatten,
    pool,
    sizes,
    with_number,
)
from danetc.tasks.importing.source import ReadNetwork, SourceBuilder
from danetc.tasks.importing.torch_model import activations_as_neurons

Array: TypeAlias = "np.ndarray[Any, Any]"


def read_onnx(path: Path, name: str, steps: int | None, events: bool) -> tuple[ReadNetwork, Runner]:
    """The network of a file of ONNX, and what runs it. Raises UserError."""
    check_installed("a .onnx file", ["onnx", "onnxruntime"], "onnx")
    import onnx

    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except Exception as error:
        raise UserError(f"{path} cannot be read as ONNX: {error}") from error
    graph = model.graph
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    taken = [item for item in graph.input if item.name not in stored]
    if len(taken) != 1 or len(graph.output) != 1:
        raise UserError(
            f"{path}: {len(taken)} inputs and {len(graph.output)} outputs; one of each is read"
        )
    sizes = [item.dim_value for item in taken[0].type.tensor_type.shape.dim]
    if len(sizes) not in (2, 4) or not all(sizes[1:]):
        raise UserError(
            f"{path}: its input is {sizes}, and a network of samples [N, C, H, W] with a fixed size "
            "is read; one with time steps is not"
        )
    build = SourceBuilder(steps or 1, tuple(sizes[1:]), events)
    reader = _Reader(build, dict(stored))
    reader.values[taken[0].name] = build.entry
    for number, node in enumerate(graph.node):
        reader.read(node, node.name or f"{node.op_type} {number}")
    output = graph.output[0].name
    if output not in reader.values:
        raise UserError(f"{path}: its output does not depend on its input")
    source = activations_as_neurons(build.finished(name, reader.values[output], each_step=False))
    return source, OnnxRunner(source, model.SerializeToString(), taken[0].name)


class _Reader:
    """Values that are made of samples by their names, and numbers that are stored."""

    def __init__(self, build: SourceBuilder, stored: dict[str, Array]) -> None:
        self.build = build
        self.stored = stored
        self.values: dict[str, int] = {}

    def read(self, node: Any, name: str) -> None:
        import onnx

        attrs = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Constant":
            self.stored[node.output[0]] = onnx.numpy_helper.to_array(attrs["value"])
            return
        read = FORMS.get(node.op_type)
        if read is None:
            raise UserError(
                f"{name}: the operator {node.op_type} is not read; these are: {', '.join(FORMS)}. "
                "Spiking networks are imported from their PyTorch model, or from NIR"
            )
        self.values[node.output[0]] = read(_Called(self, node, attrs, name))


@dataclass(frozen=True)
class _Called:
    reader: _Reader
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

    def add(self, op: str, attrs: Mapping[str, Attribute], weights: Mapping[str, Array | None] | None = None) -> int:  # fmt: skip
        held = {
            key: torch.tensor(item) for key, item in (weights or {}).items() if item is not None
        }
        return self.build.add(op, [self.x], attrs, self.name, held)

    def refuse(self, why: str) -> UserError:
        return UserError(f"{self.name}: {why}")

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
    weights = {name: torch.tensor(item) for name, item in held.items()}
    return batchnorm(call.build, call.x, call.name, eps, weights)


def _gemm(call: _Called) -> int:
    weight, bias = call.number(1), call.number(2)
    if weight is None or call.attrs.get("transA") or len(call.shape) != 1:
        raise call.refuse("a product of matrices that is no linear layer")
    weight = weight if call.attrs.get("transB") else weight.T.copy()
    weight = weight * np.float32(call.attrs.get("alpha", 1.0))
    if bias is not None:
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


def _mean(call: _Called) -> int:
    axes = call.number(1) if len(call.node.input) > 1 else call.attrs.get("axes")
    if axes is None or {int(axis) % 4 for axis in axes} != {2, 3} or len(call.shape) != 3:
        raise call.refuse("a mean that is not over rows and columns")
    return average(call.build, call.x, call.name, keep=call.attrs.get("keepdims", 1))


def _flatten(call: _Called) -> int:
    if call.attrs.get("axis", 1) != 1:
        raise call.refuse("a flatten of samples")
    return flatten(call.build, call.x, call.name)


def _reshape(call: _Called) -> int:
    size = call.number(1)
    wanted = None if size is None else [int(item) for item in size]
    flat = int(np.prod(call.shape))
    if wanted is None or len(wanted) != 2 or wanted[1] not in (-1, flat):
        raise call.refuse(f"a change of shape to {wanted}")
    return flatten(call.build, call.x, call.name)


def _joined(op: str) -> Callable[[_Called], int]:
    def read(call: _Called) -> int:
        numbers = [call.number(place) for place in (0, 1)]
        if all(item is None for item in numbers):
            return call.build.add(op, [call.value(0), call.value(1)], {}, call.name)
        place = 0 if numbers[0] is None else 1
        number = numbers[1 - place]
        if number is None or number.size != 1:
            raise call.refuse(f"`{op}` with several numbers")
        value = float(number.reshape(-1)[0])
        return with_number(call.build, op, call.value(place), value, call.name, first=place == 1)

    return read


def _concat(call: _Called) -> int:
    if call.attrs["axis"] % (len(call.shape) + 1) != 1:
        raise call.refuse("concatenation along another axis than channels")
    values = [call.value(place) for place in range(len(call.node.input))]
    return concat(call.build, values, call.name)


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
    "ReduceMean": _mean,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Add": _joined("add"),
    "Sub": _joined("sub"),
    "Mul": _joined("mul"),
    "Concat": _concat,
    "Relu": _function("relu"),
    "Sigmoid": _function("sigmoid"),
    "Tanh": _function("tanh"),
    "Identity": lambda call: call.x,
    "Dropout": lambda call: call.x,
}
"""Operators of ONNX that are read."""


@dataclass(frozen=True)
class OnnxRunner:
    """A file of ONNX by onnxruntime, which computes in float32."""

    source: ReadNetwork
    data: bytes
    entry: str
    single: bool = True

    def run(self, inputs: Tensor) -> Tensor:
        import onnxruntime

        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 3
        quiet.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(self.data, quiet)
        sized = session.get_inputs()[0].shape[0]
        samples = inputs.float().numpy()
        parts: Sequence[Array] = (
            np.split(samples, len(samples) // sized) if isinstance(sized, int) else [samples]
        )
        found = [session.run(None, {self.entry: part})[0] for part in parts]
        return torch.from_numpy(np.concatenate(found)).double()

    def weights(self) -> Weights:
        return self.source.weights

    def varied(self, seed: int, inputs: Tensor) -> None:
        """The weights of a file stay as they are."""
