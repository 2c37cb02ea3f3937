"""The tree of scopes of a graph, and the order in which a scope runs what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Union

import networkx as nx

from danetc.compiler.ir.graph import Graph, Node, unique
from danetc.compiler.ir.loops import loops
from danetc.dsl.record import record


@record(frozen=False, eq=False)
class LoopUnit:
    """A loop over time: its nodes, which run as one. ``name`` is its own in the scope ``path``."""

    path: tuple[str, ...]
    name: str
    members: list[int]


@record(frozen=False, eq=False)
class ScopeTree:
    """A scope: the nodes that stand in it, the scopes below it, and all node ids of both.

    The nodes of a loop over time stand in ``loops`` of the smallest scope that holds them.
    """

    path: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)
    children: dict[str, ScopeTree] = field(default_factory=dict)
    members: list[int] = field(default_factory=list)
    loops: list[LoopUnit] = field(default_factory=list)

    @property
    def local(self) -> str:
        """A name for the value a scope gives: ``branch``, ``block3`` for ``blocks.3``."""
        name = self.path[-1]
        if name.isdecimal():
            return (self.path[-2].removesuffix("s") if len(self.path) > 1 else "part") + name
        return name

    def entries(self) -> Iterator[tuple[str, Node | ScopeTree]]:
        """Nodes and scopes by name, in the order of the spec: the order of their first node."""
        found: list[tuple[int, str, Node | ScopeTree]] = [
            *((node.id, node.name, node) for node in self.nodes),
            *((min(child.members), name, child) for name, child in self.children.items()),
        ]
        return ((name, entry) for _, name, entry in sorted(found, key=lambda item: item[0]))


Unit = Union[Node, ScopeTree, LoopUnit]


def crossing(
    tree: ScopeTree | LoopUnit,
    graph: Graph,
    users: Mapping[int, Sequence[int]],
    position: Mapping[int, int],
) -> tuple[list[int], list[int]]:
    """The values that cross into a scope or a loop and those that cross out of it, in the order of the graph.

    ``position`` is the place of each node in that order.
    """
    members, results = set(tree.members), set(graph.outputs.values())
    taken = {i for id in members for i in graph[id].inputs if i not in members}
    made = {id for id in members if id in results or any(u not in members for u in users[id])}
    return sorted(taken, key=position.__getitem__), sorted(made, key=position.__getitem__)


def loop_units(graph: Graph) -> Mapping[int, LoopUnit]:
    """The loop of each node that is in one, under names that are free in their scopes."""
    found: dict[int, LoopUnit] = {}
    taken: set[tuple[str, ...]] = set()
    if graph.carries:
        taken = {(*node.scope, node.name) for node in graph.nodes.values()}
        taken |= {n.scope[: i + 1] for n in graph.nodes.values() for i in range(len(n.scope))}
    for loop in loops(graph):
        name = unique("loop", lambda text, at=loop.scope: (*at, text) in taken)  # type: ignore[misc]
        taken.add((*loop.scope, name))
        unit = LoopUnit(loop.scope, name, list(loop.members))
        found |= dict.fromkeys(loop.members, unit)
    return found


def scope_tree(nodes: Iterable[Node], within: Mapping[int, LoopUnit] | None = None) -> ScopeTree:
    """The scopes of ``nodes``, which are in topological order, those ``within`` a loop as one."""
    root = ScopeTree(())
    for node in nodes:
        loop = within.get(node.id) if within else None
        path = node.scope if loop is None else loop.path
        scope = root
        scope.members.append(node.id)
        for depth, name in enumerate(path, 1):
            scope = scope.children.setdefault(name, ScopeTree(path[:depth]))
            scope.members.append(node.id)
        if loop is None:
            scope.nodes.append(node)
        elif loop not in scope.loops:
            scope.loops.append(loop)
    return root


def by_path(tree: ScopeTree) -> dict[tuple[str, ...], ScopeTree]:
    """A scope and all those below it."""
    result = {tree.path: tree}
    for child in tree.children.values():
        result |= by_path(child)
    return result


def schedule(scope: ScopeTree, graph: Graph) -> list[Unit]:
    """An order in which every unit has its inputs when its turn comes.

    A scope below that needs a value made from its own values outside of it cannot run in one
    call: its nodes are then run one by one here, and it only holds their modules.
    """
    loose: list[Unit] = [*scope.nodes, *scope.children.values(), *scope.loops]
    while True:
        units = {_ids(unit)[0]: unit for unit in loose}
        flow = _flow(units, graph)
        try:
            return [units[first] for first in nx.lexicographical_topological_sort(flow)]
        except nx.NetworkXUnfeasible:
            parts = nx.strongly_connected_components(flow)
            tangled = {first for part in parts if len(part) > 1 for first in part}
        if not any(isinstance(units[first], ScopeTree) for first in tangled):
            raise ValueError(f"the graph of {'.'.join(scope.path) or 'the network'} has a cycle")
        loose = []
        for first, unit in units.items():
            if isinstance(unit, ScopeTree) and first in tangled:
                loose += [*unit.nodes, *unit.children.values(), *unit.loops]
            else:
                loose.append(unit)


def _ids(unit: Unit) -> list[int]:
    return [unit.id] if isinstance(unit, Node) else unit.members


def _flow(units: Mapping[int, Unit], graph: Graph) -> nx.DiGraph[int]:
    """An edge to each unit, named by its first node, from each whose values it takes."""
    owner = {id: first for first, unit in units.items() for id in _ids(unit)}
    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(units)
    flow.add_edges_from(
        (owner[operand], first)
        for id, first in owner.items()
        for operand in graph[id].inputs
        if owner.get(operand, first) != first
    )
    return flow
