"""Inference of shape, kind and variation over time, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

from danetc.compiler.ir.graph import Attribute, Node, Value
from danetc.compiler.ir.ops import OPS, OpError
from danetc.compiler.ir.ops.kinds import number
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.inference import output_kind
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.ranges import NumberRange, RangeTable, Tables

_Known = tuple[Value, bool, Mapping[str, Attribute], tuple[Value, ...]]
"""Inferred value of an operation, and True if the integers that operands are computed from narrow it
further. Attributes and operands are referenced, since they are found by identity."""


class Inference:
    """Infers the values of nodes from those of their operands.

    ``nodes`` and the programs of ``neurons`` may grow; a node in it keeps its id, operation and
    operands.
    """

    def __init__(self, neurons: Mapping[str, NeuronProgram], nodes: Mapping[int, Node]) -> None:
        self.neurons = neurons
        self.nodes = nodes
        self._values: dict[tuple[object, ...], _Known] = {}
        self._equal: dict[Value, Value] = {}  # equal values share one object
        self._tables = Tables()
        self._known: dict[int, RangeTable | None] = {}

    def value(self, op: str, attrs: Mapping[str, Attribute], inputs: tuple[int, ...]) -> Value:
        """Return the value of an operation. Raises OpError if it cannot be applied.

        A join of static and varying operands varies.
        """
        nodes = self.nodes
        values = [nodes[id].value for id in inputs]
        key = op, id(attrs), *map(id, values)
        known = self._values.get(key)
        if known is None:
            known = self._values[key] = self._by_values(op, attrs, tuple(values))
        value, is_computed, *_ = known
        computed = self._computed(op, attrs, inputs) if is_computed else None
        if computed is None:
            return value
        value = replace(value, kind=Kind.of(computed[1]))
        return self._equal.setdefault(value, value)

    def forget(self, id: int) -> None:
        """Forget a node that was removed; its id will be reused."""
        self._known.pop(id, None)

    def _by_values(
        self, op: str, attrs: Mapping[str, Attribute], values: tuple[Value, ...]
    ) -> _Known:
        """Return what follows from the values of the operands alone."""
        row = OPS[op]
        if not row.takes_tokens and any(value.kind.is_token for value in values):
            raise OpError(
                f"{op} computes with numbers, but its input is tokens, which are indices",
                "give each token a vector of numbers first: `in -> embedding(64)`",
            )
        shape = row.shape(attrs, values)
        varies = any(value.varies for value in row.reads(values))
        if row.time == "neuron":
            program = self.neurons[str(attrs["neuron"])]
            kind = output_kind(program, values[0].kind)
        else:
            kind = row.kind(attrs, values)
        match row.time:
            case "creates" | "per_step" | "mixes":
                varies = True
            case "reduces" | "constant":
                varies = False
            case "neuron":
                varies = varies or program.varies
            case "pointwise":
                varies = varies or row.per_step(attrs)
        whole = row.numbers is not None and all(value.kind.is_integer for value in values)
        whole = whole and not kind.is_token
        value = Value(shape, kind, varies)
        return self._equal.setdefault(value, value), whole, attrs, values

    def _computed(
        self, op: str, attrs: Mapping[str, Attribute], inputs: tuple[int, ...]
    ) -> tuple[RangeTable, NumberRange] | None:
        """Return the table of an operation on integers, None if there are too many cases."""
        row = OPS[op]
        numbers = row.numbers
        assert numbers is not None
        constants = [float(number(attrs, parameter.name)) for parameter in row.parameters]
        operands = chain(constants, (self._table(id) for id in inputs))
        return self._tables.apply(lambda *values: numbers(values), operands)

    def _table(self, id: int) -> RangeTable | None:
        """Return a node's value as a function of the integers that it is computed from."""
        waiting = [id]
        while waiting:
            node = self.nodes[waiting[-1]]
            whole = OPS[node.op].numbers is not None and all(
                self.nodes[i].value.kind.is_integer for i in (node.id, *node.inputs)
            )
            missing = [i for i in node.inputs if i not in self._known] if whole else []
            if node.id not in self._known and not missing:
                found = self._computed(node.op, node.attrs, node.inputs) if whole else None
                own = self._tables.source(node.id, node.value.kind.range)
                self._known[node.id] = own if found is None else found[0]
            waiting = waiting[:-1] if node.id in self._known else [*waiting, *missing]
        return self._known[id]
