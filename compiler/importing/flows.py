"""Any part of a network as dataflow: definitions of what is read several times, and one value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from danetc.compiler.importing.layers import Dialect
from danetc.compiler.importing.trees import flow
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

    Raises Unwritten.
    """
    graph = dialect.graph
    wanted = [id for id in nodes if id not in given]
    inside = set(wanted)
    users: dict[int, list[Node]] = {id: [] for id in [*given, *wanted]}
    for id in wanted:
        for i in graph[id].inputs:
            if i in users:
                users[i].append(graph[id])
    ends = Counter(results)
    values: dict[int, s.Expr] = dict(given)
    lines: list[s.Define] = []
    for id in wanted:
        node = graph[id]
        operands = [values[i] for i in node.inputs]
        if node.inputs and passes_value(graph, node, users[id]):
            values[id] = operands[0]
            continue
        joined = dialect.join(node, operands)
        value = flow(operands[0], dialect.call(node)) if joined is None else joined
        if len(users[id]) + ends[id] > 1 and id in inside:
            name = f"v{len(lines) + 1}"
            lines.append(s.Define(name, None, value))
            value = s.Name(name)
        values[id] = value
    return lines, {id: values[id] for id in ends}
