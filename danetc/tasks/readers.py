"""What reads the files of ``danetc export`` and runs them, so that they are compared with the model."""

from __future__ import annotations

import io
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from danetc.compiler.emit.names import attribute
from danetc.compiler.ir.graph import Graph
from danetc.tasks.export_content import Content


@dataclass(frozen=True, slots=True)
class Ran:
    """What a file gave for some inputs: its outputs, and what its layers of neurons gave, as far as
    it shows that, [T * N, ...] or [T, N, ...] by the paths of their nodes."""

    outputs: tuple[Tensor, ...]
    neurons: Mapping[str, Tensor] = field(default_factory=dict)


Run: TypeAlias = Callable[[Sequence[Tensor]], Ran]
Reader: TypeAlias = Callable[[bytes, Content], Run]


def standalone(text: str, name: str) -> nn.Module:
    """The network of the text of a model.py that danetc has written: nothing else is run."""
    module = types.ModuleType("model")
    exec(compile(text, f"{name}/model.py", "exec"), module.__dict__)
    made: nn.Module = module.Model().eval()
    return made


def _outputs(given: Any) -> tuple[Tensor, ...]:
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def program(data: bytes, content: Content) -> Run:
    """A program of torch.export."""
    loaded: Any = torch.export.load(io.BytesIO(data)).module()
    return lambda inputs: Ran(_outputs(loaded(*inputs)))


def source(data: bytes, content: Content) -> Run:
    """A file of SpikingJelly's modules, with the model's weights."""
    from spikingjelly.activation_based import base, functional

    made = standalone(data.decode(), content.graph.name)
    made.load_state_dict(content.model.state_dict())
    spikes: dict[str, Tensor] = {}

    def note(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda layer, given, y: spikes.update({path: y})

    paths = {
        ".".join(map(attribute, (*node.scope, node.name))): node.path
        for node in content.graph.nodes.values()
        if node.op == "neuron"
    }
    for name, module in made.named_modules():
        if isinstance(module, base.MemoryModule) and name in paths:
            module.register_forward_hook(note(paths[name]))

    def run(inputs: Sequence[Tensor]) -> Ran:
        functional.reset_net(made)
        return Ran(_outputs(made(*inputs)), dict(spikes))

    return run


# -- ONNX -----------------------------------------------------------------------------------------


def onnx(data: bytes, content: Content) -> Run:
    """A file of ONNX by onnxruntime; one of a single step is run T times."""
    import onnxruntime
    from onnx import ModelProto, helper

    made = ModelProto.FromString(data)
    graph, options = content.graph, content.options
    kind = 10 if options.half else 1
    shown = {name for node in made.graph.node for name in node.output}
    layers = [node.path for node in graph.nodes.values() if node.op == "neuron"]
    layers = [path for path in layers if path in shown]
    made.graph.output.extend(helper.make_tensor_value_info(path, kind, None) for path in layers)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.SerializeToString(), quiet)
    session_run = _once if options.time != "step" else _stepped

    def run(inputs: Sequence[Tensor]) -> Ran:
        arrays = [(x.half() if options.half else x).numpy() for x in inputs]
        found = session_run(session, graph, arrays, made)
        values = {name: torch.from_numpy(value).float() for name, value in found.items()}
        return Ran(
            tuple(values[name] for name in graph.outputs), {path: values[path] for path in layers}
        )

    return run


def _once(session: Any, graph: Graph, inputs: Sequence[Any], made: Any) -> dict[str, Any]:
    import numpy as np

    takes = [item.name for item in session.get_inputs()]
    given = dict(zip(takes, inputs, strict=False))
    if len(takes) > len(inputs):
        given[takes[-1]] = np.array([graph.steps])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


