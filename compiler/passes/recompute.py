"""Segments: parts of a network that run again in the backward pass instead of being saved.

The policy ``recompute`` does not rewrite the network: scopes, names, weights and the order of
operations stay the same. A segment is a sequence of blocks of a stage, or another scope with
convolutions (the stem, a transition). It saves its inputs and small values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod

from danetc.compiler.ir.at_node import macs_of
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import loops
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.user import user_layers
from danetc.dsl.record import record

POLICIES = ("none", "recompute")
"""Memory policies in descending order of speed."""
LEAST_GAIN = 1 / 3
"""Minimum memory saved per multiply-accumulate of a segment, relative to the average."""

Path = tuple[str, ...]


@record
class Segments:
    """Segment number of each node in a segment, and the segments that draw random numbers."""

    of: Mapping[int, int]
    random: frozenset[int]


NO_SEGMENTS = Segments({}, frozenset())


def plan_segments(graph: Graph) -> Segments:
    """Return the segments that need the least memory.

    If the inputs of blocks are integers, they are saved as bits, and each block is a segment. If
    they are real values, the length of segments is a trade-off between saved inputs and the memory
    of a segment while it runs again. Segments that save little memory for their cost are not used,
    nor segments with layers in Python, which may change their own state.
    """
    stages: dict[Path, dict[Path, list[Node]]] = defaultdict(dict)
    for node in graph.nodes.values():
        if (block := block_of(node)) is not None:
            stages[block[:-1]].setdefault(block, []).append(node)
    atoms = _atoms(graph, {path: list(blocks.values()) for path, blocks in stages.items()})
    numbers: dict[object, int] = {}
    of = {id: numbers.setdefault(atom, len(numbers)) for id, atom in atoms.items()}
    users = graph.users()
    for node in reversed(list(graph.nodes.values())):
        inside = all(graph[id].scope[: len(node.scope)] == node.scope for id in users[node.id])
        if node.id not in of and node.op != "input" and inside:
            _join(node, users[node.id], of)
    for loop in loops(graph):  # a loop runs again as a whole or not at all
        found = {of.pop(id, None) for id in loop.members}
        if len(found) == 1 and (number := found.pop()) is not None:
            of |= dict.fromkeys(loop.members, number)
    worth = _worth_it(of, graph) - {of.get(node.id) for node in user_layers(graph)}
    of = {id: number for id, number in of.items() if number in worth and graph[id].scope}
    return Segments(of, frozenset(of[id] for id in of if OPS[graph[id].op].random))


def block_of(node: Node) -> Path | None:
    """Return the scope of the block that contains a node."""
    for depth, (name, child) in enumerate(zip(node.scope, node.scope[1:], strict=False)):
        if name == "blocks" and child.isdecimal():
            return node.scope[: depth + 2]
    return None


def _worth_it(of: Mapping[int, int], graph: Graph) -> set[int]:
    """Return the segments that save enough memory for their cost.

    The last stages of a ResNet compute as much as the first ones, but save an eighth of the memory.
    """
    gains: dict[int, int] = defaultdict(int)
    costs: dict[int, int] = defaultdict(int)
    for id, number in of.items():
        node = graph[id]
        gains[number] += _elements(node, graph)
        costs[number] += macs_of(graph, node) * (graph.steps if node.value.varies else 1)
    average = sum(gains.values()) / max(1, sum(costs.values()))
    return {number for number in gains if gains[number] >= LEAST_GAIN * average * costs[number]}


def _elements(node: Node, graph: Graph) -> int:
    """Return the number of elements of a real value over all steps; 0 if it is saved as bits."""
    steps = graph.steps if node.value.varies else 1
    return 0 if node.value.kind.bits else steps * prod(node.value.shape)


def _made(nodes: list[Node], graph: Graph) -> int:
    return sum(_elements(node, graph) for node in nodes)


def _entering(nodes: list[Node], graph: Graph) -> set[int]:
    """Return the real values that enter nodes; concatenations are replaced by their operands."""
    inside = {node.id for node in nodes}
    waiting = [i for node in nodes for i in node.inputs]
    found: set[int] = set()
    while waiting:
        id = waiting.pop()
        if graph[id].op == "concat":
            waiting += graph[id].inputs
        elif id not in inside and not graph[id].value.kind.bits:
            found.add(id)
    return found


def _cuts(stages: Mapping[Path, list[list[Node]]], graph: Graph) -> dict[Path, list[int]]:
    """Return the segment of each block in its stage that minimizes the peak of the backward pass.

    While the backward pass runs a segment, memory holds the inputs of this and all earlier
    segments, and the values computed in the segment.
    """
    made = {path: [_made(nodes, graph) for nodes in blocks] for path, blocks in stages.items()}
    real = {p for p, blocks in stages.items() if any(_entering(b, graph) for b in blocks)}

    def cuts(room: int) -> dict[Path, list[int]]:
        return {
            path: _filled(sizes, room) if path in real else list(range(len(sizes)))
            for path, sizes in made.items()
        }

    def need(room: int) -> tuple[int, int]:
        saved: set[int] = set()
        most = 0
        for path, numbers in cuts(room).items():
            for number in sorted(set(numbers)):
                blocks = zip(numbers, stages[path], strict=True)
                nodes = [node for at, block in blocks if at == number for node in block]
                saved |= _entering(nodes, graph)
                held = sum(_elements(graph[id], graph) for id in saved)
                most = max(most, held + _made(nodes, graph))
        return most, sum(_elements(graph[id], graph) for id in saved)

    largest = max((size for sizes in made.values() for size in sizes), default=0)
    longest = max((len(sizes) for sizes in made.values()), default=1)
    return cuts(min((largest * n for n in range(1, longest + 1)), key=need))


def _filled(sizes: list[int], room: int) -> list[int]:
    """Number the segments. Each is as long as ``room`` allows, but at least one block."""
    numbers: list[int] = []
    number = held = 0
    for size in sizes:
        if held and held + size > room:
            number, held = number + 1, 0
        held += size
        numbers.append(number)
    return numbers


def _atoms(graph: Graph, stages: Mapping[Path, list[list[Node]]]) -> dict[int, object]:
    """Return a segment key for each node in a block or in another scope with convolutions."""
    atoms: dict[int, object] = {}
    for stage, numbers in _cuts(stages, graph).items():
        for number, block in zip(numbers, stages[stage], strict=True):
            atoms |= {node.id: (stage, number) for node in block}
    staged = {stage[:depth] for stage in stages for depth in range(len(stage) + 1)}
    scopes: dict[int, Path] = {}
    for node in graph.nodes.values():
        paths = (node.scope[:depth] for depth in range(1, len(node.scope) + 1))
        path = next((path for path in paths if path not in staged), None)
        if path is not None and node.id not in atoms:
            scopes[node.id] = path
    convolving = {path for id, path in scopes.items() if OPS[graph[id].op].convolves}
    atoms |= {id: path for id, path in scopes.items() if path in convolving}
    return {id: atoms[id] for id in graph.nodes if id in atoms}


def _join(node: Node, readers: list[int], of: dict[int, int]) -> None:
    """Add a node between blocks to a segment if less has to be saved then.

    A node between two blocks of a segment is added to it. A concatenation that only one segment reads
    is added to that segment, so that its operands are saved once for all segments.
    """
    reading = {of.get(id) for id in readers}
    inside = reading & {of.get(id) for id in node.inputs} - {None}
    found = min((s for s in inside if s is not None), default=None)
    if found is None and node.op == "concat" and len(reading) == 1:
        found = reading.pop()
    if found is not None:
        of[node.id] = found
