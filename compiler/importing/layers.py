"""A node as the language writes it: a call in a flow, or an expression of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from danetc.compiler.importing.neurons import Described, Unwritten
from danetc.compiler.importing.trees import call, constant, flow, number
from danetc.compiler.ir.graph import Attribute, Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s

BATCHNORM = s.Name("batchnorm")
FIRED = "fired"
"""The block that is one neuron: in a stage of its own it has its own surrogate."""


@record(slots=False)
class Dialect:
    """What the words of a network mean: ``spike`` is ``neuron``, `norm` is ``norm``; ``neurons`` has
    all neurons by key, and ``surrogates`` those of them whose surrogate is not the network's."""

    graph: Graph
    neuron: Described | None
    neurons: Mapping[str, Described]
    surrogates: Mapping[str, s.Expr]
    norm: s.Expr = BATCHNORM

    def call(self, node: Node) -> s.Expr:
        """A node with one operand as a step of a flow. Raises Unwritten."""
        if node.op == "neuron":
            return self.spike(node, ())
        row = OPS[node.op]
        special = _STEPS.get(node.op)
        if special is not None:
            return self._norm(special(node)) if row.norm is not None else special(node)
        if not row.public or row.arguments:
            raise Unwritten(f"there is no text for the operation {node.op}")
        found = call_with(node.op, arguments(node))
        return found if row.norm is None else self._norm(found)

    def spike(self, node: Node, others: Sequence[s.Expr]) -> s.Expr:
        """A neuron as a step of a flow, with what flows in beside it."""
        key = str(node.attrs["neuron"])
        inputs = self.graph.neurons[key].inputs
        if len(inputs) != len(others):
            raise Unwritten("a neuron of several values that stands in a flow")
        named = dict(zip(inputs, others, strict=True))
        found = self.neurons[key].call(self.neuron, named)
        if key not in self.surrogates:
            return found
        stage = call("stage", call(FIRED, found), number(1))
        return s.With(stage, (s.Arg("surrogate", self.surrogates[key]),))

    def operands(self, node: Node) -> tuple[int, ...]:
        """What a node is written of: of a neuron of several values, each of them."""
        if node.op == "neuron" and self.graph.program(node).inputs:
            return self.graph[node.inputs[0]].inputs
        return node.inputs

    def plain_norm(self, node: Node) -> s.Expr:
        """A norm in full, by the name of its operation."""
        special = _STEPS.get(node.op)
        return call_with(node.op, arguments(node)) if special is None else special(node)

    def _norm(self, found: s.Expr) -> s.Expr:
        """A norm, as `norm` where it is the network's, also with another start."""
        if found == self.norm:
            return s.Name("norm")
        started = isinstance(found, s.Call) and {arg.name for arg in found.args} == {"init"}
        if started and _only_starts(found) and _only_starts(self.norm):
            assert isinstance(found, s.Call)
            return s.Call(s.Name("norm"), found.args)
        return found

    def join(self, node: Node, operands: Sequence[s.Expr]) -> s.Expr | None:
        """A node as an expression of its operands; None of one that is a step of a flow."""
        found = _JOINS.get(node.op)
        if found is not None:
            return found(node, operands)
        if len(operands) > 1 and node.op == "neuron":
            return flow(operands[0], self.spike(node, operands[1:]))
        row = OPS[node.op]
        if row.arguments and row.public:
            named = {row.arguments[i]: item for i, item in enumerate(operands)}
            return call(node.op, **named, **arguments(node))
        return None


def _only_starts(norm: s.Expr) -> bool:
    """Whether a norm is a batch norm that says at most what it starts from."""
    if isinstance(norm, s.Call):
        return norm.function == BATCHNORM and {arg.name for arg in norm.args} <= {"init"}
    return norm == BATCHNORM


