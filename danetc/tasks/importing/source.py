"""What is read from elsewhere, as a graph of danetc's operations with the weights of each node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from danetc.compiler.ir.graph import Attribute, Graph, Node, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.loops import loops, without_detours
from danetc.compiler.ir.ops import OPS, OpError
from danetc.dsl.kinds import ANALOG
from danetc.dsl.neuron.program import NeuronProgram
from danetc.errors import UserError

STEPS = 4
"""Time steps of a spiking network where neither it nor its user says how many."""


def opened(path: Path, kind: str, read: Callable[[str], Any]) -> Any:
    """What a file holds, by its library. Raises UserError."""
    try:
        return read(str(path))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except Exception as error:  # whatever a damaged file makes of its library
        raise UserError(f"{path} cannot be read as {kind}: {error}") from error


@dataclass(frozen=True)
class ReadNetwork:
    """A network that was read: its graph, as lowering would have written it, and its weights.

    ``weights`` has for each node the tensors of its module by their names there; ``names`` what the
    node is called where it was read, for messages. ``shape`` is that of a sample there. Tensors that no
    module of a layer holds have their ``places`` in the model.
    """

    graph: Graph
    weights: Mapping[int, Mapping[str, Tensor]]
    names: Mapping[int, str]
    shape: tuple[int, ...]
    places: Mapping[int, Mapping[str, str]] = field(default_factory=dict)


@dataclass
class SourceBuilder:
    """Makes the graph of a source node by node.

    ``shape`` is that of its input, without T and N. Inputs of a spec are maps: a vector of C values
    comes as C x 1 x 1 and is flattened.
    """

    steps: int
    shape: tuple[int, ...]
    events: bool = False
    nodes: dict[int, Node] = field(default_factory=dict)
    neurons: dict[str, NeuronProgram] = field(default_factory=dict)
    weights: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    places: dict[int, Mapping[str, str]] = field(default_factory=dict)
    shares: dict[int, int] = field(default_factory=dict)
    carries: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inference = Inference(self.neurons, self.nodes)
        self._keys: dict[NeuronProgram, str] = {}
        value = Value((*self.shape, 1, 1)[:3], ANALOG, self.events)
        self.nodes[0] = Node(0, "input", (), {"events": self.events}, value, (), "input")

    @property
    def entry(self) -> int:
        """What the layers read: an image at each time step, or frames."""
        x = 0 if self.events else self.add("repeat", (0,), {}, "the input")
        return x if len(self.shape) == 3 else self.add("flatten", (x,), {}, "the input")

    def add(
        self,
        op: str,
        inputs: Sequence[int],
        attrs: Mapping[str, Attribute],
        name: str,
        weights: Mapping[str, Tensor] | None = None,
    ) -> int:
        """A node of an operation. Raises UserError where it cannot be applied; ``name`` says where."""
        id = len(self.nodes)
        given = OPS[op].completed(attrs)
        for item in OPS[op].parameters:
            number = given.get(item.name)
            low = -math.inf if item.low is None else item.low
            if isinstance(number, (int, float)) and number < low:
                raise UserError(f"{name}: its {item.name} is {number}, and {low:g} is the least")
        try:
            value = self.inference.value(op, given, tuple(inputs))
        except OpError as error:
            raise UserError(f"{name}: {error.message}") from error
        self.nodes[id] = Node(id, op, tuple(inputs), given, value, (), f"n{id}")
        self.names[id] = name
        if weights:
            self.weights[id] = {key: item.detach() for key, item in weights.items()}
        return id

    def neuron(
        self,
        program: NeuronProgram,
        source: int,
        name: str,
        weights: Mapping[str, Tensor] | None = None,
    ) -> int:
        """A node of a neuron with these equations."""
        key = self._keys.setdefault(program, f"neuron{len(self._keys) + 1}")
        self.neurons[key] = program
        return self.add("neuron", (source,), {"neuron": key}, name, weights)

    def carry(self, shape: tuple[int, ...], steps: int) -> int:
        """A node of what another one, which ``carries`` will name, gave some steps before."""
        id = len(self.nodes)
        attrs = OPS["carry"].completed({"steps": steps})
        self.nodes[id] = Node(id, "carry", (), attrs, Value(shape, ANALOG, True), (), f"n{id}")
        return id

    def share(self, first: Sequence[int], again: Sequence[int]) -> None:
        """Have the nodes of a layer that is called again compute with the weights of its first call."""
        if first != again:
            each = ([id for id in ids if id in self.weights] for ids in (first, again))
            for owner, id in zip(*each, strict=True):
                self.shares[id] = owner
                del self.weights[id]

    def shape_of(self, id: int) -> tuple[int, ...]:
        return self.nodes[id].value.shape

    def finished(self, name: str, output: int, *, each_step: bool = True) -> ReadNetwork:
        """The network that gives a node's value, at each step or once."""
        if not each_step and self.nodes[output].value.varies:
            output = self.add("mean_over_time", [output], {}, "the output")
        graph = Graph(
            name, self.steps, self.nodes, {"out": output}, (), self.neurons,
            carries=self.carries, shares=self.shares,
        )  # fmt: skip
        graph = without_detours(graph)
        norms = {
            id: replace(graph[id], attrs={**graph[id].attrs, "statistics": "step"})
            for loop in loops(graph)
            for id in loop.members
            if graph[id].op == "batchnorm"
        }  # at each step of a loop it has seen no other yet
        graph = replace(graph, nodes={id: norms.get(id, node) for id, node in graph.nodes.items()})
        return ReadNetwork(graph, self.weights, self.names, self.shape, self.places)
