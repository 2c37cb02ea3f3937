"""Graphs of NIR (Pedersen et al., Nature Communications 2024): read from files, and run.

Several edges into a node are a sum. Time steps are ``dt`` seconds, and neurons are integrated by forward
Euler steps of that length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from graphlib import CycleError, TopologicalSorter
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from danetc.arguments import MOST_STEPS
from danetc.errors import UserError

MOST_SIZE = 65_536
"""Largest size of a map or a layer that a spec can have."""
FIELDS: Mapping[str, Sequence[str]] = {
    "Input": ["shape"],
    "Output": [],
    "Conv2d": ["weight", "bias", "stride", "padding", "dilation", "groups"],
    "Affine": ["weight", "bias"],
    "Linear": ["weight"],
    "AvgPool2d": ["kernel_size", "stride", "padding"],
    "Flatten": [],
    "IF": ["r", "v_threshold"],
    "LIF": ["tau", "r", "v_leak", "v_threshold"],
    "LI": ["tau", "r", "v_leak"],
}
"""Required fields of each kind of node that is read."""
SIZES = {**dict.fromkeys(("groups", "stride", "dilation", "kernel_size", "shape"), 1), "padding": 0}
"""Fields of whole numbers, and the least of each. All others are real."""


@dataclass(frozen=True)
class NirNode:
    """A node of NIR; fields are arrays, sizes a number or a tuple."""

    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class NirGraph:
    """A graph of one input, ``entry``, and one output, ``exit``.

    ``sources`` are the nodes that each node reads; ``order`` is one in which they can run. ``steps`` is
    None if the file does not state a number of time steps.
    """

    nodes: Mapping[str, NirNode]
    sources: Mapping[str, Sequence[str]]
    order: Sequence[str]
    entry: str
    exit: str
    dt: float
    steps: int | None

    def run(self, frames: Iterable[Tensor]) -> Tensor:
        """Return the outputs [T, N, ...] for the inputs [N, ...] of each step."""
        potentials: dict[str, Tensor] = {}
        outputs = []
        for x in frames:
            values = {self.entry: x}
            for name in self.order:
                if self.sources[name]:
                    taken = reduce(torch.add, (values[source] for source in self.sources[name]))
                    values[name] = self._step(name, taken, potentials)
            outputs.append(values[self.exit])
        return torch.stack(outputs)

    def _step(self, name: str, x: Tensor, potentials: dict[str, Tensor]) -> Tensor:
        node, functional = self.nodes[name], nn.functional
        fields: dict[str, Any] = {
            key: torch.from_numpy(value).to(x) if isinstance(value, np.ndarray) else value
            for key, value in node.fields.items()
        }
        match node.kind:
            case "Output":
                return x
            case "Flatten":
                return x.flatten(1)
            case "Affine" | "Linear":
                return functional.linear(x, fields["weight"], fields.get("bias"))
            case "Conv2d":
                return functional.conv2d(x, *(fields[key] for key in FIELDS["Conv2d"]))
            case "AvgPool2d":
                return functional.avg_pool2d(x, *(fields[key] for key in FIELDS["AvgPool2d"]))
        reset: Tensor = fields.get("v_reset", torch.zeros_like(x))
        v = potentials.get(name, torch.zeros_like(x) + reset)
        if "tau" in fields:  # dt / tau in the precision of the file: a ratio of small numbers
            ratio = torch.from_numpy(self.dt / node.fields["tau"]).to(x)
            v = v + ratio * (fields["v_leak"] - v + fields["r"] * x)
        else:
            v = v + torch.from_numpy(self.dt * node.fields["r"]).to(x) * x
        if "v_threshold" not in fields:
            potentials[name] = v
            return v
        fires: Tensor = v >= fields["v_threshold"]
        potentials[name] = torch.where(fires, reset, v)
        return fires.to(x)


def read_graph(file: str | IO[bytes]) -> NirGraph:
    """Read a file of NIR. Raises UserError with the node and the field that is wrong."""
    import h5py

    from danetc.compiler.emit.nir import DT  # late: it needs nir

    with h5py.File(file, "r") as opened:
        _refuse_elsewhere(opened)
        graph = opened["node"]
        nodes = {name: _node(name, node) for name, node in graph["nodes"].items()}
        if "edges" not in graph:
            raise UserError("it has no edges")
        edges = graph["edges"][()]
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise UserError(f"edges: an array of {edges.shape}, where pairs of nodes are read")
        known = {key: item[()] for key, item in graph.get("metadata", {}).items() if key in {"dt", "steps"}}  # fmt: skip
    dt = _number(known.get("dt", DT), "metadata", "dt")
    if not dt > 0:
        raise UserError(f"metadata: its dt is {dt:g}; the seconds of a time step are above 0")
    steps = None
    if "steps" in known:
        steps = _whole(known["steps"], "metadata", "steps", 1, MOST_STEPS)
    sources: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges.astype(str):
        if source not in nodes or target not in nodes:
            raise UserError(f"edges: {source} -> {target} connects a node that is not there")
        sources[target].append(source)
    try:
        order = [*TopologicalSorter(sources).static_order()]
    except CycleError as error:
        raise UserError(
            f"{' -> '.join(error.args[1])} is a loop over time, which is not imported"
        ) from error
    inputs, outputs = (
        [name for name in order if nodes[name].kind == kind] for kind in ("Input", "Output")
    )
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(f"{len(inputs)} inputs and {len(outputs)} outputs; one of each is read")
    return NirGraph(nodes, sources, order, inputs[0], outputs[0], dt, steps)


def _node(name: str, node: Any) -> NirNode:
    import h5py

    if "type" not in node or h5py.check_string_dtype(node["type"].dtype) is None:
        raise UserError(f"{name}: it has no type")
    kind = node["type"].asstr()[()]
    if kind not in FIELDS:
        raise UserError(f"{name}: a {kind} of NIR is not read; these are: {', '.join(FIELDS)}")
    fields = {}
    for field in (*FIELDS[kind], "v_reset"):
        if field in node:
            fields[field] = _field(node[field][()], name, field)
        elif field != "v_reset":
            raise UserError(f"{name}: it has no {field}")
    return NirNode(kind, fields)


def _field(value: Any, name: str, field: str) -> Any:
    """Return a field as a finite array, or as a size or tuple of sizes. Raises UserError."""
    if field not in SIZES:
        return _numbers(value, name, field)
    if field == "padding" and isinstance(value, bytes) and value in (b"same", b"valid"):
        return value.decode()
    sizes = tuple(_whole(size, name, field, SIZES[field], MOST_SIZE) for size in np.ravel(value))
    if field == "shape":
        return sizes
    if np.shape(value) != () and (np.shape(value) != (2,) or field == "groups"):
        raise UserError(f"{name}: its {field} has the shape {np.shape(value)}")
    return sizes[0] if field == "groups" else sizes * (2 // len(sizes))


def _numbers(value: Any, name: str, field: str) -> np.ndarray[Any, Any]:
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


def _refuse_elsewhere(file: Any) -> None:
    """Raise UserError if HDF5 would read part of the file from another file."""
    import h5py

    def outside(name: str, link: Any) -> str | None:
        item = file[name] if isinstance(link, h5py.HardLink) else None
        data = isinstance(item, h5py.Dataset)
        return name if item is None or (data and (item.external or item.is_virtual)) else None

    if (name := file.visititems_links(outside)) is not None:
        raise UserError(f"{name} lies elsewhere (a link), which is not followed")
