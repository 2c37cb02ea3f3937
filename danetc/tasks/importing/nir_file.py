"""A graph of NIR (Pedersen et al., Nature Communications 2024) as danetc's operations.

Several edges into a node are a sum. Time steps are ``dt`` seconds (the file's, else 1e-4), and neurons
are taken by forward Euler steps of that length, as SpikingJelly and ``danetc export`` write them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import CycleError
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from danetc.compiler.ir.graph import Attribute
from danetc.errors import UserError
from danetc.tasks.extras import check_installed
from danetc.tasks.importing.acceptance import Runner, Weights
from danetc.tasks.importing.known_neurons import SURROGATE, program
from danetc.tasks.importing.layers import flatten, pool, sizes
from danetc.tasks.importing.source import STEPS, ReadNetwork, SourceBuilder, opened
from danetc.tasks.nir_steps import NirProgram, nir_program

Array: TypeAlias = "np.ndarray[Any, Any]"


def read_nir(path: Path, name: str, steps: int | None, events: bool) -> tuple[ReadNetwork, Runner]:
    """The network of a file of NIR, and what runs it. Raises UserError."""
    check_installed("a .nir file", ["nir"], "nir")
    import nir

    graph = opened(path, "NIR", nir.read)
    try:
        made = nir_program(graph)
    except CycleError as error:
        raise UserError(
            f"{path}: {' -> '.join(error.args[1])} is a loop over time, which is not imported"
        ) from error
    found = steps if steps is not None else int((graph.metadata or {}).get("steps", STEPS))
    inputs = [node for node in made.order if type(graph.nodes[node]).__name__ == "Input"]
    outputs = [node for node in made.order if type(graph.nodes[node]).__name__ == "Output"]
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(
            f"{path}: {len(inputs)} inputs and {len(outputs)} outputs; one of each is read"
        )
    shape = next(iter(graph.nodes[inputs[0]].input_type.values()))
    build = SourceBuilder(found, tuple(int(size) for size in shape), events)
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
        return read(self, node, x, name)

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
    single: bool = False

    def run(self, inputs: Tensor) -> Tensor:
        graph = self.source.graph
        each = inputs if graph.input.value.varies else [inputs] * graph.steps
        return torch.stack([values[self.exit] for values in self.program.run(self.entry, each)])

    def weights(self) -> Weights:
        return self.source.weights

    def varied(self, seed: int, inputs: Tensor) -> None:
        """The weights of a file stay as they are."""
