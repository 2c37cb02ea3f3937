"""Segments: what runs again in the backward pass instead of being kept.

This is the plan of the policy ``recompute``, not a rewriting of the network: scopes, names, weights
and the order of operations stay. A segment is a run of whole blocks of a stage, or another scope
with convolutions (the stem, a transition). It keeps what enters it, and what is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from danetc.compiler.graph import Graph, Node
from danetc.compiler.ops import OPS

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segments:
    """The segment of each node that is in one, and the segments that draw random numbers."""

    of: Mapping[int, int]
    random: frozenset[int]


NO_SEGMENTS = Segments({}, frozenset())


def plan_segments(graph: Graph, length: int = 1) -> Segments:
    """Segments of ``length`` blocks, and one of each scope outside of blocks that convolves."""
    atoms = _atoms(graph, length)
    numbers: dict[object, int] = {}
    of = {id: numbers.setdefault(atom, len(numbers)) for id, atom in atoms.items()}
    users = graph.users()
    for node in reversed(list(graph.nodes.values())):
        if node.id not in of and node.op != "input":
            near = [id for id in users[node.id] if _beside(node, graph[id])]
            if len(near) == len(users[node.id]):
                _join(node, near, of)
    random = frozenset(of[id] for id in of if OPS[graph[id].op].random)
    return Segments(of, random)


def _atoms(graph: Graph, length: int) -> dict[int, object]:
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
            atoms[node.id] = block[:-1], places.setdefault(block, len(places)) // length
        else:
            depths = range(1, len(node.scope) + 1)
            path = next((node.scope[:d] for d in depths if node.scope[:d] not in staged), None)
            if path is not None:
                scopes[node.id] = path
    convolving = {path for id, path in scopes.items() if graph[id].op == "conv"}
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
