"""A file of ONNX as danetc's operations: an ANN, as PyTorch exports it, or a spiking network with its
time steps one behind the other, in loops, or of one step with its states (as ``danetc export`` writes
them)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from danetc.errors import UserError
from danetc.tasks.extras import check_installed
from danetc.tasks.importing.acceptance import Runner, Weights
from danetc.tasks.importing.equations import NeuronPart, Operators
from danetc.tasks.importing.onnx_neurons import (
    attributes,
    by_names,
    looped_neuron,
    numbers_of_steps,
    parts_of_a_step,
    stateless_neurons,
)
from danetc.tasks.importing.onnx_operators import Reader
from danetc.tasks.importing.onnx_steps import TorchSteps
from danetc.tasks.importing.rolled import OneStep, rolled
from danetc.tasks.importing.source import STEPS, ReadNetwork, SourceBuilder, opened
from danetc.tasks.importing.torch_model import activations_as_neurons
from danetc.tasks.importing.unrolled import unrolled_neuron
from danetc.tasks.onnx_running import run_at_once, run_by_step, session_of

Time = Literal["at once", "by step"]


def read_onnx(path: Path, name: str, steps: int | None, events: bool) -> tuple[ReadNetwork, Runner]:
    """The network of a file of ONNX, and what runs it. Raises UserError."""
    check_installed("a .onnx file", ["onnx", "onnxruntime"], "onnx")
    import onnx

    def checked(name: str) -> onnx.ModelProto:
        model = onnx.load(name)
        onnx.checker.check_model(model)
        return model

    model = opened(path, "ONNX", checked)
    graph = model.graph
    notes = {item.key: item.value for item in model.metadata_props}
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    stored |= {
        node.output[0]: onnx.numpy_helper.to_array(attributes(node)["value"])
        for node in graph.node
        if node.op_type == "Constant"
    }
    taken = [item for item in graph.input if item.name not in stored]
    pairs = _remembered([item.name for item in taken], [item.name for item in graph.output])
    counts = [item.name for item in taken[1:] if item.name not in pairs]
    outputs = [item.name for item in graph.output if item.name not in pairs.values()]
    if not taken or len(counts) > 1 or len(outputs) != 1 or (counts and pairs):
        raise UserError(
            f"{path}: {len(taken) - len(pairs)} inputs and {len(outputs)} outputs; one of each is read"
        )
    sizes = [item.dim_value for item in taken[0].type.tensor_type.shape.dim]
    frames = len(sizes) in (3, 5)
    shape = sizes[2:] if frames else sizes[1:]
    if len(sizes) not in (2, 3, 4, 5) or not all(shape):
        raise UserError(
            f"{path}: its input is {sizes}, and a network of samples [N, C, H, W] or [T, N, C, H, W] "
            "with a fixed size is read"
        )
    torchs = TorchSteps(graph.node, stored, sizes[1 if frames else 0])
    stored = torchs.stored
    operators = Operators(torchs.nodes, stored).behind([item.name for item in graph.output])
    starts = {state: float(notes.get(f"start of {state}", "0")) for state in pairs}
    states = {item.name: [d.dim_value for d in item.type.tensor_type.shape.dim] for item in taken}
    step = OneStep(operators, pairs, starts, states, numbers=numbers_of_steps(operators, pairs))
    parts, groups = [], by_names(state for state in pairs if state not in step.numbers)
    if not pairs:
        parts = _neurons(operators)
        step = rolled(operators, {part.given for part in parts}, outputs)
        operators, groups = step.graph, step.groups
    neurons, delays = parts_of_a_step(operators, groups, step.pairs, step.starts, step.sizes)
    parts += neurons
    parts += stateless_neurons(operators, {name for part in parts for name in part.members})
    said = _steps_said(operators, parts, step.counts, sizes[0] if frames else 0)
    over_time = parts or delays
    found = steps or said or (int(notes.get("steps", STEPS)) if over_time else 1)
    if said and found != said:
        raise UserError(f"{path}: it is of {said} time steps; leave out --steps, or give {said}")
    build = SourceBuilder(found, tuple(shape), events or frames)
    if counts:
        stored[counts[0]] = np.array([found])
    reader = Reader(build, stored, {part.given: part for part in parts}, sizes[1 if frames else 0])
    reader.numbers = step.numbers
    reader.in_steps |= torchs.stacked | step.stacked
    reader.values[taken[0].name] = build.entry
    if frames:
        reader.in_steps.add(taken[0].name)
    for late in delays:
        reader.values[late.given] = build.carry(late.size, late.steps)
        reader.members |= late.members
    for number, node in enumerate(operators.nodes):
        reader.read(node, node.name or f"{node.op_type} {number}")
    for late in delays:
        if late.source not in reader.values:
            raise UserError(f"{late.source}: it is remembered, and is no value of the network")
        build.carries[reader.values[late.given]] = reader.values[late.source]
    output = outputs[0]
    if output not in reader.values:
        raise UserError(f"{path}: its output does not depend on its input")
    by_step = bool(pairs)
    each = by_step or output in reader.in_steps
    source = activations_as_neurons(build.finished(name, reader.values[output], each_step=each))
    time: Time = "by step" if by_step else "at once"
    return source, OnnxRunner(source, model.SerializeToString(), output, time)


def _remembered(inputs: list[str], outputs: list[str]) -> dict[str, str]:
    """What one step takes of the step before, and what it gives the next for that."""
    given = set(outputs)
    return {name: f"{name}_next" for name in inputs if f"{name}_next" in given}


def _neurons(graph: Operators) -> list[NeuronPart]:
    loops = [looped_neuron(graph, node) for node in graph.nodes if node.op_type == "Loop"]
    joined = (n for n in graph.nodes if n.op_type == "Concat" and attributes(n).get("axis") == 0)
    steps = (unrolled_neuron(graph, [*node.input], node.output[0]) for node in joined)
    return [part for part in (*loops, *steps) if part is not None]


def _steps_said(
    graph: Operators, parts: list[NeuronPart], rolled: Collection[int], frames: int
) -> int:
    """The number of time steps that a file has once and for all, or 0."""
    given = {part.given for part in parts}
    counts = {*rolled} | {
        len(node.input)
        for node in graph.nodes
        if node.op_type == "Concat" and node.output[0] in given
    }
    if len(counts | ({frames} if frames else set())) > 1:
        raise UserError(f"its neurons run for several numbers of time steps ({sorted(counts)})")
    return frames or next(iter(counts), 0)


@dataclass(frozen=True)
class OnnxRunner:
    """A file of ONNX by onnxruntime, which computes in float32."""

    source: ReadNetwork
    data: bytes
    output: str
    time: Time
    single: bool = True

    def run(self, inputs: Tensor) -> Tensor:
        try:
            return self._run(inputs)
        except Exception as error:  # its own, which have no base in common
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise UserError(f"onnxruntime cannot run the file: {error}") from error

    def _run(self, inputs: Tensor) -> Tensor:
        graph = self.source.graph
        varies = graph.input.value.varies
        axis = int(varies)
        session = session_of(self.data, torch.get_num_threads())
        samples = inputs.float().numpy()
        if self.time == "by step":
            found = [run_by_step(session, [samples], graph.steps, [varies])[self.output]]
        else:
            sized = session.get_inputs()[0].shape[axis]
            count = samples.shape[axis] // sized if isinstance(sized, int) else 1
            parts = np.split(samples, count, axis)
            found = [run_at_once(session, [part], graph.steps)[self.output] for part in parts]
        return torch.from_numpy(np.concatenate(found, found[0].ndim - 2)).double()

    def weights(self) -> Weights:
        return self.source.weights

    def varied(self, seed: int, inputs: Tensor) -> None:
        """The weights of a file stay as they are."""
