"""Segments: what runs again in the backward pass instead of being kept.

This is the plan of the policy ``recompute``, not a rewriting of the network: scopes, names, weights
and the order of operations stay. A segment is a run of whole blocks of a stage, or another scope
with convolutions (the stem, a transition). It keeps what enters it, and what is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from danetc.compiler.ir.at_node import macs_of
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import loops
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record

POLICIES = ("none", "recompute")
"""Memory policies, the cheapest in time first."""

Path = tuple[str, ...]


@record
class Segments:
    """The segment of each node that is in one, and the segments that draw random numbers."""

    of: Mapping[int, int]
    random: frozenset[int]


NO_SEGMENTS = Segments({}, frozenset())


def plan_segments(graph: Graph, length: int | None = None) -> Segments:
    """Segments of ``length`` blocks, and one of each scope outside of blocks that convolves.

    Without a length, where whole numbers enter the blocks of a stage, they are kept in bits and a
    segment is one block. Where analog values enter, fewer entries are less to keep, but a longer
    segment is more to hold while it runs again: the segments are those that need least. A segment
    that computes much for little memory stays as it is.
    """
    stages: dict[Path, list[list[Node]]] = {}
    for path, nodes in _blocks(graph).items():
        stages.setdefault(path[:-1], []).append(nodes)
    if length is None:
        cuts = _cuts(stages, graph)
    else:
        cuts = {p: [i // length for i in range(len(blocks))] for p, blocks in stages.items()}
    atoms = _atoms(graph, cuts)
    numbers: dict[object, int] = {}
    of = {id: numbers.setdefault(atom, len(numbers)) for id, atom in atoms.items()}
    users = graph.users()
    for node in reversed(list(graph.nodes.values())):
        if node.id not in of and node.op != "input":
            near = [id for id in users[node.id] if _beside(node, graph[id])]
            if len(near) == len(users[node.id]):
                _join(node, near, of)
    for loop in loops(graph):  # a whole one runs again, or none of it
        found = {of.pop(id, None) for id in loop.members}
        if len(found) == 1 and (number := found.pop()) is not None:
            of |= dict.fromkeys(loop.members, number)
    if length is None:
        worth = _worth_it(of, graph)
        of = {id: number for id, number in of.items() if number in worth}
    of = {id: number for id, number in of.items() if graph[id].scope}  # the root has none
    random = frozenset(of[id] for id in of if OPS[graph[id].op].random)
    return Segments(of, random)


LEAST_GAIN = 1 / 3
"""How much a segment gains at least for its multiply-accumulates, in shares of the average."""


def _worth_it(of: Mapping[int, int], graph: Graph) -> set[int]:
    """The segments that free enough for what it takes to compute them again.

    The last stages of a ResNet compute as much as the first ones, and hold an eighth.
    """
    gains: dict[int, int] = {}
    costs: dict[int, int] = {}
    for id, number in of.items():
        node = graph[id]
        steps = graph.steps if node.value.varies else 1
        gains[number] = gains.get(number, 0) + _elements(node, graph)
        costs[number] = costs.get(number, 0) + macs_of(graph, node) * steps
    average = sum(gains.values()) / max(1, sum(costs.values()))
    return {number for number in gains if gains[number] >= LEAST_GAIN * average * costs[number]}


def _blocks(graph: Graph) -> dict[Path, list[Node]]:
    result: dict[Path, list[Node]] = {}
    for node in graph.nodes.values():
        path = block_of(node)
        if path is not None:
            result.setdefault(path, []).append(node)
    return result


def _cuts(stages: Mapping[Path, list[list[Node]]], graph: Graph) -> dict[Path, list[int]]:
    """For the blocks of each stage the number of their segment.

    What is there when the backward pass has come to a segment is what enters it and those before
    it, and what it makes when it runs again. The most of that is to be least.
    """
    made = {path: [_made(nodes, graph) for nodes in blocks] for path, blocks in stages.items()}
    analog = {p for p, blocks in stages.items() if any(_entering(b, graph) for b in blocks)}

    def cuts(room: int) -> dict[Path, list[int]]:
        return {
            path: _filled(sizes, room) if path in analog else list(range(len(sizes)))
            for path, sizes in made.items()
        }

    def need(room: int) -> tuple[int, int]:
        kept: set[int] = set()
        most = 0
        for path, numbers in cuts(room).items():
            for number in sorted(set(numbers)):
                blocks = zip(numbers, stages[path], strict=True)
                nodes = [node for at, block in blocks if at == number for node in block]
                kept |= _entering(nodes, graph)
                there = sum(_elements(graph[id], graph) for id in kept)
                most = max(most, there + _made(nodes, graph))
        return most, sum(_elements(graph[id], graph) for id in kept)

    largest = max((size for sizes in made.values() for size in sizes), default=0)
    longest = max((len(sizes) for sizes in made.values()), default=1)
    return cuts(min((largest * n for n in range(1, longest + 1)), key=need))


def _filled(sizes: list[int], room: int) -> list[int]:
    """Numbers of segments that hold at most ``room``, or one block; each as long as it can be."""
    numbers: list[int] = []
    number = held = 0
    for size in sizes:
        if held and held + size > room:
            number, held = number + 1, 0
        held += size
        numbers.append(number)
    return numbers


def _elements(node: Node, graph: Graph) -> int:
    """Elements of an analog value at all its steps; none of what is kept in bits."""
    steps = graph.steps if node.value.varies else 1
    return 0 if node.value.kind.bits else steps * prod(node.value.shape)


def _made(nodes: list[Node], graph: Graph) -> int:
    return sum(_elements(node, graph) for node in nodes)


def _entering(nodes: list[Node], graph: Graph) -> set[int]:
    """The analog values that a segment keeps of what it reads; of a concatenation, its parts."""
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


def _atoms(graph: Graph, cuts: Mapping[Path, list[int]]) -> dict[int, object]:
    """For each node of a block or a convolving scope what tells its segment from others."""
    staged = {
        node.scope[:depth]
        for node in graph.nodes.values()
        if (block := block_of(node)) is not None
        for depth in range(len(block))
    }
    order: dict[Path, dict[Path, int]] = {}
    atoms: dict[int, object] = {}
    scopes: dict[int, Path] = {}
    for node in graph.nodes.values():
        block = block_of(node)
        if block is not None:
            places = order.setdefault(block[:-1], {})
            atoms[node.id] = (
                block[:-1],
                cuts[block[:-1]][places.setdefault(block, len(places))],
            )
        else:
            depths = range(1, len(node.scope) + 1)
            path = next((node.scope[:d] for d in depths if node.scope[:d] not in staged), None)
            if path is not None:
                scopes[node.id] = path
    convolving = {path for id, path in scopes.items() if OPS[graph[id].op].convolves}
    atoms |= {id: path for id, path in scopes.items() if path in convolving}
    return {id: atoms[id] for id in graph.nodes if id in atoms}


def block_of(node: Node) -> Path | None:
    """The scope of the block that a node stands in."""
    for depth, (name, child) in enumerate(zip(node.scope, node.scope[1:], strict=False)):
        if name == "blocks" and child.isdecimal():
            return node.scope[: depth + 2]
    return None


def _beside(node: Node, reader: Node) -> bool:
    """Whether a reader stands in the scope of a node or below it."""
    return reader.scope[: len(node.scope)] == node.scope


def _join(node: Node, readers: list[int], of: dict[int, int]) -> None:
    """Take what a rule puts between blocks into a segment, where that keeps less.

    What stands between two blocks of one segment is inside of it. A concatenation that one segment
    reads is made there: its parts are kept once for all who concatenate them.
    """
    reading = {of.get(id) for id in readers}
    inside = reading & {of.get(id) for id in node.inputs} - {None}
    found = min((s for s in inside if s is not None), default=None)
    if found is None and node.op == "concat" and len(reading) == 1:
        found = reading.pop()
    if found is not None:
        of[node.id] = found
