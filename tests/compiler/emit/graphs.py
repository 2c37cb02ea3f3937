"""Small graphs for the emission tests: built by hand, or residual networks with given neurons."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from danetc.compiler import check_text
from danetc.compiler.ir.graph import Attribute, Graph, Node, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS
from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax.source import NOWHERE

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
        self, shape: tuple[int, ...] = (3, 8, 8), varies: bool = False, kind: Kind = ANALOG
    ) -> None:
        self.scope: tuple[str, ...] = ()
        value = Value(shape, kind, varies)
        self.nodes = {0: Node(0, "input", (), {}, value, (), "in", NOWHERE)}
        self.inference = Inference(PROGRAMS, self.nodes)

    def __call__(self, op: str, *inputs: int, name: str = "", **attrs: Attribute) -> int:
        attrs = OPS[op].completed({**DEFAULTS.get(op, {}), **attrs})
        id = len(self.nodes)
        value = self.inference.value(op, attrs, inputs)
        self.nodes[id] = Node(id, op, inputs, attrs, value, self.scope, name or op, NOWHERE)
        return id

    def spike(self, x: int, name: str = "spike", neuron: str = "IF") -> int:
        return self("neuron", x, name=name, neuron=neuron)

    @contextmanager
    def within(self, *names: str) -> Iterator[None]:
        outer, self.scope = self.scope, (*self.scope, *names)
        yield
        self.scope = outer

    def finish(self, *outputs: int) -> Graph:
        named = {f"out{index}" if index else "out": id for index, id in enumerate(outputs)}
        return Graph("net", 3, self.nodes, named, (), PROGRAMS)


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
