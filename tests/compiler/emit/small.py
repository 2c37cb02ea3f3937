"""Graphs put together by hand: the emitters are tested without the front end."""

from __future__ import annotations

from dataclasses import dataclass, field

from danetc.compiler.ir.graph import (
    Attribute,
    Block,
    Graph,
    Node,
    Stage,
    Value,
)
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rule_forms import Form, Join, OutputOf, StageInput
from danetc.dsl.kinds import ANALOG
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax.source import SourceFile, Span

SOURCE = SourceFile("specs/small.danet", "network small {\n  head = avgpool\n}\n")
HERE = Span(SOURCE, 18, 32)
IF = read_program(
    "neuron IF; state u = 0.0; v = add u x; _1 = sub v 1.0; s = heaviside _1; _2 = sub 1.0 s; "
    "u_next = mul v _2; next u = u_next; out s; surrogate atan; _1 = mul x x; _2 = add 1.0 _1; "
    "_3 = div 1.0 _2; dy _3"
)


@dataclass
class Builder:
    """Adds nodes whose values the table of operations infers."""

    steps: int = 4
    program: NeuronProgram = IF
    nodes: dict[int, Node] = field(default_factory=dict)
    scope: tuple[str, ...] = ()

    def input(self, shape: tuple[int, ...], varies: bool = False) -> int:
        self.nodes[0] = Node(0, "input", (), {}, Value(shape, ANALOG, varies), (), "input", HERE)
        return 0

    def __call__(
        self, op: str, *inputs: int, name: str, origin: Span = HERE, **attrs: Attribute
    ) -> int:
        attrs = attrs if op == "neuron" else OPS[op].completed(attrs)
        value = Inference({"IF": self.program}, self.nodes).value(op, attrs, inputs)
        id = len(self.nodes)
        self.nodes[id] = Node(id, op, inputs, attrs, value, self.scope, name, origin)
        return id

    def spike(self, x: int, name: str = "spike") -> int:
        return self("neuron", x, name=name, neuron="IF")


def resnet(
    depths: tuple[int, ...] = (2, 2),
    widths: tuple[int, ...] = (4, 8),
    *,
    size: int = 8,
    steps: int = 3,
    classes: int = 5,
    dense: bool = True,
    bottleneck: bool = False,
    varies: bool = False,
    name: str = "small",
) -> Graph:
    """A residual network of the ``origin`` form, densely additive or a chain."""
    b = Builder(steps)
    x = b.input((3, size, size), varies)
    b.scope = ("stem",)
    x = b.spike(b("batchnorm", b("conv", x, name="conv", width=widths[0]), name="norm"))
    x = stem = b("maxpool", x, name="maxpool", kernel=3, stride=2, padding=1)
    stages = []
    for s, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        stride = 1 if s == 0 else 2
        stages.append(_stage(b, s, x, depth, width, stride, dense, bottleneck))
        x = stages[-1].result
    b.scope = ("head",)
    x = b("flatten", b("global_avgpool", x, name="avgpool"), name="flatten")
    x = b(
        "linear",
        b("mean_over_time", x, name="mean_over_time"),
        name="linear",
        width=classes,
        bias=True,
    )
    return Graph(name, steps, b.nodes, {"out": x}, tuple(stages), {"IF": b.program}, stem)


def _stage(
    b: Builder, s: int, x: int, depth: int, width: int, stride: int, dense: bool, bottleneck: bool
) -> Stage:
    entry, outs, blocks = x, [], []
    for i in range(depth):
        feed: Form = StageInput()
        b.scope = ("stages", str(s))
        if i and dense:
            feed = Join("sum", tuple(map(OutputOf, range(i)))) if i > 1 else OutputOf(0)
            x = outs[0]
            if i > 1:
                x = b("add", *outs, name=f"sum{i}")
        elif i:
            feed, x = OutputOf(i - 1), outs[-1]
        b.scope = scope = ("stages", str(s), "blocks", str(i))
        join, out = _block(b, x, scope, width, stride if i == 0 else 1, bottleneck)
        outs.append(out)
        blocks.append(Block(scope, x, out, join, ("neuron",), feed))
    rule = "densely_additive" if dense else "chain"
    form = OutputOf(depth - 1)
    return Stage(("stages", str(s)), "origin", rule, entry, tuple(blocks), outs[-1], form, HERE)


def _block(
    b: Builder, x: int, scope: tuple[str, ...], width: int, stride: int, bottleneck: bool
) -> tuple[int, int]:
    convs = [(width, 3, stride), (width, 3, 1)]
    if bottleneck:
        convs = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
    b.scope = (*scope, "branch")
    y = x
    for k, (w, kernel, step) in enumerate(convs, 1):
        if k > 1:
            y = b.spike(y, f"spike{k - 1}")
        y = b("conv", y, name=f"conv{k}", width=w, kernel=kernel, stride=step)
        y = b("batchnorm", y, name=f"norm{k}")
    short = x
    if b.nodes[x].value.shape != b.nodes[y].value.shape:
        b.scope = (*scope, "shortcut")
        short = b("conv", x, name="conv", width=convs[-1][0], kernel=1, stride=stride)
        short = b("batchnorm", short, name="norm")
    b.scope = scope
    join = b("add", y, short, name="add")
    return join, b.spike(join)
