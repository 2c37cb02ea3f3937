"""File formats of ``danetc export``, by the ending of the file.

A new format is a row of ``FORMATS`` and its functions. A format of whole networks can also be run, so
that each file is compared with its model before it is kept.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from danetc.compiler.emit.program import emit_program, standalone
from danetc.compiler.emit.python.spikingjelly import emit_spikingjelly
from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError
from danetc.runtime.layers.weight_layer import computed_state
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.model.weight_files import tensor_file

Run: TypeAlias = Callable[..., Sequence[Tensor]]
"""Runs a file: inputs to outputs, as the model takes and returns them."""


@dataclass(frozen=True, slots=True)
class Content:
    """A network to export, in evaluation mode; ``streaming`` as in ``ExportRequest``.

    ``class_names`` are those of the data that it was trained on.
    """

    graph: Graph
    model: Model
    streaming: bool = False
    class_names: Sequence[str] = ()

    @property
    def about(self) -> dict[str, str]:
        """Metadata of a file: version, name of the network, and names of classes as a JSON list."""
        named = {"class_names": json.dumps(self.class_names)} if self.class_names else {}
        return {"danetc": version("danetc"), "network": self.graph.name, **named}

    @property
    def weights(self) -> dict[str, Tensor]:
        """The model's parameters and buffers."""
        state = self.model.state_dict()
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def computed(self) -> tuple[Graph, dict[str, Any]]:
        """Return the graph without layers of weights, and the weights that it computes with, as arrays."""
        state = computed_state(self.model)
        arrays = {name: value.cpu().contiguous().numpy() for name, value in state.items()}
        return self.graph.with_plain_weights(), arrays


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        meaning: what such a file holds.
        write: returns the bytes of a file. Raises UserError if the network has no such form.
        use: how to load a file, with the fields ``{file}`` and ``{model}`` (its model.py).
        run: returns a function that runs a file's bytes; None for formats that hold weights alone.
        needs: required packages, which the extra named like the first one installs.
    """

    meaning: str
    write: Callable[[Content], bytes]
    use: str
    run: Callable[[bytes, Content], Run] | None = None
    needs: tuple[str, ...] = ()


def stepwise(stream: Callable[..., tuple[Any, Any]], graph: Graph) -> Run:
    """Return a function that runs a network by single steps (``Model.stream``); its outputs are those of all."""

    def run(*inputs: Tensor) -> Sequence[Tensor]:
        states, steps = None, []
        for t in range(graph.steps):
            pairs = zip(inputs, graph.inputs, strict=True)
            frames = tuple(x[t] if node.value.varies else x for x, node in pairs)
            found, states = stream(frames if len(frames) > 1 else frames[0], states)
            steps.append(outputs_of(found))
        return [torch.stack(values) for values in zip(*steps, strict=True)]

    return run


def _state_dict(content: Content) -> bytes:
    stream = io.BytesIO()
    torch.save(content.weights, stream)
    return stream.getvalue()


def _run_program(data: bytes, content: Content) -> Run:
    loaded: Any = torch.export.load(io.BytesIO(data)).module()
    return lambda *inputs: outputs_of(loaded(*inputs))


def _run_source(data: bytes, content: Content) -> Run:
    from spikingjelly.activation_based import functional

    made = standalone(data.decode(), content.graph.name)
    made.load_state_dict(content.model.state_dict())

    def run(*inputs: Tensor) -> Sequence[Tensor]:
        functional.reset_net(made)
        return outputs_of(made(*inputs))

    return run


def _onnx(content: Content) -> bytes:
    from danetc.compiler.emit.onnx import emit_onnx

    graph, signature = content.graph, content.model.signature
    if content.streaming and signature.whole:
        raise UserError(f"{graph.name} cannot run step by step: {signature.whole}")
    made = emit_onnx(
        *content.computed(),
        streaming=content.streaming,
        about={**content.about, "steps": str(graph.steps)},
    )
    return bytes(made.SerializeToString())


def _run_onnx(data: bytes, content: Content) -> Run:
    """Run a file by onnxruntime; one of a single step is run T times."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    quiet.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, quiet)
    takes, outputs = session.get_inputs(), len(content.graph.outputs)
    states = takes[len(content.graph.inputs) :]
    names = [*content.graph.outputs, *(f"{item.name}_next" for item in states)]
    starts = session.get_modelmeta().custom_metadata_map
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}

    def stream(x: Tensor | tuple[Tensor, ...], memory: Any = None) -> tuple[list[Tensor], Any]:
        frames = x if isinstance(x, tuple) else (x,)
        given = {item.name: each.numpy() for item, each in zip(takes, frames, strict=False)}
        if memory is None:
            memory = {}
            for item in states:
                size = [part if isinstance(part, int) else len(frames[0]) for part in item.shape]
                start = float(starts.get(f"start of {item.name}", "0"))
                memory[item.name] = np.full(size, start, kinds[item.type])
        found = session.run(names, given | memory)
        after = dict(zip(memory, found[outputs:], strict=True))
        return [torch.from_numpy(x) for x in found[:outputs]], after

    return stepwise(stream, content.graph) if content.streaming else lambda *x: stream(x)[0]


def _nir(content: Content) -> bytes:
    import nir

    from danetc.compiler.emit.nir import emit_nir

    stream = io.BytesIO()
    nir.write(stream, emit_nir(*content.computed(), content.about))
    return stream.getvalue()


def _run_nir(data: bytes, content: Content) -> Run:
    """Run a graph as ``danetc import`` reads it, averaged over time where the model's output is."""
    from danetc.tasks.importing.nir_file import read_nir
    from danetc.tasks.importing.operations import model_of

    graph = content.graph
    (end,) = graph.outputs.values()
    read = model_of(read_nir(io.BytesIO(data), "read", graph.steps, graph.input.value.varies))
    return lambda x: [read(x) if graph[end].value.varies else read(x).mean(0)]


_STATE_DICT = Format(
    "weights as a state dict", _state_dict, "load_state_dict(torch.load({file!r})), weights alone"
)
FORMATS: Mapping[str, Format] = {
    ".safetensors": Format(
        "weights",
        lambda content: b"".join(tensor_file(content.weights, content.about)),
        "in Python, beside {model}: model.load({file!r})",
    ),
    ".pth": _STATE_DICT,
    ".pt": _STATE_DICT,
    ".pt2": Format(
        "the whole network as a program of torch.export",
        lambda content: emit_program(content.graph, content.model, content.about),
        "torch.export.load({file!r}).module()(images)",
        _run_program,
    ),
    ".onnx": Format(
        "the whole network as ONNX",
        _onnx,
        "onnxruntime.InferenceSession({file!r})",
        _run_onnx,
        ("onnx", "onnxruntime"),
    ),
    ".nir": Format(
        "the whole network as a graph of NIR", _nir, "nir.read({file!r})", _run_nir, ("nir",)
    ),
    ".py": Format(
        "the network in Python, of SpikingJelly's layers and neurons, without weights",
        lambda content: emit_spikingjelly(content.graph).encode(),
        "in Python, {file} beside its weights (-o weights.safetensors): load('weights.safetensors')",
        _run_source,
        ("spikingjelly",),
    ),
}
