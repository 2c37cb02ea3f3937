"""A file of NIR as danetc's operations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from danetc.errors import UserError, check_installed
from danetc.tasks.importing.acceptance import Runner
from danetc.tasks.importing.known_neurons import SURROGATE, program
from danetc.tasks.importing.operations import (
    CallSite,
    ReadValue,
    StoredTensor,
    avg_pool2d,
    conv2d,
    linear,
    vector,
)
from danetc.tasks.importing.source import STEPS, ReadNetwork, SourceBuilder
from danetc.tasks.nir_graphs import NirNode, read_graph


def read_nir(path: Path, name: str, steps: int | None, events: bool) -> tuple[ReadNetwork, Runner]:
    """Return the network of a file of NIR, and its runner. Raises UserError."""
    check_installed("a .nir file", ["nir"], "nir")
    try:
        graph = read_graph(str(path))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except Exception as error:  # HDF5 may raise anything for a damaged file
        raise UserError(f"{path} cannot be read as NIR: {error}") from error
    shape = graph.nodes[graph.entry].fields["shape"]
    if len(shape) not in (1, 3):
        raise UserError(
            f"{graph.entry}: its shape is {[*shape]}; (channels, height, width) and (features,) are read"
        )
    build = SourceBuilder(steps or graph.steps or STEPS, shape, events)
    values = {graph.entry: ReadValue(build.entry)}
    readers = Counter(item for taken in graph.sources.values() for item in taken)
    for node in graph.order:
        sources = graph.sources[node]
        if node == graph.entry:
            continue
        if not sources:
            raise UserError(f"{node}: nothing is connected to it")
        x, alone = values[sources[0]], len(sources) == 1 and readers[sources[0]] == 1
        if len(sources) > 1:
            x = ReadValue(build.add("add", [values[item].node for item in sources], {}, node))
        values[node] = _Node(CallSite(build, node), graph.nodes[node], graph.dt, alone).read(x)
    source = build.finished(name, values[graph.exit].node)
    frames = source.graph.input.value.varies

    def run(inputs: Tensor) -> Tensor:
        return graph.run(inputs if frames else [inputs] * source.graph.steps)

    return source, Runner(run, source.weights)


@dataclass(frozen=True)
class _Node:
    """A node to read; it is the only reader of its input if ``alone``."""

    call: CallSite
    node: NirNode
    dt: float
    alone: bool

    def read(self, x: ReadValue) -> ReadValue:
        call, fields = self.call, self.node.fields
        self._check(call.shape(x))
        match self.node.kind:
            case "Conv2d":
                others = (fields[key] for key in ("stride", "padding", "dilation", "groups"))
                return conv2d(call, x, *self._weights(), *others)
            case "Affine" | "Linear":
                return linear(call, x, *self._weights())
            case "AvgPool2d":
                if fields["kernel_size"] == call.shape(x)[1:] and not any(fields["padding"]):
                    return call.add("global_avgpool", x)
                return avg_pool2d(call, x, *fields.values())
            case "Flatten":
                return vector(call, x)
            case "Output":
                return x
        return self._neuron(x)

    def _check(self, shape: tuple[int, ...]) -> None:
        """Raise UserError if an array does not have the shape that the node needs."""
        fields = self.node.fields
        for field, array in fields.items():
            if not isinstance(array, np.ndarray):
                continue
            match field:
                case "weight":
                    fits = array.ndim == (4 if len(shape) == 3 else 2)
                    fits = fits and array.shape[1] * fields.get("groups", 1) == shape[0]
                case "bias":
                    fits = array.shape == fields["weight"].shape[:1]
                case _:
                    fits = array.size == 1 or array.shape == shape
            if not fits:
                raise self.call.refuse(
                    f"its {field} has the shape {array.shape}, which does not fit its input, {shape}"
                )

    def _weights(self) -> tuple[StoredTensor, StoredTensor | None]:
        """Return the weight and the bias, None if it is 0 everywhere."""
        bias = self.node.fields.get("bias")
        biased = bias is not None and bias.any()
        weight = StoredTensor(torch.tensor(self.node.fields["weight"]))
        return weight, StoredTensor(torch.tensor(bias)) if biased else None

    def _neuron(self, x: ReadValue) -> ReadValue:
        given: dict[str, float | bool] = {}
        factor = self._number("r")
        if self.node.kind == "IF":
            factor *= self.dt
        else:
            given["tau"] = float(f"{self._number('tau') / self.dt:.6g}")
        if self.node.kind != "LI":
            reset = self._number("v_reset") if "v_reset" in self.node.fields else 0.0
            given |= {"v_threshold": self._number("v_threshold"), "v_rest": reset}
        if self.node.kind != "IF" and self._number("v_leak") != given.get("v_rest", 0.0):
            raise self.call.refuse(
                "it decays to another potential than it is reset to (without one, 0)"
            )
        name = "readout" if self.node.kind == "LI" else self.node.kind
        made = program(name, given, None if name == "readout" else SURROGATE, {})
        x = self._scaled(x, float(f"{factor:.7g}"))
        return ReadValue(self.call.build.neuron(made, x.node, self.call.path))

    def _number(self, field: str) -> float:
        """Return the one number that a field has for all neurons of a layer."""
        array = self.node.fields[field]
        if not np.allclose(array, array.flat[0], rtol=1e-6):
            name = field.removeprefix("v_") if field != "v_leak" else field
            raise self.call.refuse(f"its {name} differs from neuron to neuron")
        return float(f"{float(array.flat[0]):.7g}")

    def _scaled(self, x: ReadValue, factor: float) -> ReadValue:
        """Return a neuron's input times a factor, which goes into the weights before it if it can."""
        build = self.call.build
        if factor == 1:
            return x
        if self.alone and x.node in build.weights:
            held = build.weights[x.node]
            build.weights[x.node] = {key: value * factor for key, value in held.items()}
            return x
        return self.call.add("affine", x, {"factor": factor, "offset": 0.0})
