"""Graphs built by hand for the tests of emission: small residual networks with true neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from danetc.compiler import check_text
from danetc.compiler.ir.graph import Attribute, Graph, Node, Stage, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS
from danetc.dsl.kinds import ANALOG, Kind
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
        kind: Kind = ANALOG,
    ) -> None:
        self.neuron = neuron
        self.scope: tuple[str, ...] = ()
        self.steps = steps
        self.origin = origin
        self.programs = programs
        entry = Node(0, "input", (), {}, Value(shape, kind, varies), (), "in", origin)
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
) -> Graph:
    """Stages of ``origin`` blocks under the densely additive rule."""
    stages = " -> ".join(
        f"stage(basic({width}), {blocks}, stride = {2 if at else 1})"
        for at, width in enumerate(widths)
    )
    text = f"""use std
network net {{
  input = {"events" if varies else "image"}(3, 8, 8); steps = {steps}; neuron = {neuron}; surrogate = atan
  stem = conv({widths[0]}) -> norm -> spike
  stages = ({stages}) via origin by densely_additive
  head = avgpool -> mean_over_time -> linear(5)
}}"""
    return replace(check_text(text).graphs["net"], neurons={neuron: PROGRAMS[neuron]})
