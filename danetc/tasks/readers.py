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
from danetc.tasks.nir_steps import nir_program


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

    program = nir_program(library.read(io.BytesIO(data)))
    graph = content.graph
    layers = [node.path for node in graph.nodes.values() if node.op == "neuron"]
    (end,) = graph.outputs.values()

    def run(inputs: Sequence[Tensor]) -> Ran:
        (x,) = inputs
        each = x if graph.input.value.varies else [x] * graph.steps
        steps = program.run("input", each)
        given = torch.stack([values["output"] for values in steps])
        spikes = {path: torch.stack([values[path] for values in steps]) for path in layers}
        return Ran((given if graph[end].value.varies else given.mean(0),), spikes)

    return run


READERS: Mapping[str, Reader] = {"program": program, "onnx": onnx, "nir": nir, "source": source}
