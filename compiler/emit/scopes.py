"""The tree of scopes of a graph, and the order in which a scope runs what is in it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Union

import networkx

from danetc.compiler.ir.graph import Graph, Node


@dataclass(eq=False, slots=True)
class ScopeTree:
    """A scope: the nodes that stand in it, the scopes below it, and all node ids of both."""

    path: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)
    children: dict[str, ScopeTree] = field(default_factory=dict)
    members: list[int] = field(default_factory=list)

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


Unit = Union[Node, ScopeTree]


def scope_tree(nodes: Iterable[Node]) -> ScopeTree:
    """The scopes of ``nodes``, which are in topological order."""
    root = ScopeTree(())
    for node in nodes:
        scope = root
        scope.members.append(node.id)
        for depth, name in enumerate(node.scope, 1):
            scope = scope.children.setdefault(name, ScopeTree(node.scope[:depth]))
            scope.members.append(node.id)
        scope.nodes.append(node)
    return root


def schedule(scope: ScopeTree, graph: Graph) -> list[Unit]:
    """An order in which every unit has its inputs when its turn comes.

    A scope below that needs a value made from its own values outside of it cannot run in one
    call: its nodes are then run one by one here, and it only holds their modules.
    """
    units: list[Unit] = [*scope.nodes, *scope.children.values()]
    while True:
        needs = _needs(units, graph)
        order = _sort(units, needs)
        if len(order) == len(units):
            return order
        tangled = _tangled(needs)
        if not any(isinstance(units[index], ScopeTree) for index in tangled):
            raise ValueError(f"the graph of {'.'.join(scope.path) or 'the network'} has a cycle")
        loose: list[Unit] = []
        for index, unit in enumerate(units):
            if isinstance(unit, ScopeTree) and index in tangled:
                loose += [*unit.nodes, *unit.children.values()]
            else:
                loose.append(unit)
        units = loose


def _members(unit: Unit) -> list[int]:
    return unit.members if isinstance(unit, ScopeTree) else [unit.id]


def _needs(units: list[Unit], graph: Graph) -> list[set[int]]:
    """For each unit the units, by index, whose values it takes."""
    owner = {id: index for index, unit in enumerate(units) for id in _members(unit)}
    return [
        {
            owner[operand]
            for id in _members(unit)
            for operand in graph[id].inputs
            if owner.get(operand, index) != index
        }
        for index, unit in enumerate(units)
    ]


def _sort(units: list[Unit], needs: list[set[int]]) -> list[Unit]:
    """Topological order, the earliest node first among those that are ready. Stops at a cycle."""
    users: list[list[int]] = [[] for _ in units]
    for index, sources in enumerate(needs):
        for source in sources:
            users[source].append(index)
    missing = [len(sources) for sources in needs]
    ready = [(_members(unit)[0], index) for index, unit in enumerate(units) if not needs[index]]
    heapq.heapify(ready)
    order: list[Unit] = []
    while ready:
        _, index = heapq.heappop(ready)
        order.append(units[index])
        for user in users[index]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (_members(units[user])[0], user))
    return order


def _tangled(needs: list[set[int]]) -> set[int]:
    """Units that need their own values by way of others."""
    graph: networkx.DiGraph[int] = networkx.DiGraph()
    graph.add_edges_from(
        (source, index) for index, sources in enumerate(needs) for source in sources
    )
    return {
        unit
        for component in networkx.strongly_connected_components(graph)
        if len(component) > 1
        for unit in component
    }
