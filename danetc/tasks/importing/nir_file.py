"""A file of NIR (Pedersen et al., Nature Communications 2024) as danetc's operations.

Several edges into a node are a sum. Time steps are ``dt`` seconds, and neurons are integrated by forward
Euler steps of that length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from danetc.arguments import MOST_STEPS
from danetc.dsl.kinds import ANALOG, SPIKE
from danetc.errors import UserError, check_installed
from danetc.tasks.importing.known_neurons import one_number, program
from danetc.tasks.importing.operations import (
    STEPS,
    CallSite,
    ReadNetwork,
    ReadValue,
    SourceBuilder,
    StoredTensor,
    avg_pool2d,
    conv2d,
    linear,
    vector,
)

NEURONS: Mapping[str, Sequence[str]] = {
    "IF": ["r", "v_threshold"],
    "LIF": ["tau", "r", "v_leak", "v_threshold"],
    "LI": ["tau", "r", "v_leak"],
}
FIELDS: Mapping[str, Sequence[str]] = {
    "Input": ["shape"],
    "Output": [],
    "Conv2d": ["weight", "bias", "stride", "padding", "dilation", "groups"],
    "Affine": ["weight", "bias"],
    "Linear": ["weight"],
    "AvgPool2d": ["kernel_size", "stride", "padding"],
    "SumPool2d": ["kernel_size", "stride", "padding"],
    "Flatten": [],
    **NEURONS,
}
"""Required fields of each kind of node that is read."""
RANGES = {
    **dict.fromkeys(("groups", "stride", "dilation", "kernel_size", "shape"), (1, 65_536)),
    "padding": (0, 65_536),
    "steps": (1, MOST_STEPS),
}
"""Fields of whole numbers, and their ranges: the sizes that a spec can have. All others are real."""


def read_nir(file: Path | IO[bytes], name: str, steps: int | None, events: bool) -> ReadNetwork:
    """Return the network of a file of NIR. Raises UserError with the node and the field that is wrong."""
    check_installed("a .nir file", ["nir"], "nir")
    try:
        nodes, edges, dt, known = _contents(file)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}") from error
    except Exception as error:  # HDF5 may raise anything for a damaged file
        raise UserError(f"{file} cannot be read as NIR: {error}") from error
    loops = _loops(nodes, edges)
    order = _order(nodes, [edge for edge in edges if edge not in loops])
    shape = nodes[order[0]][1]["shape"]
    if len(shape) not in (1, 3):
        raise UserError(
            f"{order[0]}: its shape is {[*shape]}; (channels, height, width) and (features,) are read"
        )
    build = SourceBuilder(steps or known or STEPS, shape, events)
    values = {order[0]: build.value(build.entry)}
    readers = Counter(source for source, _ in edges)
    carried: dict[int, str] = {}
    for node in order[1:]:
        sources = [source for source, target in edges if target == node]
        inputs = [values[item].node for item in sources if (item, node) not in loops]
        if not inputs:
            raise UserError(f"{node} is not connected")
        for item in (item for item in sources if (item, node) in loops):
            spikes = nodes[item][0] in ("IF", "LIF")
            inputs.append(build.carry(inputs[0], SPIKE if spikes else ANALOG))
            carried[inputs[-1]] = item
        alone = len(sources) == 1 and readers[sources[0]] == 1
        x = build.value(inputs[0] if len(sources) == 1 else build.add("add", inputs, {}, node))
        call, (kind, fields) = CallSite(build, node), nodes[node]
        _check(call, fields, call.shape(x))
        if kind in NEURONS:
            values[node] = _neuron(call, kind, fields, x, dt, alone)
        else:
            values[node] = _layer(call, kind, fields, x)
    build.carries |= {id: values[item].node for id, item in carried.items()}
    (end,) = (node for node in order if nodes[node][0] == "Output")
    return build.finished(name, values[end].node)


Nodes = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Kinds of nodes and their fields by name; fields are arrays, sizes a number or a tuple."""