def call_with(name: str, given: Mapping[str, s.Expr]) -> s.Expr:
    """A call whose first parameter needs no name, unless it is a word (`over = columns`)."""
    row = OPS[name]
    first = next((item.name for item in row.parameters[:1] if item.type is not str), "")
    rest = {key: value for key, value in given.items() if key != first}
    return call(name, *([given[first]] if first in given else []), **rest)


def arguments(node: Node) -> dict[str, s.Expr]:
    """The attributes that are not their defaults."""
    row = OPS[node.op]
    given: dict[str, Attribute] = {}
    for parameter in row.parameters:
        if parameter.sugar or parameter.name not in node.attrs:
            continue
        value = node.attrs[parameter.name]
        try:
            usual = row.completed(given).get(parameter.name)
        except (KeyError, TypeError):  # its default depends on one that is required
            usual = ...  # type: ignore[assignment]
        if value != usual and value is not None:
            given[parameter.name] = value
    # What follows from what was given later is left out too.
    for name in [*given]:
        less = {key: value for key, value in given.items() if key != name}
        try:
            if row.completed(less).get(name) == given[name]:
                given = less
        except (KeyError, TypeError):
            continue
    return {name: constant(value) for name, value in given.items()}


# -- steps of a flow that are written otherwise than they are called ---------------------------------


def _norm(node: Node) -> s.Expr:
    given: dict[str, s.Expr] = {}
    for name in ("init", "eps", "bias", "pad", "per_step", "statistics"):
        usual = {"init": 1.0, "eps": 1e-5, "bias": True, "pad": 0, "per_step": False}.get(name)
        value = node.attrs.get(name, usual)
        if value != usual:
            given[name] = s.Word(str(value)) if name == "statistics" else constant(value)
    if node.attrs.get("statistics") == "cumulative":
        given.pop("per_step", None)
    return call("batchnorm", **given)


def _over(name: str) -> Callable[[Node], s.Expr]:
    def step(node: Node) -> s.Expr:
        groups = node.attrs["groups"]
        more = {} if groups == 1 else {"groups": constant(groups)}
        return call(name, over=s.Word(str(node.attrs["over"])), **more)

    return step


def _over_time(name: str) -> Callable[[Node], s.Expr]:
    return lambda node: call(name, over=s.Word("time"))


def _resize(node: Node) -> s.Expr:
    more: dict[str, s.Expr] = {"mode": s.Word("bilinear")} if node.attrs["bilinear"] else {}
    rows, columns = constant(node.attrs["height"]), constant(node.attrs["width"])
    return call("upsample", rows=rows, columns=columns, **more)


def _swap_time(node: Node) -> s.Expr:
    return call("swap", s.Word("time"), s.Word(str(node.attrs["axis"])))


