"""The torch.fx code of one scope, and the classes and functions that it may call.

A value exists with separate time and batch dimensions (``seq``), or with both as one (``flat``).
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import fx

import danetc.runtime.kernels.composed_operators
import danetc.runtime.kernels.neuron_operators  # noqa: F401  (both register torch.ops.danetc)
from danetc.compiler.emit.names import attribute, dotted, free, variable
from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.ops import OPS, TorchFunction, TorchModule
from danetc.runtime.layers.segments import SEGMENT, Segment

_NAMESPACES = frozenset(
    {"operator", "torch", "torch.nn", "torch.nn.functional", "torch.ops.danetc"}
)
_LAYERS = ("danetc.runtime.layers.", "danetc.compiler.emit.init")


def resolve(target: str) -> Any:
    """Return the public class or function ``target``. Raises ValueError for unknown modules."""
    namespace, _, name = target.rpartition(".")
    known = namespace in _NAMESPACES or namespace.startswith(_LAYERS)
    if not known or name.startswith("_"):
        raise ValueError(f"a model may not call {target}")
    if namespace == "torch.ops.danetc":
        return getattr(torch.ops.danetc, name).default
    return getattr(importlib.import_module(namespace), name)


def is_stepping(call: TorchModule | TorchFunction) -> bool:
    """True if the layer carries a state from one time step to the next."""
    return isinstance(call, TorchModule) and hasattr(resolve(call.target), "advance")


def parameter(graph: fx.Graph, base: str, names: set[str]) -> fx.Node:
    """Add a parameter to generated code, under a name that is not in ``names``.

    torch.fx writes the target of a placeholder verbatim as the name of the argument, so it must not
    hide a name that generated code reads; the name of the node does not.
    """
    taken = graph.placeholder(free(variable(base), names.__contains__))
    taken.target = taken.name
    names.add(taken.name)
    return taken


class ScopeBody:
    """The graph of one scope, and the layouts in which each value exists so far.

    ``source`` maps each value to the value whose leading dimensions it has; a flat value gets its
    T and N back from there. ``shared`` are values that are the same for all samples.
    """

    def __init__(self, nodes: Mapping[int, Node], shared: Collection[int], depth: int) -> None:
        self.nodes = nodes
        self.shared = shared
        self.depth = depth
        self.graph = fx.Graph()
        self.seq: dict[int, fx.Node] = {}
        self.flat: dict[int, fx.Node] = {}
        self.source: dict[int, int] = {}
        self.leads: dict[int, fx.Node] = {}
        self.segment: Segment | None = None  # of new nodes

    def define(self, id: int, value: fx.Node) -> None:
        """Add a value that is computed elsewhere, with its own leading dimensions."""
        self.seq[id] = value
        self.source[id] = id

    def call(
        self, path: tuple[str, ...], name: str, inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        """Call a child scope or a loop."""
        args = tuple(self.as_seq(id) for id in inputs)
        result = self._create("call_module", self.target(path), args, name)
        if len(outputs) == 1:
            self.define(outputs[0], result)
            return
        for index, id in enumerate(outputs):
            item = self._create("call_function", operator.getitem, (result, index), self.local(id))
            self.define(id, item)

    def node(self, node: Node, call: TorchModule | TorchFunction) -> None:
        """Call an operation."""
        self.source[node.id] = self._source(node)
        layout = self._layout(node, call)
        take = self.as_flat if layout == "flat" else self.as_seq
        operands = [take(id) for id in node.inputs]
        name = self.local(node.id)
        match call:
            case TorchModule():
                path = (*node.scope, node.name)
                result = self._create("call_module", self.target(path), tuple(operands), name)
            case TorchFunction():
                result = self._function(call, operands, name)
        (self.flat if layout == "flat" else self.seq)[node.id] = result

    def give(self, ids: Sequence[int]) -> None:
        """Return one value, or a tuple of several."""
        values = tuple(self.as_seq(id) for id in ids)
        self.graph.output(values[0] if len(values) == 1 else values)

    def as_seq(self, id: int) -> fx.Node:
        """The value as [T, N, ...], or [N, ...] if it does not vary."""
        if id not in self.seq:
            args = (self.flat[id], 0, self.leads[self.source[id]])
            self.seq[id] = self._create("call_method", "unflatten", args, f"{self.local(id)}_seq")
        return self.seq[id]

    def as_flat(self, id: int) -> fx.Node:
        """The value as [T * N, ...], or [N, ...] if it does not vary."""
        if id not in self.flat:
            source = self.source[id]
            if source not in self.leads:  # its leading dimensions: (T, N) or (N,)
                args: tuple[Any, ...] = (self.seq[source], "shape")
                shape = self._create("call_function", getattr, args, "shape")
                args = (shape, slice(None, -len(self.nodes[source].value.shape)))
                lead = self._create("call_function", operator.getitem, args, "lead")
                self.leads[source] = lead
            args = (self.seq[id], 0, -len(self.nodes[id].value.shape) - 1)
            self.flat[id] = self._create("call_method", "flatten", args, f"{self.local(id)}_flat")
        return self.flat[id]

    def target(self, path: tuple[str, ...]) -> str:
        """Dotted name of a module relative to this scope."""
        return dotted(*path[self.depth :])

    def local(self, id: int) -> str:
        value = self.seq.get(id)
        return (
            value.name if value is not None and value.op == "placeholder" else self.nodes[id].name
        )

    def _create(
        self, kind: str, target: Any, args: tuple[Any, ...], name: str, **kwargs: Any
    ) -> fx.Node:
        node = self.graph.create_node(kind, target, args, kwargs, name=attribute(name))
        if self.segment is not None:
            node.meta[SEGMENT] = self.segment
        return node

    def _layout(self, node: Node, call: TorchModule | TorchFunction) -> str:
        """The layout in which an operation runs; if it takes any, the layout of its operands."""
        if call.layout != "any":
            return call.layout
        same = len({self.source[id] for id in node.inputs}) == 1
        return "flat" if same and all(id not in self.seq for id in node.inputs) else "seq"

    def _source(self, node: Node) -> int:
        """The value whose leading dimensions the value of a node has.

        Varying values have T and N. A value that does not vary has N, or T and N if the input is a
        sequence, so two of them agree only if they come from the same value.
        """
        if OPS[node.op].time in ("creates", "reduces", "constant"):
            return node.id
        operands = [
            i
            for i in node.inputs
            if self.nodes[i].value.varies == node.value.varies and i not in self.shared
        ]
        sources = {self.source[id] for id in operands}
        if len(sources) == 1 or (sources and node.value.varies):
            return self.source[operands[0]]
        return node.id

    def _function(self, call: TorchFunction, operands: list[fx.Node], name: str) -> fx.Node:
        function = resolve(call.target)

        def apply(*args: Any, name: str = name) -> fx.Node:
            args = (*call.before, *args, *call.args)
            return self._create("call_function", function, args, name, **call.kwargs)

        if call.as_list:
            return apply(list(operands))
        if not call.fold:
            return apply(*operands)
        *earlier, last = operands
        return apply(reduce(lambda a, b: apply(a, b, name=f"{name}_part"), earlier), last)


class StepBody(ScopeBody):
    """The graph of one step of a loop, in which every value is [N, ...].

    ``states`` maps each stateful layer to its current state.
    """

    states: dict[int, fx.Node]

    def as_seq(self, id: int) -> fx.Node:
        return self.seq[id]

    def _layout(self, node: Node, call: TorchModule | TorchFunction) -> str:
        return "seq"

    def _source(self, node: Node) -> int:
        return node.id

    def node(self, node: Node, call: TorchModule | TorchFunction) -> None:
        if node.id not in self.states:
            super().node(node, call)
            return
        target = self.target((*node.scope, node.name))
        layer = self._create("get_attr", target, (), f"{node.name}_layer")
        args = (layer, [self.seq[id] for id in node.inputs], self.states[node.id])
        both = self._create("call_method", "advance", args, f"{node.name}_step")
        self.seq[node.id] = self._create("call_function", operator.getitem, (both, 0), node.name)
        self.states[node.id] = self._create(
            "call_function", operator.getitem, (both, 1), f"{node.name}_state"
        )
