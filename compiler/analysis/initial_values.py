"""What a network's values are before training, where norms start at weight 0.

A norm with weight and bias 0 gives 0 whatever it reads, a convolution of 0 gives 0, and a block
whose branch gives 0 is its shortcut: the identity initialisation of Propositions 1 and 4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from math import isfinite, prod

from danetc.compiler.ir.graph import Block, Graph, Node
from danetc.dsl.neuron.opcodes import ConstantError
from danetc.dsl.neuron.program import INPUT, NeuronProgram
from danetc.dsl.neuron.ssa import evaluate

Known = int | float
"""The id of the node that a value is the same as (an int), or the number it has everywhere (a
float)."""

_UNMOVED = frozenset({"repeat", "dropout", "droppath", "flatten", "upsample", "mean_over_time"})
_ZERO_OF_ZERO = frozenset(
    {"maxpool", "avgpool", "global_avgpool", "batchnorm", "tebn", "groupnorm"}
)


def last_norm(graph: Graph, block: Block) -> Node | None:
    """The last norm of a block, its shortcut left out."""
    depth = len(block.scope)
    inside = [
        node
        for node in graph.nodes.values()
        if node.scope[:depth] == block.scope and "shortcut" not in node.scope[depth:]
    ]
    return next((node for node in reversed(inside) if "init" in node.attrs), None)


def in_branch(block: Block, node: Node) -> bool:
    """Whether a node of a block stands in its branch, and not after the join."""
    return node.scope[len(block.scope) : len(block.scope) + 1] == ("branch",)


def with_zeros(graph: Graph, norms: Collection[int]) -> Graph:
    """The graph with these norms starting at 0."""
    nodes = {
        id: replace(node, attrs={**node.attrs, "init": 0.0}) if id in norms else node
        for id, node in graph.nodes.items()
    }
    return replace(graph, nodes=nodes)


def at_start(graph: Graph) -> Mapping[int, Known]:
    """For every node what it is the same as at the first step of an untrained network.

    A norm that starts at 0 is 0; what follows from that is followed.
    """
    known: dict[int, Known] = {}
    for node in graph.nodes.values():
        known[node.id] = _known(graph, node, [known[i] for i in node.inputs])
    return known


def _known(graph: Graph, node: Node, reads: list[Known]) -> Known:
    if node.attrs.get("init") == 0.0:
        return 0.0
    numbers = [value for value in reads if isinstance(value, float)]
    others = [value for value in reads if isinstance(value, int)]
    whole = all(item.value.shape == node.value.shape for item in graph.inputs_of(node))
    match node.op:
        case "add" if whole:
            return _rest(node, others, sum(numbers), 0.0)
        case "mul" if whole:
            product = float(prod(numbers))
            return 0.0 if numbers and product == 0 else _rest(node, others, product, 1.0)
        case "sub" if whole and isinstance(reads[1], float):
            return _rest(node, others, (numbers[0] if not others else 0.0) - reads[1], 0.0)
        case "affine":
            factor, offset = node.attrs["factor"], node.attrs["offset"]
            assert isinstance(factor, (int, float))
            assert isinstance(offset, (int, float))
            if numbers or factor == 0:
                return float(factor * (numbers[0] if numbers else 0.0) + offset)
            return others[0] if (factor, offset) == (1, 0) else node.id
        case "neuron" if numbers:
            try:
                return first_output(graph.program(node), numbers[0])
            except (ConstantError, OverflowError):
                return node.id
    if len(reads) == 1 and numbers:
        zero = numbers[0] == 0.0
        without_bias = node.op in ("conv", "linear") and not node.attrs["bias"]
        if node.op in _UNMOVED or (zero and (node.op in _ZERO_OF_ZERO or without_bias)):
            return numbers[0]
    return node.id


def _rest(node: Node, others: list[int], number: float, neutral: float) -> Known:
    """A sum or product of values and a number: one of them where that is all that is left."""
    if not others:
        return number
    return others[0] if len(others) == 1 and number == neutral else node.id


@lru_cache(maxsize=512)
def first_output(program: NeuronProgram, x: float) -> float:
    """What a neuron gives at its first time step for the input ``x``.

    Raises ConstantError or OverflowError where that is no finite number.
    """
    values: dict[str, float | bool] = {INPUT: x}
    values |= {state.name: state.init for state in program.states}
    values |= {item.parameter: item.raw for item in program.learnables}
    output = program.output
    result = float(evaluate(program.ops, values)[output] if isinstance(output, str) else output)
    if not isfinite(result):
        raise ConstantError(f"an output of {result:g}")
    return result