def _conv_along(node: Node) -> s.Expr:
    """A convolution over one axis; over time it is causal, or looks as far ahead as back."""
    kernel, dilation = node.attrs["kernel"], node.attrs["dilation"]
    assert isinstance(kernel, int)
    assert isinstance(dilation, int)
    over = node.attrs.get("axis", "time")
    more: dict[str, s.Expr] = {"kernel": constant(kernel), "over": s.Word(str(over))}
    usual = {
        "stride": 1, "padding": dilation * (kernel // 2), "groups": 1, "bias": False, "dilation": 1,
        "init": None,
    }  # fmt: skip
    more |= {k: constant(node.attrs[k]) for k, v in usual.items() if node.attrs.get(k, v) != v}
    if node.attrs.get("after"):
        more["padding"] = s.Word("same")
    return call("conv", constant(node.attrs["width"]), **more)


_STEPS: Mapping[str, Callable[[Node], s.Expr]] = {
    "batchnorm": _norm,
    "batchnorm_with": _norm,
    "global_avgpool": lambda node: s.Name("avgpool"),
    "sum_over": _over("sum"),
    "mean_over": _over("mean"),
    "max_over": _over("max"),
    "sum_over_time": _over_time("sum"),
    "max_over_time": _over_time("max"),
    "softmax_over_time": _over_time("softmax"),
    "linear_over_time": lambda node: _linear_over_time(node),
    "dropout_per_sample": lambda node: call(
        "dropout", constant(node.attrs["p"]), per=s.Word("sample")
    ),
    "repeat_channels": lambda node: call(
        "upsample", constant(node.attrs["scale"]), over=s.Word("channels")
    ),
    "bilinear": lambda node: call(
        "upsample", constant(node.attrs["scale"]), mode=s.Word("bilinear")
    ),
    "resize": _resize,
    "steps_as_axis": _swap_time,
    "axis_as_steps": _swap_time,
    "swap_with_time": _swap_time,
    "conv_over": _conv_along,
    "conv_over_time": _conv_along,
    "swap": lambda node: call("swap", s.Word(str(node.attrs["a"])), s.Word(str(node.attrs["b"]))),
}


def _linear_over_time(node: Node) -> s.Expr:
    more: dict[str, s.Expr] = {}
    if node.attrs.get("window") is not None:
        more["window"] = constant(node.attrs["window"])
    if not node.attrs["bias"]:
        more["bias"] = constant(False)
    return call("linear", over=s.Word("time"), **more)


# -- expressions of values -------------------------------------------------------------------------


def _folded(sign: str) -> Callable[[Node, Sequence[s.Expr]], s.Expr]:
    def join(node: Node, operands: Sequence[s.Expr]) -> s.Expr:
        total = operands[0]
        for item in operands[1:]:
            total = s.Binary(sign, total, item)
        return total

    return join


def _called(name: str) -> Callable[[Node, Sequence[s.Expr]], s.Expr]:
    return lambda node, operands: call(name, *operands)


def _affine(node: Node, operands: Sequence[s.Expr]) -> s.Expr:
    """``factor * x + offset``, without what does nothing."""
    factor, offset = float(_real(node.attrs["factor"])), float(_real(node.attrs["offset"]))
    (value,) = operands
    if factor == -1 and offset:
        return s.Binary("-", number(_whole(offset)), value)
    product = value if factor == 1 else s.Binary("*", number(_whole(factor)), value)
    if factor == -1:
        product = s.Unary("-", value)
    if not offset:
        return product
    return s.Binary("-" if offset < 0 else "+", product, number(_whole(abs(offset))))


def _real(value: Attribute) -> float:
    assert isinstance(value, (int, float))
    return value


def _whole(value: float) -> float:
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _slice(node: Node, operands: Sequence[s.Expr]) -> s.Expr:
    low, high = constant(node.attrs["first"]), constant(node.attrs["last"])
    return s.At(operands[0], (s.Range(low, high),))


def _parameter(node: Node, operands: Sequence[s.Expr]) -> s.Expr:
    named: dict[str, Any] = {
        name: constant(node.attrs[name])
        for name in ("above", "below")
        if node.attrs.get(name) is not None
    }
    sizes = [node.attrs[name] for name in ("channels", "height", "width")]
    given = [size for size in sizes if size is not None]
    if any(size != 1 for size in given[1:]):
        named["per"] = s.Word("neuron")
    elif given[0] != 1:
        named["per"] = s.Word("channel")
    if node.attrs["per_step"]:
        named["per_step"] = constant(True)
    return call("learn", constant(node.attrs["init"]), **named)


_JOINS: Mapping[str, Callable[[Node, Sequence[s.Expr]], s.Expr]] = {
    "add": _folded("+"),
    "sub": _folded("-"),
    "mul": _folded("*"),
    "div": _folded("/"),
    "maximum": _called("max"),
    "minimum": _called("min"),
    "concat": _called("concat"),
    "sqrt": _called("sqrt"),
    "affine": _affine,
    "slice": _slice,
    "parameter": _parameter,
}
JOINS = frozenset(_JOINS)
"""Operations that are written as expressions of values."""
