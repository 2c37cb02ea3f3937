"""Canonical forms of a graph's values, independent of names, the order of nodes and of sums.

Every value has a number. The number of a sum is the sum of its terms' numbers, and that of a multiple
the multiple, so that ``(a + b) + c``, ``c + (a + b)`` and ``a - (-b) + c`` have one number, in linear
time: no sum is expanded. The number of any other operation is random for its label and its operands.
Numbers are residues modulo a prime of 127 bits: different values share one with a probability of
about 1e-38.

In the ``exact`` form additions keep their order from the left, and only ``a + b = b + a`` is used:
values with one number are then the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import frexp
from random import Random

from danetc.compiler.analysis.equivalence.programs import program_form
from danetc.compiler.ir.at_node import operands
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record

PRIME = 2**127 - 1
SIDE = 3**70 % PRIME  # stands for a step to the right in a concatenation
LINEAR = frozenset({"add", "sub", "affine"})
FOLDED = frozenset({"maximum", "minimum"})
"""Operations that commute but are not associative: for equal operands, as spikes often are, each step
halves the gradient."""


class Palette:
    """Random numbers for keys, the same for the same key. Graphs that are compared share one."""

    def __init__(self) -> None:
        self._random = Random(20240701)
        self._numbers: dict[Hashable, int] = {}

    def __call__(self, *key: Hashable) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._random.randrange(1, PRIME)
        return number


def residue(value: object) -> int:
    """Return a float as a residue. The map is exact and preserves products and sums."""
    assert isinstance(value, (int, float))
    mantissa, exponent = frexp(value)
    return int(mantissa * 2**53) * pow(2, exponent - 53, PRIME) % PRIME


@record
class FormOptions:
    """Differences that a form keeps: ``starts`` for initial weights, ``exact`` for rounding."""

    starts: bool = True
    exact: bool = False


def passes_on(node: Node, source: Node) -> bool:
    """Return True if a node returns its input, like dropout of nothing or pooling of single pixels."""
    row = OPS[node.op]
    alike = source.value.shape == node.value.shape
    return alike and (row.same_shape or row.same(node.attrs))


def label(graph: Graph, node: Node, settings: FormOptions) -> tuple[Hashable, ...]:
    """Return name, attributes and shapes of an operation."""
    shapes = tuple(item.value.shape for item in graph.inputs_of(node))
    if node.op == "neuron":
        return ("neuron", program_form(graph.program(node)), shapes)
    alias = OPS[node.op].alias(node.attrs, operands(graph, node))
    if alias and not settings.exact:
        return (alias, (), shapes)
    skipped = set() if settings.starts else {"init"}
    skipped |= set() if settings.exact else OPS[node.op].rounds
    attrs = tuple(sorted((k, v) for k, v in node.attrs.items() if k not in skipped))
    return (node.op, attrs, shapes if node.inputs else node.value.shape)


class Forms:
    """Numbers of all values of a graph.

    Args:
        tags: numbers of nodes with weights and of carried values: nodes are alike only if their tags
            are.

    ``results`` are the numbers of outputs by name, and of carried values by tag: if they are equal for
    two graphs at a step, carried values are equal at the next. ``makers`` has the first node of each
    number that is no sum.
    """

    def __init__(
        self, graph: Graph, palette: Palette, settings: FormOptions, tags: Mapping[int, int]
    ) -> None:
        self.graph = graph
        self.palette = palette
        self.settings = settings
        self.tags = tags
        self.values: dict[int, int] = {}
        self.makers: dict[int, int] = {}
        self.passed: set[int] = set()
        self._products: dict[int, int] = {}
        self._sides: dict[int, tuple[int, int]] = {}
        for node in graph.nodes.values():
            self.values[node.id] = self._value(node, tags.get(node.id, 0)) % PRIME
            if not self.is_linear(node) and node.id not in self.passed:
                self.makers.setdefault(self.values[node.id], node.id)
        self.results: dict[str | int, int] = {n: self.values[id] for n, id in graph.outputs.items()}
        for id, source in graph.carries.items():
            if id in tags:
                self.results[tags[id]] = self.values[source]

    def source(self, result: str | int) -> int:
        """Return the node of one of the ``results``."""
        if isinstance(result, str):
            return self.graph.outputs[result]
        return next(of for id, of in self.graph.carries.items() if self.tags.get(id) == result)

    def is_linear(self, node: Node) -> bool:
        return node.op in LINEAR and not self.settings.exact

    def _value(self, node: Node, tag: int) -> int:
        reads = [self.values[i] for i in node.inputs]
        if reads and passes_on(node, self.graph[node.inputs[0]]):
            self.passed.add(node.id)
            return reads[0]
        if node.op in FOLDED or (node.op in ("add", "mul") and self.settings.exact):
            return self._fold(node, reads)
        match node.op:
            case "add":
                return sum(reads)
            case "sub" if not self.settings.exact:
                return reads[0] - reads[1]
            case "affine" if not self.settings.exact:
                offset = residue(node.attrs["offset"]) * self.palette("one")
                return residue(node.attrs["factor"]) * reads[0] + offset
            case "mul":
                return self._product(node, reads)
            case "concat":
                return self._concat(node, reads)
        return self.palette(label(self.graph, node, self.settings), tuple(reads), tag)

    def _fold(self, node: Node, reads: list[int]) -> int:
        """Fold pairs from the left, each in any order. The maximum of equal values is that value."""
        total = reads[0]
        for item in reads[1:]:
            if total != item or node.op not in FOLDED:
                total = self.palette(node.op, min(total, item), max(total, item))
        if total == reads[0]:
            self.passed.add(node.id)
        return total

    def _product(self, node: Node, reads: list[int]) -> int:
        """Return the number of a product; products of products are one product."""
        total = 1
        for operand, number in zip(node.inputs, reads, strict=True):
            own = self._products.get(operand)
            total = total * (own if own is not None else self.palette("factor", number)) % PRIME
        self._products[node.id] = total
        return self.palette("mul", total)

    def _concat(self, node: Node, reads: list[int]) -> int:
        """Return the number of a concatenation: a polynomial in ``SIDE`` over the channels, so that nested
        ones are one."""
        total, channels = 0, 0
        for item, number in zip(self.graph.inputs_of(node), reads, strict=True):
            width = item.value.shape[0]
            own = self._sides.get(item.id)
            part = own[0] if own is not None else self.palette("part", number, width)
            total = (total + part * pow(SIDE, channels, PRIME)) % PRIME
            channels += width
        self._sides[node.id] = total, channels
        return self.palette("concat", total)
