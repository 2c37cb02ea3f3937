"""A source of an import as a graph of danetc's operations, with the weights of each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from danetc.compiler.ir.graph import Attribute, Graph, Node, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS, OpError
from danetc.dsl.kinds import ANALOG
from danetc.dsl.neuron.program import NeuronProgram
from danetc.errors import UserError

STEPS = 4
"""Default number of time steps of a spiking network."""


@dataclass(frozen=True)
class ReadNetwork:
    """A network that was read.

    Attributes:
        graph: the graph as lowering would have written it.
        weights: tensors of each node by their names in the node's module.
        places: paths of these tensors in the source's state dict, if they are there.
        shape: shape of a sample of the source.
    """

    graph: Graph
    weights: Mapping[int, Mapping[str, Tensor]]
    places: Mapping[int, Mapping[str, str]]
    shape: tuple[int, ...]


@dataclass
class SourceBuilder:
    """Makes the graph of a source node by node.

    ``shape`` is that of its input, without T and N. Inputs of a spec are maps: a vector of C values
    becomes C x 1 x 1 and is flattened.
    """

    steps: int
    shape: tuple[int, ...]
    events: bool = False
    nodes: dict[int, Node] = field(default_factory=dict)
    neurons: dict[str, NeuronProgram] = field(default_factory=dict)
    weights: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)
    places: dict[int, Mapping[str, str]] = field(default_factory=dict)
    shares: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inference = Inference(self.neurons, self.nodes)
        self._keys: dict[NeuronProgram, str] = {}
        value = Value((*self.shape, 1, 1)[:3], ANALOG, self.events)
        self.nodes[0] = Node(0, "input", (), {"events": self.events}, value, (), "input")

    @property
    def entry(self) -> int:
        """Input of the layers: an image at each time step, or frames."""
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
        """Add a node. Raises UserError with ``name`` if the operation cannot be applied."""
        id = len(self.nodes)
        given = OPS[op].completed(attrs)
        try:
            value = self.inference.value(op, given, tuple(inputs))
        except OpError as error:
            raise UserError(f"{name}: {error.message}") from error
        self.nodes[id] = Node(id, op, tuple(inputs), given, value, (), f"n{id}")
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
        """Add a neuron with these equations."""
        key = self._keys.setdefault(program, f"neuron{len(self._keys) + 1}")
        self.neurons[key] = program
        return self.add("neuron", (source,), {"neuron": key}, name, weights)

    def share(self, first: Sequence[int], again: Sequence[int]) -> None:
        """Have the nodes of a layer's second call share the weights of its first call."""
        if first != again:
            each = ([id for id in ids if id in self.weights] for ids in (first, again))
            for owner, id in zip(*each, strict=True):
                self.shares[id] = owner
                del self.weights[id]

    def shape_of(self, id: int) -> tuple[int, ...]:
        return self.nodes[id].value.shape

    def finished(self, name: str, output: int, *, each_step: bool = True) -> ReadNetwork:
        """Return the network with a node's value as output, at each step or once."""
        if not each_step and self.nodes[output].value.varies:
            output = self.add("mean_over_time", [output], {}, "the output")
        graph = Graph(
            name, self.steps, self.nodes, {"out": output}, (), self.neurons, shares=self.shares
        )  # fmt: skip
        return ReadNetwork(graph, self.weights, self.places, self.shape)
