"""The code of one scope as it grows: nodes of torch.fx, with time and batch apart or as one dimension."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any

from torch import fx

from danetc.compiler.emit.names import attribute, dotted
from danetc.compiler.emit.python.names import free, variable
from danetc.compiler.emit.targets import resolve
from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.ops import OPS, TorchFunction, TorchModule
from danetc.runtime.layers.joined import beside_others
from danetc.runtime.layers.segments import SEGMENT, Segment


def parameter(graph: fx.Graph, base: str, names: set[str]) -> fx.Node:
    """A parameter of generated code; ``names`` are those of the parameters before it.

    A placeholder's target is the name that the code takes the argument by, and torch.fx writes it
    as it is. The name of its node hides nothing that the code of torch.fx reads.
    """
    taken = graph.placeholder(free(variable(base), names.__contains__))
    taken.target = taken.name
    names.add(taken.name)
    return taken


class ScopeBody:
    """The graph of one scope as it grows, with the layouts in which each value exists.

    ``seq`` values have T and N apart, ``flat`` ones as one dimension. ``source`` names for each
    value the one whose leading dimensions it shares, from which a flat value gets them back.
    ``parts`` are sequences that stand beside others. ``shared`` are values that all samples share.
    """

    def __init__(self, nodes: Mapping[int, Node], shared: Collection[int], depth: int) -> None:
        self.nodes = nodes
        self.shared = shared
        self.depth = depth
        self.graph = fx.Graph()
        self.seq: dict[int, fx.Node] = {}
        self.flat: dict[int, fx.Node] = {}
        self.parts: dict[int, fx.Node] = {}
        self.source: dict[int, int] = {}
        self.leads: dict[int, fx.Node] = {}
        self.segment: Segment | None = None  # that of the nodes being made

    def define(self, id: int, value: fx.Node) -> None:
        """A value with leading dimensions of its own: one that comes from elsewhere."""
        self.seq[id] = value
        self.source[id] = id

    def call(self, path: tuple[str, ...], name: str, inputs: list[int], outputs: list[int]) -> None:
        """Call a child scope, or a loop, on the values it takes."""
        args = tuple(self.as_seq(id) for id in inputs)
        result = self._create("call_module", self.target(path), args, name)
        if len(outputs) == 1:
            self.define(outputs[0], result)
            return
        for index, id in enumerate(outputs):
            item = self._create("call_function", operator.getitem, (result, index), self.local(id))
            self.define(id, item)

    def node(self, node: Node, call: TorchModule | TorchFunction) -> None:
        """One operation of this scope."""
        self.source[node.id] = self._source(node)
        layout = self._layout(node, call)
        take = {"flat": self.as_flat, "beside": self.as_part}.get(layout, self.as_seq)
        operands = [take(id) for id in node.inputs]
        name = self.local(node.id)
        match call:
            case TorchModule():
                path = (*node.scope, node.name)
                result = self._create("call_module", self.target(path), tuple(operands), name)
            case TorchFunction():
                result = self._function(call, operands, name)
        (self.flat if layout == "flat" else self.seq)[node.id] = result

    def give(self, ids: list[int]) -> None:
        """What the scope returns: one value, or a tuple of several."""
        values = tuple(self.as_seq(id) for id in ids)
        self.graph.output(values[0] if len(values) == 1 else values)

    def as_seq(self, id: int) -> fx.Node:
        """[T, N, ...], or [N, ...] for what does not vary."""
        if id not in self.seq:
            args = (self.flat[id], 0, self.leads[self.source[id]])
            self.seq[id] = self._create("call_method", "unflatten", args, f"{self.local(id)}_seq")
        return self.seq[id]

    def as_flat(self, id: int) -> fx.Node:
        """[T * N, ...], or [N, ...] for what does not vary."""
        if id not in self.flat:
            self._lead(self.source[id])
            last = -len(self.nodes[id].value.shape) - 1
            args = (self.seq[id], 0, last)
            self.flat[id] = self._create("call_method", "flatten", args, f"{self.local(id)}_flat")
        return self.flat[id]

    def as_part(self, id: int) -> fx.Node:
        """As a sequence, for what several read beside others (``runtime.layers.joined``)."""
        if id not in self.parts:
            args = (self.as_seq(id), -len(self.nodes[id].value.shape))
            name = f"{self.local(id)}_part"
            self.parts[id] = self._create("call_function", beside_others, args, name)
        return self.parts[id]

    def target(self, path: tuple[str, ...]) -> str:
        """The dotted name of a module from this scope on."""
        return dotted(*path[self.depth :])

    def local(self, id: int) -> str:
        value = self.seq.get(id)
        return (
            value.name if value is not None and value.op == "placeholder" else self.nodes[id].name
        )

    def _create(self, kind: str, target: Any, args: tuple[Any, ...], name: str) -> fx.Node:
        return self._marked(self.graph.create_node(kind, target, args, name=attribute(name)))

    def _marked(self, node: fx.Node) -> fx.Node:
        if self.segment is not None:
            node.meta[SEGMENT] = self.segment
        return node

    def _lead(self, id: int) -> None:
        """Take the leading dimensions of a value: (T, N) or (N,)."""
        if id not in self.leads:
            shape = self._create("call_function", getattr, (self.seq[id], "shape"), "shape")
            leading = slice(None, -len(self.nodes[id].value.shape))
            self.leads[id] = self._create(
                "call_function", operator.getitem, (shape, leading), "lead"
            )

    def _layout(self, node: Node, call: TorchModule | TorchFunction) -> str:
        """The layout an operation runs in: where it takes any, the one its operands have."""
        if call.layout != "any":
            return call.layout
        same = len({self.source[id] for id in node.inputs}) == 1
        return "flat" if same and all(id not in self.seq for id in node.inputs) else "seq"

    def _source(self, node: Node) -> int:
        """The value whose leading dimensions a node's value has.

        All that varies has T and N. What does not vary has N alone, or T and N too where the
        input is a sequence, so that two of those agree only if they come from the same value.
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
            made = self.graph.create_node(
                "call_function", function, args, dict(call.kwargs), name=attribute(name)
            )
            return self._marked(made)

        if call.as_list:
            return apply(list(operands))
        if not call.fold:
            return apply(*operands)
        *earlier, last = operands
        return apply(reduce(lambda a, b: apply(a, b, name=f"{name}_part"), earlier), last)


class StepBody(ScopeBody):
    """The graph of one step of a loop: every value is of that step alone, [N, ...].

    ``states`` has of each layer with a state what holds it, before the step and then behind it.
    """

    states: dict[int, fx.Node]

    def as_seq(self, id: int) -> fx.Node:
        return self.seq[id]

    def as_flat(self, id: int) -> fx.Node:
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
