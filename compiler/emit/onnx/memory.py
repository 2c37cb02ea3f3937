"""What a network remembers from one time step to the next, in a file of ONNX.

Its steps stand one behind the other; or in a loop; or the file is of one step, which takes what is
remembered and gives it.
"""

from __future__ import annotations

from dataclasses import field

import numpy as np
from onnx import ValueInfoProto, helper

from danetc.compiler.emit.onnx.writer import NodeWriter, proto_type
from danetc.compiler.ir.graph import Shape
from danetc.dsl.record import record


def zeros(to: NodeWriter, batch: str, shape: Shape, steps: int, start: float, single: bool) -> str:
    """What is remembered before the first step, of as many samples as ``batch`` says."""
    sizes = [*([to.ints(steps)] if steps > 1 else []), batch, to.ints(*shape)]
    size = to.node("Concat", *sizes, axis=0)
    return to.node("Expand", to.array(start, single), size)


class UnrolledMemory:
    """Steps one behind the other. ``batch`` is the number of samples, [1]."""

    def __init__(self, to: NodeWriter, batch: str) -> None:
        self.to = to
        self.batch = batch
        self.known: dict[str, str] = {}

    def before(self, name: str, shape: Shape, steps: int, start: float, single: bool) -> str:
        if name in self.known:
            return self.known[name]
        if single:  # a neuron's state, which its equations spread over the input
            return self.to.array(start, single)
        return zeros(self.to, self.batch, shape, steps, start, single)

    def after(self, name: str, value: str) -> None:
        self.known[name] = value


@record
class Remembered:
    """What goes from one step to the next: how the file calls it, its shape and where it starts."""

    name: str
    info: ValueInfoProto
    shape: Shape
    steps: int
    start: float
    single: bool


@record(frozen=False)
class CarriedMemory:
    """Steps in a loop, or one step alone: each takes what the one before has remembered."""

    to: NodeWriter
    items: dict[str, Remembered] = field(default_factory=dict)
    next: dict[str, str] = field(default_factory=dict)

    def before(self, name: str, shape: Shape, steps: int, start: float, single: bool) -> str:
        if name not in self.items:
            kind = proto_type(np.float32 if single else self.to.type)
            lead: list[int | str] = [steps, "N"] if steps > 1 else ["N"]
            label = self.to.claim(name)
            info = helper.make_tensor_value_info(label, kind, [*lead, *shape])
            self.items[name] = Remembered(label, info, shape, steps, start, single)
        return self.items[name].name

    def after(self, name: str, value: str) -> None:
        self.next[name] = value

    def results(self) -> list[ValueInfoProto]:
        """What is remembered for the next step, as outputs of the graph that is written."""
        found = []
        for name, item in self.items.items():
            given = self.to.claim(f"{item.name}_next")
            self.to.nodes.append(helper.make_node("Identity", [self.next[name]], [given], given))
            info = ValueInfoProto()
            info.CopyFrom(item.info)
            info.name = given
            found.append(info)
        return found
