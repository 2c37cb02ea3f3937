"""Values of a rule's forms and of a graph's nodes, for bit-identical comparison.

Different ways to compute the same numbers have the same value, so that a pass may choose the
cheaper one. Values are consecutive integers (hash-consing).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import frexp
from typing import assert_never

from danetc.compiler.ir.graph import Graph, Node, Stage
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rule_forms import (
    Delayed,
    Form,
    InputOf,
    Join,
    Made,
    OutputOf,
    Scaled,
    ScaledByLearnt,
    Source,
    StageInput,
    folded,
)


class StageValues:
    """Values of a stage, from its input, outputs of its blocks and earlier steps.

    Identities that hold bit for bit are used: ``1.0 * a`` is a, ``a + b`` is ``b + a`` and ``a + a``
    is ``2.0 * a``; two factors are multiplied if one is a power of two; the maximum of a and a is a;
    ``concat(concat(a, b), c)`` is ``concat(a, b, c)``; a static value equals itself at each step.
    Sums fold from the left: ``a + (b + c)`` rounds differently.
    """

    def __init__(self, graph: Graph, stage: Stage) -> None:
        self.graph = graph
        self.stage = stage
        self._numbers: dict[tuple[object, ...], int] = {}
        self._keys: list[tuple[object, ...]] = []
        self._nodes: dict[int, int] = {}
        made = (block.output for block in stage.blocks if block.output != block.input)
        self._delayed = {form: id for id, form in stage.delayed}
        for id in (stage.entry, *self._delayed.values(), *made):  # a block may return its input
            self._nodes[id] = self._number("node", id)
        self._outputs = [self.node(block.output) for block in stage.blocks]

    def node(self, id: int) -> int:
        """Return the value of a node."""
        waiting = [id]
        while waiting:
            node = self.graph[waiting[-1]]
            joins = OPS[node.op].rule is not None
            reads = node.inputs if joins or node.op in ("affine", "repeat") else ()
            reads = node.inputs[1:] if self._learnt(node) else reads
            missing = [i for i in reads if i not in self._nodes]
            if missing and node.id not in self._nodes:
                waiting += missing
                continue
            if node.id not in self._nodes:
                self._nodes[node.id] = self._computed(node, reads)
            waiting.pop()
        return self._nodes[id]

    def form(self, form: Form) -> int:
        """Return the value of a rule's form."""
        return folded(form, self._source, self._made)

    def _source(self, source: Source) -> int:
        match source:
            case OutputOf(block):
                return self._outputs[block]
            case InputOf(block):
                return self.node(self.stage.blocks[block].input)
            case StageInput():
                return self._nodes[self.stage.entry]
            case Delayed():
                return self._nodes[self._delayed[source]]
        assert_never(source)

    def _made(self, form: Made, values: list[int]) -> int:
        match form:
            case Join(name):
                return self._folded(name, values)
            case Scaled(factor):
                return self._scaled(factor, values[0])
            case ScaledByLearnt(name):
                return self._number("learn", name, values[0])
        assert_never(form)

    def _number(self, *key: object) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._keys)
            self._keys.append(key)
        return self._numbers[key]

    def _computed(self, node: Node, reads: Iterable[int]) -> int:
        values = [self._nodes[i] for i in reads]
        if name := self._learnt(node):
            return self._number("learn", name, *values)
        join = OPS[node.op].rule
        if join is not None:
            return self._folded(join, values)
        if node.op == "repeat":
            return values[0]
        if node.op == "affine" and node.attrs["offset"] == 0.0:
            return self._scaled(float(node.attrs["factor"] or 0.0), values[0])
        return self._number("node", node.id)

    def _learnt(self, node: Node) -> str:
        """Return the path below the stage of the learnt numbers that are a product's first operand."""
        if node.op != "mul" or len(node.inputs) != 2:
            return ""
        first, depth = self.graph[node.inputs[0]], len(self.stage.scope)
        own = first.scope[:depth] == self.stage.scope and not OPS[first.op].for_samples
        return ".".join((*first.scope[depth:], first.name)) if own else ""

    def _folded(self, join: str, values: Iterable[int]) -> int:
        first, *others = values
        for other in others:
            first = self._joined(join, first, other)
        return first

    def _joined(self, join: str, left: int, right: int) -> int:
        if join == "concat":
            for part in self._parts(right):
                left = self._number("concat", left, part)
            return left
        if left == right:
            return self._scaled(2.0, left) if join == "sum" else left
        return self._number(join, min(left, right), max(left, right))

    def _parts(self, value: int) -> list[int]:
        """Return the parts of a concatenation in order."""
        parts: list[int] = []
        while self._keys[value][0] == "concat":
            _, rest, last = self._keys[value]
            assert isinstance(rest, int)
            assert isinstance(last, int)
            parts.append(last)
            value = rest
        return [value, *reversed(parts)]

    def _scaled(self, factor: float, value: int) -> int:
        match self._keys[value]:
            case ("scale", float(known), int(inner)) if _is_power(known) or _is_power(factor):
                factor, value = factor * known, inner
        return value if factor == 1.0 else self._number("scale", factor, value)


def _is_power(factor: float) -> bool:
    """Return True if a factor is a power of two, with either sign."""
    return abs(frexp(factor)[0]) == 0.5