def _stepped(session: Any, graph: Graph, inputs: Sequence[Any], made: Any) -> dict[str, Any]:
    """T steps, each with what the one before remembers."""
    import numpy as np

    takes, notes = session.get_inputs(), {item.key: item.value for item in made.metadata_props}
    names = [item.name for item in session.get_outputs()]
    samples = inputs[0].shape[int(graph.inputs[0].value.varies)]
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
    memory = {
        item.name: np.full(
            [samples if part == "N" else part for part in item.shape],
            float(notes[f"start of {item.name}"]),
            types[item.type],
        )
        for item in takes[len(inputs) :]
    }
    steps: list[dict[str, Any]] = []
    for t in range(graph.steps):
        frames = {
            item.name: x[t] if node.value.varies else x
            for item, x, node in zip(takes, inputs, graph.inputs, strict=False)
        }
        found = dict(zip(names, session.run(None, frames | memory), strict=True))
        memory = {name: found.pop(f"{name}_next") for name in memory}
        steps.append(found)
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


# -- NIR ------------------------------------------------------------------------------------------


def nir(data: bytes, content: Content) -> Run:
    """A graph of NIR by its equations, in forward Euler steps; T steps, and their mean where the
    model gives that."""
    import nir as library

    made = library.read(io.BytesIO(data))
    graph = content.graph
    sources: dict[str, list[str]] = {name: [] for name in made.nodes}
    for source, target in made.edges:
        sources[target].append(source)
    order = _in_order(sources)
    layers = [node.path for node in graph.nodes.values() if node.op == "neuron"]
    (end,) = graph.outputs.values()

    def run(inputs: Sequence[Tensor]) -> Ran:
        (x,) = inputs
        potentials: dict[str, Tensor] = {}
        steps: list[dict[str, Tensor]] = []
        for t in range(graph.steps):
            values = {"input": x[t] if graph.input.value.varies else x}
            for name in order:
                if sources[name]:
                    taken = sum(values[source] for source in sources[name])
                    assert isinstance(taken, Tensor)
                    values[name] = nir_step(made.nodes[name], name, taken, potentials)
            steps.append(values)
        given = torch.stack([values["output"] for values in steps])
        spikes = {path: torch.stack([values[path] for values in steps]) for path in layers}
        return Ran((given if graph[end].value.varies else given.mean(0),), spikes)

    return run


def _in_order(sources: Mapping[str, Sequence[str]]) -> list[str]:
    from graphlib import TopologicalSorter

    return [*TopologicalSorter(sources).static_order()]


def nir_step(node: Any, name: str, x: Tensor, potentials: dict[str, Tensor]) -> Tensor:
    """What one node of NIR makes of one step's input."""
    functional = nn.functional

    def array(label: str) -> Tensor:
        return torch.from_numpy(getattr(node, label)).to(x)

    match type(node).__name__:
        case "Output":
            return x
        case "Flatten":
            return x.flatten(1)
        case "Affine":
            return functional.linear(x, array("weight"), array("bias"))
        case "Conv2d":
            stride, padding, dilation = (
                [int(size) for size in getattr(node, label)]
                for label in ("stride", "padding", "dilation")
            )
            weight, bias = array("weight"), array("bias")
            return functional.conv2d(x, weight, bias, stride, padding, dilation, int(node.groups))
        case "AvgPool2d":
            sizes = (getattr(node, label).tolist() for label in ("kernel_size", "stride", "padding"))  # fmt: skip
            return functional.avg_pool2d(x, *sizes)
        case "IF" | "LIF" | "LI":
            from danetc.compiler.emit.nir import DT

            v = potentials.get(name, torch.zeros_like(x))
            if "v_reset" in vars(node) and name not in potentials:
                v = v + array("v_reset")
            change = array("r") * x
            if hasattr(node, "tau"):
                # in the precision of the file: DT / tau is a ratio of small numbers
                ratio = torch.from_numpy(DT / node.tau).to(x)
                v = v + ratio * (array("v_leak") - v + change)
            else:
                v = v + torch.from_numpy(DT * node.r).to(x) * x
            if not hasattr(node, "v_threshold"):
                potentials[name] = v
                return v
            s = (v >= array("v_threshold")).to(x)
            potentials[name] = torch.where(s > 0, array("v_reset"), v)
            return s
        case kind:
            raise ValueError(f"{name}: no reader for {kind}")


READERS: Mapping[str, Reader] = {"program": program, "onnx": onnx, "nir": nir, "source": source}
