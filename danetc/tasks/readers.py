"""What reads the files of ``danetc export`` and runs them, so that they are compared with the model."""

from __future__ import annotations

import io
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from danetc.compiler.emit.names import dotted
from danetc.runtime.model.signature import outputs_of
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


def program(data: bytes, content: Content) -> Run:
    """A program of torch.export, or one that is compiled."""
    if content.options.compiled:
        from torch._inductor import aoti_load_package

        with tempfile.TemporaryDirectory(prefix="danetc-") as folder:
            path = Path(folder, "network.pt2")
            path.write_bytes(data)
            loaded: Any = aoti_load_package(str(path))
    else:
        loaded = torch.export.load(io.BytesIO(data)).module()
    return lambda inputs: Ran(outputs_of(loaded(*inputs)))


def source(data: bytes, content: Content) -> Run:
    """A file of SpikingJelly's modules, with the model's weights."""
    from spikingjelly.activation_based import base, functional

    made = standalone(data.decode(), content.graph.name)
    made.load_state_dict(content.model.state_dict())
    spikes: dict[str, Tensor] = {}

    def note(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda layer, given, y: spikes.update({path: y})

    paths = {
        dotted(*node.scope, node.name): node.path
        for node in content.graph.nodes.values()
        if node.op == "neuron"
    }
    for name, module in made.named_modules():
        if isinstance(module, base.MemoryModule) and name in paths:
            module.register_forward_hook(note(paths[name]))

    def run(inputs: Sequence[Tensor]) -> Ran:
        functional.reset_net(made)
        return Ran(outputs_of(made(*inputs)), dict(spikes))

    return run


# -- ONNX -----------------------------------------------------------------------------------------


def onnx(data: bytes, content: Content) -> Run:
    """A file of ONNX by onnxruntime; one of a single step is run T times."""
    from onnx import ModelProto, helper

    from danetc.tasks.onnx_running import run_at_once, run_by_step, session_of

    made = ModelProto.FromString(data)
    graph, options = content.graph, content.options
    kind = 10 if options.half else 1
    shown = {name for node in made.graph.node for name in node.output}
    layers: dict[str, list[str]] = {}
    for path in (node.path for node in graph.nodes.values() if node.op == "neuron"):
        each = [f"{path}/t{t}" for t in range(graph.steps)]  # of an unrolled loop
        if path in shown or _shows(made.graph, path, kind):
            layers[path] = [path]
        elif shown.issuperset(each):
            layers[path] = each
    made.graph.output.extend(
        helper.make_tensor_value_info(name, kind, None)
        for names in layers.values()
        for name in names
    )
    session = session_of(made.SerializeToString(), torch.get_num_threads())
    varies = [node.value.varies for node in graph.inputs]

    def run(inputs: Sequence[Tensor]) -> Ran:
        arrays = [(x.half() if options.half else x).numpy() for x in inputs]
        if options.time == "step":
            found = run_by_step(session, arrays, graph.steps, varies)
        else:
            found = run_at_once(session, arrays, graph.steps)
        values = {name: torch.from_numpy(value).float() for name, value in found.items()}
        spikes = {path: torch.cat([values[n] for n in names]) for path, names in layers.items()}
        return Ran(tuple(values[name] for name in graph.outputs), spikes)

    return run


def _shows(graph: Any, path: str, kind: int) -> bool:
    """Have the loop in which a layer of neurons stands give what that gives, by the path of its node;
    whether there is one."""
    from onnx import helper

    for loop in (node for node in graph.node if node.op_type == "Loop"):
        (body,) = (item.g for item in loop.attribute if item.name == "body")
        if any(f"{path}/t" in node.output for node in body.node):
            body.output.append(helper.make_tensor_value_info(f"{path}/t", kind, None))
            loop.output.append(path)
            return True
    return False


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
