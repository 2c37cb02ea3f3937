"""Graphs built by hand for the tests of emission: small residual networks with true neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from danetc.compiler.ir.graph import Attribute, Graph, Node, Stage, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS
from danetc.dsl.kinds import ANALOG
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax.source import NOWHERE, Span

SIGMOID = (
    "surrogate sigmoid; _1 = mul 4.0 x; _2 = sigmoid _1; _3 = sub 1.0 _2; _4 = mul _2 _3; "
    "_5 = mul 4.0 _4; dy _5"
)
"""The derivative of 1 / (1 + exp(-4 x))."""
_TEXTS = {
    "IF": "neuron IF; state u = 0.0; v = add u x; _1 = sub v 1.0; s = heaviside _1; "
    f"_2 = sub 1.0 s; u_next = mul v _2; next u = u_next; out s; {SIGMOID}",
    "PLIF": "neuron PLIF; state u = 0.0; learn w = 0.0; _1 = sigmoid w; _2 = sub x u; "
    "_3 = mul _1 _2; v = add u _3; _4 = sub v 1.0; s = heaviside _4; _5 = sub 1.0 s; "
    f"u_next = mul v _5; next u = u_next; out s; {SIGMOID}",
    "ReLU": "neuron ReLU; s = relu x; out s",
}
PROGRAMS = {name: read_program(text) for name, text in _TEXTS.items()}
DEFAULTS: dict[str, dict[str, Attribute]] = {
    "groupnorm": {"groups": 2},
    "maxpool": {"kernel": 3, "stride": 2, "padding": 1},
    "avgpool": {"kernel": 2, "stride": 2, "padding": 0},
}


class Net:
    """A graph under construction. ``net(op, *inputs, name=..., **attrs)`` returns a node's id."""

    def __init__(
        self,
        shape: tuple[int, ...] = (3, 8, 8),
        steps: int = 3,
        neuron: str = "IF",
        varies: bool = False,
        programs: Mapping[str, NeuronProgram] = PROGRAMS,
        origin: Span = NOWHERE,
    ) -> None:
        self.neuron = neuron
        self.scope: tuple[str, ...] = ()
        self.steps = steps
        self.origin = origin
        self.programs = programs
        entry = Node(0, "input", (), {}, Value(shape, ANALOG, varies), (), "in", origin)
        self.nodes = {0: entry}
        self.inference = Inference(programs, self.nodes)

    def __call__(self, op: str, *inputs: int, name: str = "", **attrs: Attribute) -> int:
        attrs = OPS[op].completed({**DEFAULTS.get(op, {}), **attrs})
        id = len(self.nodes)
        value = self.inference.value(op, attrs, inputs)
        self.nodes[id] = Node(id, op, inputs, attrs, value, self.scope, name or op, self.origin)
        return id

    def spike(self, x: int, name: str = "spike", neuron: str = "") -> int:
        return self("neuron", x, name=name, neuron=neuron or self.neuron)

    @contextmanager
    def within(self, *names: str) -> Iterator[None]:
        outer, self.scope = self.scope, (*self.scope, *names)
        yield
        self.scope = outer

    def finish(self, *outputs: int, name: str = "net", stages: tuple[Stage, ...] = ()) -> Graph:
        named = {f"out{index}" if index else "out": id for index, id in enumerate(outputs)}
        return Graph(name, self.steps, self.nodes, named, stages, self.programs)


def stem(net: Net, x: int, width: int) -> int:
    with net.within("stem"):
        x = net("conv", x, name="conv", width=width)
        return net.spike(net("batchnorm", x, name="norm"))


def block(net: Net, x: int, width: int, stride: int) -> int:
    """The connection ``origin`` around two 3x3 convolutions, in the scope that is open."""
    with net.within("branch"):
        y = net("conv", x, name="conv1", width=width, stride=stride)
        y = net.spike(net("batchnorm", y, name="norm1"))
        y = net("conv", y, name="conv2", width=width)
        y = net("batchnorm", y, name="norm2")
    if net.nodes[x].value.shape != net.nodes[y].value.shape:
        with net.within("shortcut"):
            x = net("conv", x, name="conv", width=width, kernel=1, stride=stride)
            x = net("batchnorm", x, name="norm")
    return net.spike(net("add", y, x, name="add"))


def head(net: Net, x: int, classes: int = 5) -> int:
    with net.within("head"):
        x = net("flatten", net("global_avgpool", x, name="avgpool"))
        return net("linear", net("mean_over_time", x), name="linear", width=classes)


def resnet(
    neuron: str = "IF",
    widths: tuple[int, ...] = (4, 6),
    blocks: int = 3,
    steps: int = 3,
    varies: bool = False,
    rule_scope: tuple[str, ...] = ("blocks",),
) -> Graph:
    """Stages of ``origin`` blocks under the densely additive rule.

    ``rule_scope`` is where the rule's additions stand, below the stage's scope.
    """
    net = Net(neuron=neuron, steps=steps, varies=varies)
    x = stem(net, 0, widths[0])
    for s, width in enumerate(widths):
        outs: list[int] = []
        for i in range(blocks):
            with net.within("stages", str(s), *rule_scope):
                x = net("add", *outs, name=f"sum{i}") if len(outs) > 1 else x
            with net.within("stages", str(s), "blocks", str(i)):
                x = block(net, x, width, 2 if s and not i else 1)
            outs.append(x)
    return net.finish(head(net, x))
