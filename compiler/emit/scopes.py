"""The tree of scopes of a graph, and the order in which a scope runs its parts.

Both writers of models, ``emitter`` (torch.fx) and ``python`` (``model.py``), walk the tree with
``Scopes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Union

import networkx as nx

from danetc.compiler.ir.graph import Graph, Node, unique
from danetc.compiler.ir.loops import loops
from danetc.dsl.record import record

Path = tuple[str, ...]
Step = tuple["Unit", Sequence[int], Sequence[int]]
"""A unit with the values that it takes and the values that it gives."""


@record(frozen=False, eq=False)
class LoopUnit:
    """A loop over time, which runs as one. ``name`` is unique in the scope ``path``."""

    path: Path
    name: str
    members: list[int]

    @property
    def target(self) -> Path:
        """The path of the module that runs the loop."""
        return (*self.path, self.name)


@record(frozen=False, eq=False)
class ScopeTree:
    """A scope: its own nodes, the scopes below it, and the ids of all nodes in both.

    The nodes of a loop over time belong to ``loops`` of the smallest scope that holds them.
    """

    path: Path
    nodes: list[Node] = field(default_factory=list)
    children: dict[str, ScopeTree] = field(default_factory=dict)
    members: list[int] = field(default_factory=list)
    loops: list[LoopUnit] = field(default_factory=list)

    @property
    def local(self) -> str:
        """A name for the value of the scope: ``branch``, ``block3`` for ``blocks.3``."""
        name = self.path[-1]
        if name.isdecimal():
            return (self.path[-2].removesuffix("s") if len(self.path) > 1 else "part") + name
        return name

    @property
    def units(self) -> list[Unit]:
        return [*self.nodes, *self.children.values(), *self.loops]

    def entries(self) -> Iterator[tuple[str, Node | ScopeTree]]:
        """Nodes and scopes by name, in the order of the spec: the order of their first node."""
        found: list[tuple[int, str, Node | ScopeTree]] = [
            *((node.id, node.name, node) for node in self.nodes),
            *((min(child.members), name, child) for name, child in self.children.items()),
        ]
        return ((name, entry) for _, name, entry in sorted(found, key=lambda item: item[0]))


Unit = Union[Node, ScopeTree, LoopUnit]


class Scopes:
    """The scopes of ``graph``, in the order in which they run.

    ``whole`` is the graph with all modules, if a pass has removed some nodes from ``graph``;
    ``holders`` are its scopes by path.
    """

    def __init__(self, graph: Graph, whole: Graph | None = None) -> None:
        self.graph = graph
        self.users = graph.users()
        self.position = {id: index for index, id in enumerate(graph.nodes)}
        self.loops = loop_units(graph)
        self.tree = scope_tree(_operations(graph), self.loops)
        self.holders = _by_path(scope_tree(_operations(whole or graph)))

    def walk(
        self, tree: ScopeTree, is_spread: Callable[[ScopeTree], bool] = lambda child: False
    ) -> list[Step]:
        """The units of a scope in order. The units of a child that ``is_spread`` take its place."""
        units = schedule(tree, self.graph, is_spread)
        return [
            (unit, unit.inputs, (unit.id,))
            if isinstance(unit, Node)
            else (unit, *self.crossing(unit))
            for unit in units
        ]

    def crossing(self, unit: ScopeTree | LoopUnit) -> tuple[list[int], list[int]]:
        """The values that cross into a unit and the values that cross out of it, in graph order."""
        members, results = set(unit.members), set(self.graph.outputs.values())
        taken = {i for id in members for i in self.graph[id].inputs if i not in members}
        made = {
            id for id in members if id in results or any(u not in members for u in self.users[id])
        }
        order = self.position.__getitem__
        return sorted(taken, key=order), sorted(made, key=order)


def _operations(graph: Graph) -> Iterator[Node]:
    return (node for node in graph.nodes.values() if node.op != "input")


def loop_units(graph: Graph) -> Mapping[int, LoopUnit]:
    """The loop of each node that is in one, under names that are free in their scopes."""
    found: dict[int, LoopUnit] = {}
    taken = graph.paths() if graph.carries else set()
    for loop in loops(graph):
        name = unique("loop", lambda text, at=loop.scope: (*at, text) in taken)  # type: ignore[misc]
        taken.add((*loop.scope, name))
        unit = LoopUnit(loop.scope, name, list(loop.members))
        found |= dict.fromkeys(loop.members, unit)
    return found


def scope_tree(nodes: Iterable[Node], within: Mapping[int, LoopUnit] | None = None) -> ScopeTree:
    """The scopes of ``nodes`` in topological order; the nodes ``within`` a loop are one unit."""
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


def _by_path(tree: ScopeTree) -> dict[Path, ScopeTree]:
    result = {tree.path: tree}
    for child in tree.children.values():
        result |= _by_path(child)
    return result


def schedule(
    scope: ScopeTree, graph: Graph, is_spread: Callable[[ScopeTree], bool] = lambda child: False
) -> list[Unit]:
    """Return an order in which every unit runs after the units that compute its inputs.

    A child scope cannot run in one call if it needs a value that is computed outside it from its own
    values. Its units are then called one by one, and the scope only holds their modules.
    """
    opened: list[ScopeTree] = []
    while True:
        units: dict[int, Unit] = {}
        waiting = scope.units
        while waiting:
            unit = waiting.pop()
            if isinstance(unit, ScopeTree) and (unit in opened or is_spread(unit)):
                waiting += unit.units
            else:
                units[members_of(unit)[0]] = unit
        flow = _flow(units, graph)
        try:
            return [units[first] for first in nx.lexicographical_topological_sort(flow)]
        except nx.NetworkXUnfeasible:
            parts = nx.strongly_connected_components(flow)
            tangled = [units[first] for part in parts if len(part) > 1 for first in part]
        scopes = [unit for unit in tangled if isinstance(unit, ScopeTree)]
        if not scopes:
            raise ValueError(f"the graph of {'.'.join(scope.path) or 'the network'} has a cycle")
        opened += scopes


def members_of(unit: Unit) -> list[int]:
    """Return the nodes of a unit."""
    return [unit.id] if isinstance(unit, Node) else unit.members


def _flow(units: Mapping[int, Unit], graph: Graph) -> nx.DiGraph[int]:
    """Edges between units, named by their first nodes: from each maker of a value to its readers."""
    owner = {id: first for first, unit in units.items() for id in members_of(unit)}
    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(units)
    flow.add_edges_from(
        (owner[operand], first)
        for id, first in owner.items()
        for operand in graph[id].inputs
        if owner.get(operand, first) != first
    )
    return flow
