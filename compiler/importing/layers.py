"""Conversion of nodes to steps of a flow or to expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from danetc.compiler.importing.expressions import Unwritten, call, constant, flow, grouped
from danetc.compiler.importing.neurons import Described
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.kinds import number
from danetc.dsl.record import record

FIRED = "fired"
"""Block of one neuron: a stage of it can set another surrogate for the neuron."""

_STEPS: Mapping[str, Callable[[Node], str]] = {
    "global_avgpool": lambda node: "avgpool",
    "mean_over": lambda node: call(
        "mean", over=str(node.attrs["over"]), groups=constant(node.attrs["groups"])
    ),
    "sum_over_time": lambda node: "sum(over = time)",
    "swap": lambda node: call("swap", str(node.attrs["a"]), str(node.attrs["b"])),
}
"""Operations that have a different name in the language."""

_SIGNS: Mapping[str, str] = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_FUNCTIONS: Mapping[str, str] = {"maximum": "max", "minimum": "min", "concat": "concat"}
JOINS = frozenset({*_SIGNS, *_FUNCTIONS, "affine", "slice", "scores", "mix", "parameter"})
"""Operations that are expressions of values, not steps of a flow."""


@record(slots=False)
class Dialect:
    """Meanings of words in a network.

    ``neuron`` and ``norm`` are the meanings of `spike` and `norm`. ``neurons`` contains all neurons
    by key, ``surrogates`` the surrogates that differ from the network's.
    """

    graph: Graph
    neuron: Described | None
    neurons: Mapping[str, Described]
    surrogates: Mapping[str, str]
    norm: str = "batchnorm"

    def step(self, node: Node) -> str:
        """Write a node with one operand as a step of a flow. Raises Unwritten."""
        if node.op == "neuron":
            key = str(node.attrs["neuron"])
            found = self.neurons[key].call(self.neuron)
            if key in self.surrogates:
                found = f"(stage({FIRED}({found}), 1) with (surrogate = {self.surrogates[key]}))"
            return found
        found = plain_step(node)
        return "norm" if found == self.norm else found

    def value(self, node: Node, operands: Sequence[str]) -> str:
        """Write a node as an expression of its operands."""
        if node.op in _SIGNS:
            return f"({f' {_SIGNS[node.op]} '.join(map(grouped, operands))})"
        if node.op in _FUNCTIONS:
            return call(_FUNCTIONS[node.op], *operands)
        match node.op:
            case "affine":
                return _affine(node, grouped(operands[0]))
            case "slice":
                return f"{_named(operands[0])}[{node.attrs['first']} .. {node.attrs['last']}]"
            case "scores" | "mix":
                given = {name: constant(node.attrs[name]) for name in _changed(node)}
                return call(node.op, *operands, **given)
            case "parameter":
                each = [node.attrs[name] for name in ("height", "width")]
                per = "channel" if each in ([1, 1], [None, None]) else "neuron"
                return call("learn", constant(node.attrs["init"]), per=per)
        return flow(operands[0], self.step(node))


def _named(text: str) -> str:
    return text if text.isidentifier() else f"({text})"


def plain_step(node: Node) -> str:
    """Write a node with one operand as a call of its operation. Raises Unwritten."""
    if node.op in _STEPS:
        return _STEPS[node.op](node)
    row = OPS[node.op]
    if not row.public or row.arguments:
        raise Unwritten(f"the language has no text for the operation {node.op}")
    given = {name: constant(node.attrs[name]) for name in _changed(node)}
    first = row.parameters[0].name if row.parameters else ""
    bare = [given.pop(first)] if first in given and first != "over" else []
    return call(node.op, *bare, **given)


def _changed(node: Node) -> Iterable[str]:
    """Return the attributes that differ from the defaults, which may depend on other attributes."""
    row = OPS[node.op]
    given = {p.name: node.attrs[p.name] for p in row.parameters if node.attrs.get(p.name) is not None}  # fmt: skip
    for name in [*given]:
        others = {key: value for key, value in given.items() if key != name}
        try:
            implied = row.completed(others).get(name) == given[name]
        except (KeyError, TypeError):  # the default of another attribute requires it
            continue
        if implied:
            given = others
    return given


def _affine(node: Node, value: str) -> str:
    """Write ``factor * x + offset``; a factor of 1 and an offset of 0 are omitted."""
    factor, offset = (float(number(node.attrs, name)) for name in ("factor", "offset"))
    if factor == -1 and offset:
        return f"({_whole(offset)} - {value})"
    product = (
        value if factor == 1 else f"-{value}" if factor == -1 else f"{_whole(factor)} * {value}"
    )
    if not offset:
        return f"({product})"
    return f"({product} {'-' if offset < 0 else '+'} {_whole(abs(offset))})"


def _whole(value: float) -> str:
    return constant(int(value) if value.is_integer() and abs(value) < 1e15 else value)
