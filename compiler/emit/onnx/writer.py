"""Writer of ONNX operators and constants, and the values that steps pass to each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node, Shape, unique
from danetc.dsl.record import record

Arrays = Mapping[str, np.ndarray[Any, Any]]


class NodeWriter:
    """Writes operators (``compiler.ir.ops.onnx.general.OnnxWriter``).

    ``steps`` is T: a number, or the name of the value that holds it.
    """

    def __init__(self, graph: Graph, weights: Arrays, half: bool) -> None:
        self.graph = graph
        self.weights = weights
        self.half = half
        self.type = np.float16 if half else np.float32
        self.steps: int | str = graph.steps
        self.step = ""
        self.memory: StepStates | None = None
        self.constants: dict[str, TensorProto] = {}
        self.nodes: list[NodeProto] = []
        self.names: set[str] = set()
        self.path = ""  # of the current node
        self.suffix = ""  # of the current time step
        self._known: dict[tuple[Any, ...], str] = {}  # constants by their contents
        self.at: Node | None = None

    # -- names and nodes --------------------------------------------------------------------------

    def claim(self, name: str) -> str:
        """Reserve ``name``, or a free name like it."""
        name = unique(name, self.names.__contains__)
        self.names.add(name)
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes_of(operator, inputs, 1, **attributes)[0]

    def nodes_of(
        self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """Write an operator with several outputs."""
        name = self.claim(f"{self.path}{self.suffix}/{operator}")
        names = [name] if outputs == 1 else [self.claim(f"{name}.{i}") for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, **attributes))
        return names

    def rename(self, value: str, name: str, first: int = 0) -> str:
        """Rename a value and the operator that makes it, and return the new name.

        ``first`` is the first node that may make or read it. A value that is made before keeps its
        name.
        """
        made = next((n for n in self.nodes[first:] if value in n.output), None)
        if made is None or len(made.output) > 1:
            return value
        name = self.claim(name)
        for node in self.nodes[first:]:
            for place, read in enumerate(node.input):
                if read == value:
                    node.input[place] = name
        made.output[0] = made.name = name
        return name

    @contextmanager
    def inside(self) -> Iterator[list[NodeProto]]:
        """Write into a subgraph."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    # -- constants --------------------------------------------------------------------------------

    def weight(self, name: str) -> str:
        full = self._full(name)
        if full not in self.constants:
            self.names.add(full)
            self._constant(full, self._typed(self.weights[full]))
        return full

    def stored(self, name: str) -> np.ndarray[Any, Any]:
        return self.weights[self._full(name)]

    def _full(self, name: str) -> str:
        """The name of a stored value of the current node, or of the layer that it shares."""
        assert self.at is not None
        node = self.graph[self.graph.shares.get(self.at.id, self.at.id)]
        return dotted(*node.scope, node.name, name)

    def array(self, values: Any, single: bool = False) -> str:
        array = np.asarray(values)
        return self._shared(array.astype(np.float32) if single else self._typed(array))

    def ints(self, *values: int) -> str:
        return self._shared(np.array(values, np.int64))

    def _typed(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return array.astype(self.type)

    def _shared(self, array: np.ndarray[Any, Any]) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            label = f"{self.path}/constant" if array.size > 8 else _label(array)
            self._known[key] = self._constant(self.claim(label), array)
        return self._known[key]

    def _constant(self, name: str, array: np.ndarray[Any, Any]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def constants_read(self) -> list[TensorProto]:
        """The constants that operators read, including those in loops."""
        read = {name for node in _all(self.nodes) for name in node.input}
        return [value for name, value in self.constants.items() if name in read]

    # -- time and batch ---------------------------------------------------------------------------

    def length(self) -> str:
        return self.ints(self.steps) if isinstance(self.steps, int) else self.steps

    def as_steps(self, x: str, shape: Shape) -> str:
        if isinstance(self.steps, int):
            return self.node("Reshape", x, self.ints(self.steps, -1, *shape))
        size = self.node("Concat", self.steps, self.ints(-1, *shape), axis=0)
        return self.node("Reshape", x, size)

    def as_batch(self, x: str, shape: Shape) -> str:
        return self.node("Reshape", x, self.ints(-1, *shape))

    def like(self, x: str, other: str) -> str:
        if x == other or not self.may_differ:
            return x
        rank = self.node("Shape", other, start=0, end=1)
        rest = self.node("Shape", x, start=1)
        return self.node("Expand", x, self.node("Concat", rank, rest, axis=0))

    may_differ = False
    """True if some values are the same for all samples, [1, ...]."""

    def before(self, name: str, shape: Shape, steps: int) -> str:
        assert self.memory is not None
        return self.memory.before(f"{self.path}.{name}", shape, steps, 0.0, False)

    def remember(self, name: str, value: str) -> None:
        assert self.memory is not None
        self.memory.next[f"{self.path}.{name}"] = value


@record
class CarriedValue:
    """A value that a step takes from the step before: its name, its shape and its start."""

    name: str
    info: ValueInfoProto
    shape: Shape
    steps: int
    start: float
    single: bool


@record(frozen=False)
class StepStates:
    """Values that a step passes to the next, by name.

    Without ``batch`` a step takes them as inputs and returns them as outputs, as one step alone and
    the body of a loop do. For steps in sequence ``batch`` is the number of samples, [1].
    """

    to: NodeWriter
    batch: str | None = None
    carried: dict[str, CarriedValue] = field(default_factory=dict)
    next: dict[str, str] = field(default_factory=dict)

    def before(self, name: str, shape: Shape, steps: int, start: float, single: bool) -> str:
        """Return the value from the step before, and ``start`` at the first step.

        A ``single`` value is float32: a state of a neuron, whose equations expand it.
        """
        if self.batch is not None:
            if name in self.next:
                return self.next[name]
            if single:
                return self.to.array(start, single)
            return self.filled(self.batch, shape, steps, start, single)
        if name not in self.carried:
            kind = proto_type(np.float32 if single else self.to.type)
            lead: list[int | str] = [steps, "N"] if steps > 1 else ["N"]
            label = self.to.claim(name)
            info = helper.make_tensor_value_info(label, kind, [*lead, *shape])
            self.carried[name] = CarriedValue(label, info, shape, steps, start, single)
        return self.carried[name].name

    def filled(self, batch: str, shape: Shape, steps: int, start: float, single: bool) -> str:
        """Return a value for ``batch`` samples that is ``start`` everywhere."""
        to = self.to
        sizes = [*([to.ints(steps)] if steps > 1 else []), batch, to.ints(*shape)]
        size = to.node("Concat", *sizes, axis=0)
        return to.node("Expand", to.array(start, single), size)

    def renamed(self, value: str, name: str) -> None:
        self.next = {key: name if known == value else known for key, known in self.next.items()}

    def results(self) -> list[ValueInfoProto]:
        """Write the values for the next step as outputs."""
        found = []
        for name, item in self.carried.items():
            given = self.to.claim(f"{item.name}_next")
            self.to.nodes.append(helper.make_node("Identity", [self.next[name]], [given], given))
            info = ValueInfoProto()
            info.CopyFrom(item.info)
            info.name = given
            found.append(info)
        return found


def _all(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, and the nodes of their subgraphs."""
    for node in nodes:
        yield node
        for part in node.attribute:
            yield from _all(part.g.node)


def _label(array: np.ndarray[Any, Any]) -> str:
    """A name for a small constant, made of its numbers."""
    numbers = "_".join(f"{value:g}" for value in array.reshape(-1).tolist())
    kind = {"i": "int", "f": "float"}[array.dtype.kind]
    return f"{kind}/{numbers}" + ("" if array.ndim else "/scalar")


def proto_type(array_type: Any) -> int:
    """Return the number of a type of numpy in ONNX."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(array_type)))
