"""A graph of NIR (Pedersen et al., Nature Communications 2024) as danetc's operations.

Several edges into a node are a sum. Time steps are ``dt`` seconds (the file's, else 1e-4), and neurons
are taken by forward Euler steps of that length, as SpikingJelly and ``danetc export`` write them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from danetc.arguments import MOST_STEPS
from danetc.compiler.ir.graph import Attribute
from danetc.errors import UserError
from danetc.tasks.extras import check_installed
from danetc.tasks.importing.acceptance import Runner, Weights
from danetc.tasks.importing.known_neurons import SURROGATE, program
from danetc.tasks.importing.layers import flatten, pool, sizes
from danetc.tasks.importing.source import STEPS, ReadNetwork, SourceBuilder, opened
from danetc.tasks.nir_steps import NirProgram, nir_program

Array: TypeAlias = "np.ndarray[Any, Any]"

MOST_SIZE = 65_536
"""Largest size of a map or a layer that a spec can have."""
ARRAYS = frozenset(("weight", "bias", "r", "tau", "v_leak", "v_reset", "v_threshold"))
"""Parameters of NIR that are real numbers."""
SIZES = {
    **dict.fromkeys(("groups", "stride", "dilation", "kernel_size", "shape", "input_shape"), 1),
    **dict.fromkeys(("input_type", "padding", "start_dim"), 0),
    "end_dim": -1,
}
"""Parameters of NIR that are whole numbers, each with its least value."""
PAIRS = ("stride", "padding", "dilation", "kernel_size", "input_shape")
"""Those that may have a number for each direction."""
FIELDS: Mapping[str, Sequence[str]] = {
    "Input": ["shape"],
    "Output": ["shape"],
    "Conv2d": ["weight", "bias", "stride", "padding", "dilation", "groups"],
    "Affine": ["weight", "bias"],
    "Linear": ["weight"],
    "AvgPool2d": ["kernel_size", "stride", "padding"],
    "IF": ["r", "v_threshold"],
    "LIF": ["tau", "r", "v_leak", "v_threshold"],
    "LI": ["tau", "r", "v_leak"],
}
"""Parameters that a node of NIR must have."""


def read_nir(path: Path, name: str, steps: int | None, events: bool) -> tuple[ReadNetwork, Runner]:
    """The network of a file of NIR, and what runs it. Raises UserError."""
    check_installed("a .nir file", ["nir"], "nir")
    from danetc.compiler.emit.nir import DT

    graph = opened(path, "NIR", _read)
    known = graph.metadata or {}
    dt = _number(known.get("dt", DT), "metadata", "dt")
    if not dt > 0:
        raise UserError(f"metadata: its dt is {dt:g}; the seconds of a time step are above 0")
    graph.metadata = {**known, "dt": dt}
    if steps is None:
        steps = _whole(known.get("steps", STEPS), "metadata", "steps", 1, MOST_STEPS)
    try:
        made = nir_program(graph)
    except CycleError as error:
        raise UserError(
            f"{' -> '.join(error.args[1])} is a loop over time, which is not imported"
        ) from error
    inputs = [node for node in made.order if type(graph.nodes[node]).__name__ == "Input"]
    outputs = [node for node in made.order if type(graph.nodes[node]).__name__ == "Output"]
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(f"{len(inputs)} inputs and {len(outputs)} outputs; one of each is read")
    given = np.atleast_1d(next(iter(graph.nodes[inputs[0]].input_type.values())))
    if given.shape not in ((1,), (3,)):
        raise UserError(
            f"{inputs[0]}: its shape is {given.tolist()}; (channels, height, width) and (features,) "
            "are read"
        )
    shape = tuple(_whole(size, inputs[0], "shape", 1, MOST_SIZE) for size in given)
    build = SourceBuilder(steps, shape, events)
    values: dict[str, int] = {inputs[0]: build.entry}
    readers = Counter(item for taken in made.sources.values() for item in taken)
    reader = _Reader(build, made.dt)
    for node in made.order:
        if node in values:
            continue
        taken = [values[item] for item in made.sources[node]]
        if not taken:
            raise UserError(f"{node}: nothing is connected to it")
        x = taken[0] if len(taken) == 1 else build.add("add", taken, {}, node)
        if len(taken) == 1 and readers[made.sources[node][0]] == 1:
            reader.alone.add(x)
        values[node] = reader.read(graph.nodes[node], x, node)
    source = build.finished(name, values[outputs[0]])
    return source, NirRunner(source, made, inputs[0], outputs[0])


def _numbers(value: Any, name: str, field: str) -> Array:
    """Finite numbers as floats of this machine. Raises UserError."""
    array = np.asarray(value)
    if array.dtype.kind not in "buif" or array.size == 0:
        raise UserError(
            f"{name}: its {field} is an array of {array.dtype} of the shape {array.shape}, where "
            "numbers are read"
        )
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    array = array.astype(np.float32 if single else np.float64)
    if not np.isfinite(array).all():
        raise UserError(f"{name}: its {field} has values that are not finite")
    return array


def _number(value: Any, name: str, field: str) -> float:
    array = _numbers(value, name, field)
    if array.size != 1:
        raise UserError(f"{name}: its {field} is {array.size} numbers, where one is read")
    return float(array.item())


def _whole(value: Any, name: str, field: str, least: int, most: int) -> int:
    number = _number(value, name, field)
    if not (number.is_integer() and least <= number <= most):
        raise UserError(
            f"{name}: its {field} is {number:g}; whole numbers {least} to {most} are read"
        )
    return int(number)


def _read(path: str) -> Any:
    """The graph of a file, each field of its nodes checked before nir computes with it."""
    import h5py
    import nir

    with h5py.File(path, "r") as file:
        _refuse_elsewhere(file, set())
        for name, node in file["node/nodes"].items():
            if "type" not in node or h5py.check_string_dtype(node["type"].dtype) is None:
                raise UserError(f"{name}: it has no type")
            kind = node["type"].asstr()[()]
            for field in FIELDS.get(kind, ()):
                if field not in node:
                    raise UserError(f"{name}: it has no {field}")
            shapes = {}
            for field in node:
                if field in ARRAYS:
                    shapes[field] = _numbers(node[field][()], name, field).shape
                elif field in SIZES and not (field == "padding" and node[field].dtype.kind == "O"):
                    given = node[field][()]
                    for size in np.ravel(given):
                        _whole(size, name, field, SIZES[field], MOST_SIZE)
                    pair = (2,) if field in PAIRS else ()
                    if np.shape(given) not in ((), pair) and field not in ("shape", "input_type"):
                        raise UserError(f"{name}: its {field} has the shape {np.shape(given)}")
            rank = {"Conv2d": 4, "Affine": 2, "Linear": 2}.get(kind)
            if rank is not None and len(shapes["weight"]) != rank:
                raise UserError(f"{name}: its weight has the shape {shapes['weight']}")
            if rank is None and len({*shapes.values()}) > 1:
                each = ", ".join(f"{field} {shape}" for field, shape in shapes.items())
                raise UserError(f"{name}: its parameters differ in shape: {each}")
        edges = file["node"].get("edges")
        if edges is None:
            raise UserError("it has no edges")
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise UserError(f"edges: an array of {edges.shape}, where pairs of nodes are read")
    return nir.read(path)


def _refuse_elsewhere(group: Any, seen: set[int]) -> None:
    """Raise UserError where HDF5 would read anything of the file from another file."""
    import h5py

    for name in group:
        link, item = group.get(name, getlink=True), None
        if isinstance(link, h5py.HardLink):
            item = group[name]
        if isinstance(item, h5py.Group):
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:
                seen.add(address)
                _refuse_elsewhere(item, seen)
        elif item is None or (
            isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)
        ):
            raise UserError(f"{group.name}: {name} lies elsewhere (a link), which is not followed")


class _Reader:
    def __init__(self, build: SourceBuilder, dt: float) -> None:
        self.build = build
        self.dt = dt
        self.alone: set[int] = set()
        """Values that one node reads."""

    def read(self, node: Any, x: int, name: str) -> int:
        kind = type(node).__name__
        read = FORMS.get(kind)
        if read is None:
            raise UserError(f"{name}: a {kind} of NIR is not read; these are: {', '.join(FORMS)}")
        self._check(node, x, name)
        return read(self, node, x, name)

    def _check(self, node: Any, x: int, name: str) -> None:
        """Convert the parameters of a node to types that torch takes. Raises UserError where one has
        not the shape that the node needs."""
        shape = self.build.shape_of(x)
        for field in ARRAYS & vars(node).keys():
            array = _numbers(getattr(node, field), name, field)
            rows = node.weight.shape[:1] if hasattr(node, "weight") else ()
            match field:
                case "weight":
                    fits = array.ndim == (4 if len(shape) == 3 else 2)
                    fits = fits and array.shape[1] * getattr(node, "groups", 1) == shape[0]
                case "bias":
                    fits = array.shape == rows
                case _:
                    fits = array.size == 1 or array.shape == shape
            if not fits:
                raise UserError(
                    f"{name}: its {field} has the shape {array.shape}, which does not fit what the node "
                    f"reads, {shape}"
                )
            setattr(node, field, array)
        for field in ("groups", "stride", "padding", "dilation", "kernel_size"):
            value = getattr(node, field, None)
            if value is not None and not isinstance(value, str):
                setattr(
                    node, field, np.resize(value, 2).astype(int) if field in PAIRS else int(value)
                )

    def number(self, value: Any, name: str, what: str) -> float:
        """The one number that a parameter has for all neurons of a layer."""
        array = np.asarray(value, dtype=np.float64)
        if array.size == 0 or not np.allclose(array, array.flat[0], rtol=1e-6):
            raise UserError(f"{name}: its {what} differs from neuron to neuron")
        return float(f"{float(array.flat[0]):.7g}")

    def scaled(self, x: int, factor: float, name: str) -> int:
        """What a neuron takes, times a number; of a layer that it alone reads, the weights are."""
        factor = float(f"{factor:.7g}")
        if factor == 1:
            return x
        if x in self.alone and x in self.build.weights:
            held = self.build.weights[x]
            self.build.weights[x] = {key: value * factor for key, value in held.items()}
            return x
        return self.build.add("affine", [x], {"factor": factor, "offset": 0.0}, name)


def _layer(read: _Reader, node: Any, x: int, name: str, op: str, attrs: dict[str, Attribute]) -> int:  # fmt: skip
    """A layer of weights; a bias that is 0 everywhere is none."""
    bias = getattr(node, "bias", None)
    biased = bias is not None and bool(np.any(np.asarray(bias) != 0))
    weights = {"weight": torch.tensor(np.asarray(node.weight))}
    if biased:
        weights["bias"] = torch.tensor(np.asarray(bias))
    return read.build.add(op, [x], {**attrs, "bias": biased}, name, weights)


def _conv(read: _Reader, node: Any, x: int, name: str) -> int:
    width, _, *kernel = node.weight.shape
    if isinstance(node.padding, str):
        raise UserError(f"{name}: a padding of {node.padding!r} is not read")
    attrs: dict[str, Attribute] = {
        "width": width,
        **sizes(
            name, kernel=tuple(kernel), stride=_pair(node.stride), padding=_pair(node.padding),
            dilation=_pair(node.dilation),
        ),
        "groups": int(node.groups),
    }  # fmt: skip
    return _layer(read, node, x, name, "conv", attrs)


def _pair(value: Any) -> tuple[int, ...]:
    return tuple(int(item) for item in np.atleast_1d(value))


def _linear(read: _Reader, node: Any, x: int, name: str) -> int:
    if len(read.build.shape_of(x)) != 1:
        raise UserError(f"{name}: a matrix that is applied to a map")
    return _layer(read, node, x, name, "linear", {"width": int(node.weight.shape[0])})


def _avgpool(read: _Reader, node: Any, x: int, name: str) -> int:
    kernel, stride, padding = map(_pair, (node.kernel_size, node.stride, node.padding))
    if kernel == read.build.shape_of(x)[1:] and not any(padding):
        return read.build.add("global_avgpool", [x], {}, name)
    return pool(read.build, "avgpool", x, name, kernel, stride, padding)


def _flatten(read: _Reader, node: Any, x: int, name: str) -> int:
    return flatten(read.build, x, name)


def _fires(read: _Reader, node: Any, name: str) -> dict[str, float | bool]:
    reset = getattr(node, "v_reset", None)
    return {
        "v_threshold": read.number(node.v_threshold, name, "threshold"),
        "v_rest": 0.0 if reset is None else read.number(reset, name, "reset"),
    }


def _if(read: _Reader, node: Any, x: int, name: str) -> int:
    given = _fires(read, node, name)
    x = read.scaled(x, read.dt * read.number(node.r, name, "r"), name)
    return read.build.neuron(program("IF", given, SURROGATE, {}), x, name)


def _lif(read: _Reader, node: Any, x: int, name: str) -> int:
    given = _fires(read, node, name)
    if read.number(node.v_leak, name, "v_leak") != given["v_rest"]:
        raise UserError(f"{name}: it decays to another potential than it is reset to")
    tau = float(f"{read.number(node.tau, name, 'tau') / read.dt:.6g}")
    x = read.scaled(x, read.number(node.r, name, "r"), name)
    return read.build.neuron(program("LIF", {**given, "tau": tau}, SURROGATE, {}), x, name)


def _li(read: _Reader, node: Any, x: int, name: str) -> int:
    if read.number(node.v_leak, name, "v_leak") != 0:
        raise UserError(f"{name}: an integrator that decays to another potential than 0")
    tau = float(f"{read.number(node.tau, name, 'tau') / read.dt:.6g}")
    x = read.scaled(x, read.number(node.r, name, "r"), name)
    return read.build.neuron(program("readout", {"tau": tau}, None, {}), x, name)


FORMS: Mapping[str, Callable[[_Reader, Any, int, str], int]] = {
    "Conv2d": _conv,
    "Affine": _linear,
    "Linear": _linear,
    "AvgPool2d": _avgpool,
    "Flatten": _flatten,
    "IF": _if,
    "LIF": _lif,
    "LI": _li,
    "Output": lambda read, node, x, name: x,
}
"""Nodes of NIR that are read."""


@dataclass(frozen=True)
class NirRunner:
    """A graph of NIR by its equations, step by step."""

    source: ReadNetwork
    program: NirProgram
    entry: str
    exit: str

    def run(self, inputs: Tensor) -> Tensor:
        graph = self.source.graph
        each = inputs if graph.input.value.varies else [inputs] * graph.steps
        return torch.stack([values[self.exit] for values in self.program.run(self.entry, each)])

    def weights(self) -> Weights:
        return self.source.weights

    def varied(self, seed: int, inputs: Tensor) -> None:
        """The weights of a file stay as they are."""
