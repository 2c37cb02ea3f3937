"""Values of an untrained network whose norms have an initial weight of 0.

A norm with weight and bias 0 returns 0, a convolution of 0 returns 0, and a block whose branch
returns 0 equals its shortcut: the identity initialisation of Propositions 1 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import isfinite

from danetc.compiler.ir.graph import Block, Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.kinds import number
from danetc.dsl.neuron.opcodes import ConstantError
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import evaluate

Known = int | float
"""Id of a node with the same value (int), or a number that all elements are equal to (float)."""


def last_norms(graph: Graph) -> Mapping[tuple[str, ...], Node]:
    """Return the last norm of each scope, ignoring shortcuts."""
    found: dict[tuple[str, ...], Node] = {}
    for node in graph.nodes.values():
        if OPS[node.op].norm is not None:
            for depth in range(len(node.scope), -1, -1):
                if "shortcut" in node.scope[depth : depth + 1]:
                    break
                found[node.scope[:depth]] = node
    return found


def in_branch(block: Block, node: Node) -> bool:
    """True if a node of a block is in its branch, not after the join."""
    return node.scope[len(block.scope) : len(block.scope) + 1] == ("branch",)


def initial_values(graph: Graph) -> Mapping[int, Known]:
    """Return what each node is equal to at the first time step of an untrained network.

    Norms with an initial weight of 0 return 0, which is propagated. A block that returns 0 is
    silenced.
    """
    known: dict[int, Known] = {}
    for node in graph.nodes.values():
        reads = OPS[node.op].reads(node.inputs)
        known[node.id] = _known(graph, node, [known[i] for i in reads])
    return known


def _known(graph: Graph, node: Node, reads: list[Known]) -> Known:
    row = OPS[node.op]
    constant = row.constant(node.attrs)
    if constant is not None:
        return constant
    numbers = [value for value in reads if isinstance(value, float)]
    if numbers and (len(numbers) == len(reads) or row.absorbing in numbers):
        found = _number(graph, node, numbers)
        return node.id if found is None else found
    alike = all(item.value.shape == node.value.shape for item in graph.inputs_of(node))
    if not reads or not alike:
        return node.id
    if len(reads) == 1:
        return reads[0] if row.same(node.attrs) else node.id
    others = [value for value in reads if value != row.neutral or isinstance(value, int)]
    first = row.commutes or reads[0] != row.neutral or isinstance(reads[0], int)
    return others[0] if len(others) == 1 and first and isinstance(others[0], int) else node.id


def _number(graph: Graph, node: Node, reads: list[float]) -> float | None:
    """Return the number that a node returns for constant or absorbing operands, or None."""
    row = OPS[node.op]
    if len(reads) < len(row.reads(node.inputs)):
        return row.absorbing
    try:
        if row.time == "neuron":
            return first_output(graph.program(node), reads[0])
        if row.numbers is None:
            return row.of_constant(node.attrs, reads[0]) if len(reads) == 1 else None
        constants = [number(node.attrs, parameter.name) for parameter in row.parameters]
        found = float(row.numbers([*constants, *reads]))
    except (ConstantError, OverflowError):
        return None
    return found if isfinite(found) else None


@lru_cache(maxsize=512)
def first_output(program: NeuronProgram, x: float) -> float:
    """Return the output of a neuron at its first time step if all its inputs are ``x``.

    Raises ConstantError or OverflowError if it is not a finite number, or drawn at random.
    """
    if any(item.random for item in program.learnables):
        raise ConstantError("a random start")
    values: dict[str, float | bool] = dict.fromkeys(program.takes, x)
    values |= {state.name: state.init for state in program.states}
    values |= {item.parameter: item.raw for item in program.learnables}
    output = program.output
    result = float(evaluate(program.ops, values)[output] if isinstance(output, str) else output)
    if not isfinite(result):
        raise ConstantError(f"an output of {result:g}")
    return result
