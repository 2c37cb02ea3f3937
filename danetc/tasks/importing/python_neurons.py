"""Neurons that a model's own code runs step by step, as danetc's model.py does: equations in a loop whose
outputs ``torch.stack`` puts together."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from danetc.dsl.neuron.program import SurrogateProgram
from danetc.errors import UserError
from danetc.tasks.importing.equations import NeuronPart, Operator, Operators
from danetc.tasks.importing.known_neurons import PLACES, surrogate_like
from danetc.tasks.importing.tracing import Spike
from danetc.tasks.importing.unrolled import behind, unrolled_neuron

Array: TypeAlias = "np.ndarray[Any, Any]"

FUNCTIONS: Mapping[Any, str] = {
    operator.add: "Add", operator.iadd: "Add", torch.add: "Add",
    operator.sub: "Sub", operator.isub: "Sub", torch.sub: "Sub",
    operator.mul: "Mul", operator.imul: "Mul", torch.mul: "Mul",
    operator.truediv: "Div", torch.div: "Div",
    operator.neg: "Neg", torch.neg: "Neg", torch.abs: "Abs", operator.abs: "Abs",
    operator.ge: "GreaterOrEqual", operator.gt: "Greater", operator.le: "LessOrEqual",
    operator.lt: "Less", operator.and_: "And", operator.or_: "Or", operator.invert: "Not",
    torch.exp: "Exp", torch.log: "Log", torch.sqrt: "Sqrt", torch.sigmoid: "Sigmoid",
    torch.tanh: "Tanh", torch.sin: "Sin", torch.cos: "Cos", torch.erf: "Erf", torch.sign: "Sign",
    torch.relu: "Relu", F.relu: "Relu", F.softplus: "Softplus", torch.round: "Round",
    torch.maximum: "Max", torch.minimum: "Min", torch.where: "Where",
}  # fmt: skip
METHODS: Mapping[str, str] = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "sigmoid": "Sigmoid", "exp": "Exp",
    "tanh": "Tanh", "relu": "Relu", "ge": "GreaterOrEqual", "gt": "Greater", "to": "Cast",
    "float": "Cast", "double": "Cast", "type_as": "Cast", "detach": "Detach",
    "clone": "Identity", "contiguous": "Identity",
}  # fmt: skip
FILLED: Mapping[Any, float] = {torch.zeros_like: 0.0, torch.ones_like: 1.0}
"""Functions that give one number everywhere."""


@dataclass(frozen=True)
class PythonNeurons:
    """The neurons of a trace by the names of the nodes that give them, how many steps they run, and the
    parameters that they learn: paths by the names of the nodes that read them."""

    parts: Mapping[str, NeuronPart]
    steps: int
    parameters: Mapping[str, str]


def python_neurons(graph: fx.Graph, model: nn.Module) -> PythonNeurons:
    """The neurons that a trace has step by step. Raises UserError where their steps are not alike."""
    joined = [node for node in graph.nodes if node.target is torch.stack and _is_first(node)]
    parts: dict[str, NeuronPart] = {}
    counts: set[int] = set()
    made = _Translated(graph, model)
    for node in joined:
        results = [item.name for item in node.args[0]]
        part = unrolled_neuron(made.operators, results, node.name, made.surrogate(results))
        if part is not None:
            parts[node.name] = part
            counts.add(len(results))
    if len(counts) > 1:
        raise UserError(f"its neurons run for several numbers of time steps ({sorted(counts)})")
    return PythonNeurons(parts, next(iter(counts), 0), made.parameters)


def _is_first(node: fx.Node) -> bool:
    """Whether values are put together along a new first dimension."""
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    values = node.args[0] if node.args else ()
    if dim != 0 or not isinstance(values, (list, tuple)):
        return False
    return all(isinstance(value, fx.Node) for value in values)


class _Translated:
    """A trace as operators by their names in ONNX; numbers are stored under a name that says them."""

    def __init__(self, graph: fx.Graph, model: nn.Module) -> None:
        self.stored: dict[str, Array] = {}
        self.parameters: dict[str, str] = {}
        self.spikes: dict[str, Spike] = {}
        self.splits: dict[str, dict[int, str]] = {}
        self.same: dict[str, str] = {}
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        learnt = dict(model.named_parameters())
        nodes = [item for node in graph.nodes for item in self._read(node, state, learnt)]
        for whole, parts in self.splits.items():
            nodes.append(Operator("Split", (whole,), tuple(parts[i] for i in sorted(parts))))
        self.operators = Operators(nodes, self.stored, {*self.parameters}, exact=True)

    def surrogate(self, results: list[str]) -> SurrogateProgram | None:
        """That of the spikes that some values are made of."""
        names = (name for name in behind(self.operators, results, ()) if name in self.spikes)
        slopes = {(self.spikes[name].slopes(PLACES), self.spikes[name].numbers) for name in names}
        if len(slopes) > 1:
            raise UserError("a neuron of its own code has several surrogates")
        return surrogate_like(*slopes.pop()) if slopes else None

    def _read(
        self, node: fx.Node, state: Mapping[str, Any], learnt: Mapping[str, Any]
    ) -> Iterator[Operator]:
        given, target = node.name, node.target
        if node.op == "get_attr" and str(target) in state:
            self.stored[given] = state[str(target)].detach().cpu().double().numpy()
            if str(target) in learnt:
                self.parameters[given] = str(target)
        elif node.op == "call_function" and target in FILLED:
            self.stored[given] = np.array(FILLED[target])
        elif node.op == "call_function" and target is torch.full_like:
            self.stored[given] = np.array(float(node.args[1]))  # type: ignore[arg-type]
        elif isinstance(target, Spike):
            self.spikes[given] = target
            yield Operator("Heaviside", (self._name(node.args[0]),), (given,))
        elif target is operator.getitem and isinstance(node.args[1], int):
            parts = self.splits.setdefault(self._name(node.args[0]), {})
            self.same[given] = parts.setdefault(node.args[1], given)  # a step that is read again
        else:
            table: Mapping[Any, str] = METHODS if node.op == "call_method" else FUNCTIONS
            kind = table.get(target)
            taken = node.args[:1] if kind == "Cast" else node.args
            if kind is not None and (kind == "Cast" or not node.kwargs) and self._plain(taken):
                yield Operator(kind, tuple(map(self._name, taken)), (given,), given)

    def _plain(self, taken: Any) -> bool:
        return all(isinstance(item, (fx.Node, int, float)) for item in taken)

    def _name(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self.same.get(value.name, value.name)
        name = f"={float(value)!r}"
        self.stored[name] = np.array(float(value))
        return name
