"""Any part of a network as dataflow: definitions of what is read several times, and one value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping

from danetc.compiler.importing.layers import Dialect
from danetc.compiler.importing.neurons import Unwritten
from danetc.compiler.importing.trees import call, constant, flow
from danetc.compiler.ir.graph import Graph, Node
from danetc.dsl.syntax import tree as s

RESERVED = frozenset({"in", "out"})


def passes_value(graph: Graph, node: Node, users: Iterable[Node]) -> bool:
    """Whether the language says a node by itself: an image at each time step, a map as a vector."""
    if node.op in {"repeat", "as_map"}:
        return True
    return (
        node.op == "flatten"
        and bool(readers := [*users])
        and all(user.op == "linear" for user in readers)
    )


def dataflow(
    dialect: Dialect, nodes: Iterable[int], given: Mapping[int, s.Expr], results: Iterable[int]
) -> tuple[list[s.Define], dict[int, s.Expr]]:
    """Nodes as definitions and the expressions of ``results``; ``given`` are values by their names.

    Raises Unwritten, also where a loop over time, or a place of shared weights, lies outside.
    """
    graph = dialect.graph
    wanted = [id for id in nodes if id not in given and graph[id].op != "beside"]
    inside = set(wanted)
    looped = _carried(graph, inside)
    layers, lines = _shared(dialect, inside)
    users: dict[int, list[Node]] = {id: [] for id in [*given, *wanted]}
    for id in wanted:
        for i in dialect.operands(graph[id]):
            if i in users:
                users[i].append(graph[id])
    ends = Counter(results)
    values: dict[int, s.Expr] = dict(given)
    count = len(looped)
    for id in wanted:
        node = graph[id]
        if id in graph.carries:
            late = call("delay", constant(node.attrs["steps"]))
            value = flow(s.Name(looped[graph.carries[id]]), late)
        elif node.inputs and passes_value(graph, node, users[id]) and id not in looped:
            values[id] = values[node.inputs[0]]
            continue
        else:
            operands = [values[i] for i in dialect.operands(node)]
            joined = dialect.join(node, operands)
            if joined is None:
                joined = flow(operands[0], layers[id] if id in layers else dialect.call(node))
            value = joined
        if (known := looped.get(id)) is not None or len(users[id]) + ends[id] > 1:
            count += known is None
            name = known or f"v{count}"
            lines.append(s.Define(name, None, value))
            value = s.Name(name)
        values[id] = value
    return lines, {id: values[id] for id in ends}


def _carried(graph: Graph, inside: Container[int]) -> dict[int, str]:
    """Names of what loops carry from one step to the next."""
    found: dict[int, str] = {}
    for id, source in graph.carries.items():
        if (id in inside) != (source in inside):
            raise Unwritten("a loop over time that is not inside of one part")
        if id in inside and source not in found:
            found[source] = f"v{len(found) + 1}"
    return found


def _shared(dialect: Dialect, inside: Container[int]) -> tuple[dict[int, s.Expr], list[s.Define]]:
    """Layers at several places by the nodes of these, and their definitions."""
    places: dict[int, list[int]] = {}
    for id, owner in dialect.graph.shares.items():
        places.setdefault(owner, [owner]).append(id)
    found: dict[int, s.Expr] = {}
    lines: list[s.Define] = []
    for owner, all_ in places.items():
        within = [id for id in all_ if id in inside]
        if within and len(within) < len(all_):
            raise Unwritten("weights at several places that are not inside of one part")
        if within:
            name = f"f{len(lines) + 1}"
            lines.append(s.Define(name, None, call("shared", dialect.call(dialect.graph[owner]))))
            found |= dict.fromkeys(within, s.Name(name))
    return found, lines
