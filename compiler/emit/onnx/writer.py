"""Writer of ONNX operators and constants, and of the values passed between time steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from danetc.compiler.emit.bodies import resolve
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node, Shape, unique
from danetc.dsl.record import record

Arrays = Mapping[str, np.ndarray[Any, Any]]


class NodeWriter:
    """Implements ``compiler.ir.ops.onnx.OnnxWriter``.

    ``may_differ`` is True if batch sizes may differ: values that are the same for all samples have
    the shape [1, ...].
    """

    def __init__(self, graph: Graph, weights: Arrays, may_differ: bool) -> None:
        self.graph = graph
        self.weights = weights
        self.may_differ = may_differ
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
        """Rename a value and the operator that computes it, and return the new name.

        Only the nodes from index ``first`` on are searched. A value computed before them keeps its
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

    # -- constants --------------------------------------------------------------------------------

    def weight(self, name: str) -> str:
        full = self._full(name)
        if full not in self.constants:
            self.names.add(full)
            self._constant(full, self.weights[full].astype(np.float32))
        return full

    def stored(self, name: str) -> np.ndarray[Any, Any]:
        return self.weights[self._full(name)]

    def _full(self, name: str) -> str:
        """Return the key of a value of the current node, or of the node whose weights it shares."""
        assert self.at is not None
        node = self.graph[self.graph.shares.get(self.at.id, self.at.id)]
        return dotted(*node.scope, node.name, name)

    def array(self, values: Any) -> str:
        return self._shared(np.asarray(values).astype(np.float32))

    def applied(self, name: str, x: np.ndarray[Any, Any], *args: Any) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = resolve(f"danetc.runtime.layers.{name}")(
            torch.from_numpy(x), *args
        ).numpy()
        return found

    def ints(self, *values: int) -> str:
        return self._shared(np.array(values, np.int64))

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
        """Return the constants that operators read."""
        read = {name for node in self.nodes for name in node.input}
        return [value for name, value in self.constants.items() if name in read]

    # -- time and batch ---------------------------------------------------------------------------

    def length(self) -> str:
        return self.ints(self.graph.steps)

    def as_steps(self, x: str, shape: Shape) -> str:
        return self.node("Reshape", x, self.ints(self.graph.steps, -1, *shape))

    def as_batch(self, x: str, shape: Shape) -> str:
        return self.node("Reshape", x, self.ints(-1, *shape))

    def like(self, x: str, other: str) -> str:
        if x == other or not self.may_differ:
            return x
        rank = self.node("Shape", other, start=0, end=1)
        rest = self.node("Shape", x, start=1)
        return self.node("Expand", x, self.node("Concat", rank, rest, axis=0))

    def before(self, name: str, shape: Shape, steps: int) -> str:
        assert self.memory is not None
        return self.memory.before(f"{self.path}.{name}", shape, steps)

    def remember(self, name: str, value: str) -> None:
        assert self.memory is not None
        self.memory.next[f"{self.path}.{name}"] = value


@record(frozen=False)
class StepStates:
    """Values that a step passes to the next, by name.

    Without ``batch``, the file contains one step with these values as inputs and outputs, and
    ``starts`` maps them to the inputs and their initial numbers. For steps in sequence, ``batch``
    is the number of samples, [1].
    """

    to: NodeWriter
    batch: str | None = None
    starts: dict[str, tuple[ValueInfoProto, float]] = field(default_factory=dict)
    next: dict[str, str] = field(default_factory=dict)

    def before(self, name: str, shape: Shape, steps: int, state: float | None = None) -> str:
        """Return the value from the previous step; in the first step 0, or the initial ``state``.

        An initial state is a single number, which the equations of the neuron expand.
        """
        to = self.to
        if self.batch is None:
            if name not in self.starts:
                lead: list[int | str] = [steps, "N"] if steps > 1 else ["N"]
                self.starts[name] = tensor(to.claim(name), [*lead, *shape]), state or 0.0
            return self.starts[name][0].name
        if name in self.next:
            return self.next[name]
        if state is not None:
            return to.array(state)
        sizes = [*([to.ints(steps)] if steps > 1 else []), self.batch, to.ints(*shape)]
        return to.node("Expand", to.array(0.0), to.node("Concat", *sizes, axis=0))

    def renamed(self, value: str, name: str) -> None:
        self.next = {key: name if known == value else known for key, known in self.next.items()}

    def results(self) -> list[ValueInfoProto]:
        """Write the values for the next step as outputs."""
        found = []
        for name, (info, _) in self.starts.items():
            given = self.to.claim(f"{info.name}_next")
            self.to.nodes.append(helper.make_node("Identity", [self.next[name]], [given], given))
            after = ValueInfoProto()
            after.CopyFrom(info)
            after.name = given
            found.append(after)
        return found


def _label(array: np.ndarray[Any, Any]) -> str:
    """Return a name for a small constant that contains its numbers."""
    numbers = "_".join(f"{value:g}" for value in array.reshape(-1).tolist())
    kind = {"i": "int", "f": "float"}[array.dtype.kind]
    return f"{kind}/{numbers}" + ("" if array.ndim else "/scalar")


def tensor(name: str, size: Sequence[int | str], tokens: bool = False) -> ValueInfoProto:
    """Return the description of a float32 input or output, or of an int64 input of tokens."""
    return helper.make_tensor_value_info(
        name, TensorProto.INT64 if tokens else TensorProto.FLOAT, size
    )