def _contents(file: Path | IO[bytes]) -> tuple[Nodes, list[tuple[str, str]], float, int | None]:
    """Return the nodes, the edges, the length of a time step and, if the file has it, their number."""
    import h5py

    from danetc.compiler.emit.nir import DT  # late: it needs nir

    with h5py.File(file, "r") as opened:
        _refuse_elsewhere(opened)
        graph = opened["node"]
        nodes = {name: _node(name, node) for name, node in graph["nodes"].items()}
        edges = [(str(a), str(b)) for a, b in graph["edges"][()].astype(str)]
        metadata = {key: item[()] for key, item in graph.get("metadata", {}).items()}
    dt = np.asarray(_field(metadata.get("dt", DT), "metadata", "dt"))
    steps = _field(metadata["steps"], "metadata", "steps") if "steps" in metadata else None
    if dt.size != 1 or not dt > 0:
        raise UserError(
            f"metadata: its dt is {dt.tolist()}; the seconds of a time step are above 0"
        )
    return nodes, edges, float(dt.item()), steps


def _loops(nodes: Nodes, edges: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the edges that close a circle in a sum before a neuron. They are read one step later, and
    are 0 at the first step, as in nirtorch."""
    import networkx

    targets = Counter(target for _, target in edges)
    joins = {name for name in nodes if targets[name] > 1 and nodes[name][0] in NEURONS}
    circles = networkx.strongly_connected_components(networkx.DiGraph(edges))
    return {(a, b) for circle in circles for a, b in edges if a in circle and b in circle & joins}


def _order(nodes: Nodes, edges: Sequence[tuple[str, str]]) -> list[str]:
    """Return the names of the nodes in an order in which they can run; the input is first."""
    sources: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        if source not in nodes or target not in nodes:
            raise UserError(f"edges: {source} -> {target} connects a node that does not exist")
        sources[target].append(source)
    inputs, outputs = (
        [name for name in nodes if nodes[name][0] == kind] for kind in ("Input", "Output")
    )
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(f"{len(inputs)} inputs and {len(outputs)} outputs; one of each is read")
    try:
        order = [*TopologicalSorter(sources).static_order()]
    except CycleError as error:
        raise UserError(
            f"{' -> '.join(error.args[1])} is a loop without a neuron that sums up its inputs, "
            "which is not imported"
        ) from error
    order.remove(inputs[0])
    return [inputs[0], *order]


def _node(name: str, node: Any) -> tuple[str, dict[str, Any]]:
    kind = node["type"][()] if "type" in node else None
    if not isinstance(kind, bytes):
        raise UserError(f"{name}: it has no type")
    kind = kind.decode()
    if kind not in FIELDS:
        raise UserError(f"{name}: a {kind} of NIR is not read; these are: {', '.join(FIELDS)}")
    if missing := [field for field in FIELDS[kind] if field not in node]:
        raise UserError(f"{name}: it has no {missing[0]}")
    fields = [field for field in (*FIELDS[kind], "v_reset") if field in node]
    return kind, {field: _field(node[field][()], name, field) for field in fields}


def _field(value: Any, name: str, field: str) -> Any:
    """Return a field as a finite array, or as a size or tuple of sizes. Raises UserError."""
    if field == "padding" and isinstance(value, bytes) and value in (b"same", b"valid"):
        return value.decode()
    array = np.asarray(value)
    if array.dtype.kind not in "buif" or not array.size or not np.isfinite(array).all():
        raise UserError(
            f"{name}: its {field} is an array of {array.dtype} of the shape {array.shape}, where "
            "finite numbers are read"
        )
    if field not in RANGES:
        single = array.dtype.kind == "f" and array.dtype.itemsize < 8
        return array.astype(np.float32 if single else np.float64)
    least, most = RANGES[field]
    if (array != array.round()).any() or array.min() < least or array.max() > most:
        raise UserError(
            f"{name}: its {field} is {array.tolist()}; whole numbers {least} to {most} are read"
        )
    sizes = tuple(map(int, array.flat))
    if field == "shape":
        return sizes
    scalar = field in ("groups", "steps")
    if array.shape not in ((), () if scalar else (2,)):
        raise UserError(f"{name}: its {field} has the shape {array.shape}")
    return sizes[0] if scalar else sizes * (2 // len(sizes))


def _refuse_elsewhere(file: Any) -> None:
    """Raise UserError if HDF5 would read part of the file from another file."""
    import h5py

    def outside(name: str, link: Any) -> str | None:
        item = file[name] if isinstance(link, h5py.HardLink) else None
        data = isinstance(item, h5py.Dataset)
        return name if item is None or (data and (item.external or item.is_virtual)) else None

    if (name := file.visititems_links(outside)) is not None:
        raise UserError(f"{name} lies elsewhere (a link), which is not followed")


def _layer(call: CallSite, kind: str, fields: Mapping[str, Any], x: ReadValue) -> ReadValue:
    """Read a node other than a neuron. A bias that is 0 everywhere is left out."""
    arrays = {key: fields[key] for key in ("weight", "bias") if key in fields}
    if "bias" in arrays and not arrays["bias"].any():
        del arrays["bias"]
    weights: Any = {key: StoredTensor(torch.tensor(array)) for key, array in arrays.items()}
    match kind:
        case "Conv2d":
            others = {key: fields[key] for key in ("stride", "padding", "dilation", "groups")}
            return conv2d(call, x, **weights, **others)
        case "Affine" | "Linear":
            return linear(call, x, **weights)
        case "SumPool2d":
            size = math.prod(fields["kernel_size"])
            pooled = avg_pool2d(call, x, *fields.values())
            return call.add("affine", pooled, {"factor": float(size), "offset": 0.0})
        case "AvgPool2d":
            if fields["kernel_size"] == call.shape(x)[1:] and not any(fields["padding"]):
                return call.add("global_avgpool", x)
            return avg_pool2d(call, x, *fields.values())
        case "Flatten":
            return vector(call, x)
    return x


def _neuron(
    call: CallSite, kind: str, fields: Mapping[str, Any], x: ReadValue, dt: float, alone: bool
) -> ReadValue:
    """Read a neuron. The factor of its input goes into the weights of the layer before it, if it ``alone``
    reads that layer."""
    numbers = {key: one_number(f"{call.path}: its {key}", value) for key, value in fields.items()}
    given: dict[str, float | bool] = {}
    factor = numbers["r"]
    if kind == "IF":
        factor *= dt
    else:
        given["tau"] = float(f"{numbers['tau'] / dt:.6g}")
    if kind != "LI":
        given |= {"v_threshold": numbers["v_threshold"], "v_rest": numbers.get("v_reset", 0.0)}
    if numbers.get("v_leak") not in (None, given.get("v_rest", 0.0)):
        raise call.refuse("it decays to another potential than it is reset to (without one, 0)")
    factor, build = float(f"{factor:.7g}"), call.build
    if factor != 1 and alone and x.node in build.weights:
        held = build.weights[x.node].items()
        scaled = {key: item.changed(lambda tensor: tensor * factor) for key, item in held}
        build.weights[x.node] = scaled
    elif factor != 1:
        x = call.add("affine", x, {"factor": factor, "offset": 0.0})
    # of the surrogate, which NIR does not store, only gradients depend
    made = program("readout" if kind == "LI" else kind, given)
    return call.add("neuron", x, build.neuron(made))


def _check(call: CallSite, fields: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Raise UserError if an array does not have the shape that the node needs."""
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
            raise call.refuse(
                f"its {field} has the shape {array.shape}, which does not fit its input, {shape}"
            )
