"""ONNX files, run by onnxruntime."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from danetc.compiler.emit.onnx import emit_onnx
from danetc.compiler.ir.graph import Graph
from danetc.runtime.layers.weight_layer import computed_state
from danetc.runtime.model.built import Model


def written(model: Model, streaming: bool = False) -> onnx.ModelProto:
    """The ONNX file of a model, validated by the ONNX checker."""
    graph = model.topology
    assert isinstance(graph, Graph)
    weights = {name: value.numpy() for name, value in computed_state(model).items()}
    made = emit_onnx(graph, weights, streaming=streaming)
    onnx.checker.check_model(made, full_check=True)
    return made


def ran(
    made: onnx.ModelProto, graph: Graph, inputs: Sequence[Tensor], streaming: bool = False
) -> list[Tensor]:
    """The outputs for inputs [N, ...] or [T, N, ...]. A streaming file runs for T steps."""
    session = onnxruntime.InferenceSession(made.SerializeToString())
    takes = {item.name: item for item in session.get_inputs()}
    notes = {item.key: item.value for item in made.metadata_props}
    names = [item.name for item in session.get_outputs()]
    given = dict(zip(takes, (x.numpy() for x in inputs), strict=False))
    if not streaming:
        return [torch.from_numpy(y) for y in session.run(None, given)]
    samples = inputs[0].shape[int(graph.input.value.varies)]
    memory = {}
    for name in list(takes)[len(inputs) :]:
        size = [samples if part == "N" else part for part in takes[name].shape]
        kind = np.int64 if name == "step" else np.float32
        memory[name] = np.full(size, float(notes[f"start of {name}"]), kind)
    found = []
    for t in range(graph.steps):
        frames = {
            name: x[t] if node.value.varies else x
            for (name, x), node in zip(given.items(), graph.inputs, strict=True)
        }
        results = dict(zip(names, session.run(None, {**frames, **memory}), strict=True))
        memory = {name: results[f"{name}_next"] for name in memory}
        found.append([torch.from_numpy(results[name]) for name in graph.outputs])
    return [torch.stack(values) for values in zip(*found, strict=True)]
