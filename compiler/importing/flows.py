"""Parts of a network as dataflow: values that are read several times have names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from danetc.compiler.importing.expressions import Unwritten, call, constant, flow
from danetc.compiler.importing.layers import JOINS, Dialect
from danetc.compiler.ir.graph import Graph, Node, unique
from danetc.dsl.record import record

Define = tuple[str, str]
"""A name and its expression."""


def is_implied(node: Node, readers: Iterable[Node]) -> bool:
    """Return True if the language needs no word for a node: it repeats an image at each time step, or
    flattens a map that only linear layers read."""
    if node.op == "flatten":
        users = [*readers]
        return bool(users) and all(user.op == "linear" for user in users)
    return node.op == "repeat"


def dataflow(
    dialect: Dialect, nodes: Iterable[int], given: Mapping[int, str], result: int
) -> list[Define]:
    """Write nodes as definitions, the last of ``out``; ``given`` are names of values.

    Raises Unwritten if the region shares weights with other nodes, for example.
    """
    graph = dialect.graph
    wanted = [id for id in nodes if id not in given]
    layers, lines = _shared(dialect, {*wanted})
    users: dict[int, list[Node]] = {id: [] for id in [*given, *wanted]}
    for id in wanted:
        for i in graph[id].inputs:
            if i in users:
                users[i].append(graph[id])
    values = dict(given)
    count = 0
    carried = {id: f"h{n}" for n, id in enumerate(dict.fromkeys(graph.carries.values()), 1)}
    for id in wanted:
        node = graph[id]
        if node.op == "carry":
            source = carried[graph.carries[id]]
            values[id] = flow(source, call("delay", constant(node.attrs["steps"])))
            continue
        if node.inputs and is_implied(node, users[id]):
            values[id] = values[node.inputs[0]]
            continue
        operands = [values[i] for i in node.inputs]
        values[id] = (
            flow(operands[0], layers[id]) if id in layers else dialect.value(node, operands)
        )
        if id in carried:
            lines.append((carried[id], values[id]))
            values[id] = carried[id]
        elif len(users[id]) + (id == result) > 1:
            count += 1
            lines.append((f"v{count}", values[id]))
            values[id] = f"v{count}"
    return [*lines, ("out", values[result])]


def _shared(dialect: Dialect, inside: set[int]) -> tuple[dict[int, str], list[Define]]:
    """Return the names of layers at several places by the nodes of these, and their definitions."""
    places: dict[int, list[int]] = {}
    for id, owner in dialect.graph.shares.items():
        places.setdefault(owner, [owner]).append(id)
    found: dict[int, str] = {}
    lines: list[Define] = []
    for owner, ids in places.items():
        within = inside.intersection(ids)
        if within and len(within) < len(ids):
            raise Unwritten("weights that are used in several parts")
        if within:
            name = f"f{len(lines) + 1}"
            lines.append((name, call("shared", dialect.step(dialect.graph[owner]))))
            found |= dict.fromkeys(within, name)
    return found, lines


# -- the chain of a network ------------------------------------------------------------------------


@record(slots=False)
class Region:
    """Nodes between two values: computed from ``entry`` alone, and read through ``exit``, the last."""

    entry: int
    nodes: tuple[int, ...]

    @property
    def exit(self) -> int:
        return self.nodes[-1]


Part = Node | Region
"""A step of a network, or a region."""


def chain_of(graph: Graph, source: int, target: int) -> list[Part]:
    """Cut a network at each value that all paths from ``source`` to ``target`` go through."""
    wanted = graph.behind([target]) - graph.behind([source])
    order = [source, *(id for id in graph.nodes if id in wanted)]
    place = {id: number for number, id in enumerate(order)}
    last = {i: place[id] for id in order[1:] for i in graph[id].inputs}
    cuts, furthest = [], 0
    for number, id in enumerate(order):
        if furthest <= number:
            cuts.append(number)
        furthest = max(furthest, last.get(id, 0))
    parts: list[Part] = []
    for a, b in itertools.pairwise(cuts):
        node = graph[order[b]]
        alone = b == a + 1 and len(node.inputs) == 1 and node.op not in JOINS
        parts.append(node if alone else Region(order[a], (*order[a + 1 : b + 1],)))
    return parts


# -- blocks with bodies --------------------------------------------------------------------

_NUMBER = re.compile(r"(?<![\w.])(?:(\w+) = |(conv|linear)\()?(\d+\.?\d*(?:e[-+]?\d+)?)")


def literal_blocks(
    dialect: Dialect, regions: Sequence[Region], name_of: Callable[[str], str]
) -> tuple[list[str], dict[str, str]]:
    """Return a call for each region, and the declarations of the blocks by name. Raises Unwritten.

    Regions that differ only in numbers share one block with parameters for these numbers.
    """
    bodies = []
    for region in regions:
        lines = dataflow(dialect, region.nodes, {region.entry: "in"}, region.exit)
        bodies.append("; ".join(f"{name} = {value}" for name, value in lines))
    kinds: dict[str, list[int]] = {}
    for place, body in enumerate(bodies):
        skeleton = _NUMBER.sub(lambda found: found[0].removesuffix(found[3]) + "#", body)
        kinds.setdefault(skeleton, []).append(place)
    calls, declared = [""] * len(regions), dict[str, str]()
    for number, members in enumerate(kinds.values(), 1):
        name = name_of(f"part{number if number > 1 else ''}")
        found = [[*_NUMBER.finditer(bodies[place])] for place in members]
        columns = [tuple(item[3] for item in column) for column in zip(*found, strict=True)]
        params: dict[tuple[str, ...], str] = {}
        for column, first in zip(columns, found[0], strict=True):
            if len({*column}) > 1 and column not in params:
                role = first[1] or ("width" if first[2] else "size")
                params[column] = unique(role, [*params.values()].__contains__)
        numbers = iter(columns)

        def filled(match: re.Match[str]) -> str:
            return match[0].removesuffix(match[3]) + params.get(next(numbers), match[3])  # noqa: B023

        body = _NUMBER.sub(filled, bodies[members[0]])
        declared[name] = f"block {call(name, *params.values())} {{ {body} }}"
        for row, place in enumerate(members):
            calls[place] = call(name, *(column[row] for column in params))
    return calls, declared
