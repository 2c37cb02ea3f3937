"""Operators of ONNX as they are written: their names, constants, and what is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node, Shape, unique

Arrays = Mapping[str, np.ndarray[Any, Any]]


class StateMemory(Protocol):
    """What steps remember, by the names of what they remember."""

    def before(self, name: str, shape: Shape, steps: int, start: float, single: bool) -> str:
        """The value of the step before, float32 where it is ``single``; ``start`` at the first."""

    def after(self, name: str, value: str) -> None:
        """The value for the next step."""


class NodeWriter:
    """Writes operators (``compiler.ir.ops.onnx.general.OnnxWriter``).

    ``length`` of a network is T: a number, or the name of one that the file's user or its input says.
    """

    def __init__(self, graph: Graph, weights: Arrays, half: bool) -> None:
        self.graph = graph
        self.weights = weights
        self.half = half
        self.type = np.float16 if half else np.float32
        self.steps: int | str = graph.steps
        self.step = ""
        self.memory: StateMemory | None = None
        self.constants: dict[str, TensorProto] = {}
        self.nodes: list[NodeProto] = []
        self.names: set[str] = set()
        self.path = ""  # of the node that is written
        self.suffix = ""  # of the time step
        self._known: dict[tuple[Any, ...], str] = {}  # constants by their contents
        self.at: Node | None = None

    # -- names and nodes --------------------------------------------------------------------------

    def claim(self, name: str) -> str:
        """``name``, or one like it that nothing has."""
        name = unique(name, self.names.__contains__)
        self.names.add(name)
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes_of(operator, inputs, 1, **attributes)[0]

    def nodes_of(
        self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """An operator of several outputs."""
        name = self.claim(f"{self.path}{self.suffix}/{operator}")
        names = [name] if outputs == 1 else [self.claim(f"{name}.{i}") for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, **attributes))
        return names

    def rename(self, value: str, name: str, first: int = 0) -> str:
        """Give the value, and the operator that makes it, a name, which it gives; ``first`` is the
        first node that may make or read it. What another part of the file gave stays."""
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
        """Write into a graph within the graph."""
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
        """The name in the weights; of a layer that is another one, that one's."""
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
        """Those that an operator reads, in a loop too."""
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
    """Some values are the same for all samples, [1, ...]."""

    def before(self, name: str, shape: Shape, steps: int) -> str:
        assert self.memory is not None
        return self.memory.before(f"{self.path}.{name}", shape, steps, 0.0, False)

    def remember(self, name: str, value: str) -> None:
        assert self.memory is not None
        self.memory.after(f"{self.path}.{name}", value)


def _all(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """These and those within them."""
    for node in nodes:
        yield node
        for part in node.attribute:
            yield from _all(part.g.node)


def _label(array: np.ndarray[Any, Any]) -> str:
    """A name for a small constant: its numbers."""
    numbers = "_".join(f"{value:g}" for value in array.reshape(-1).tolist())
    kind = {"i": "int", "f": "float"}[array.dtype.kind]
    return f"{kind}/{numbers}" + ("" if array.ndim else "/scalar")


def proto_type(array_type: Any) -> int:
    """The number by which ONNX knows a type of numpy."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(array_type)))
