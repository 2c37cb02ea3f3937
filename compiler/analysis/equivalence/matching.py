"""Pairing of the weights of two graphs from their topology alone.

Nodes with weights are distinguished by their inputs (their number in ``Forms``) and by their readers,
repeatedly: colour refinement (Weisfeiler and Leman, 1968) on both graphs at once. Shared weights are
known by all their places, and carried values by the value that is carried. If nodes are still alike,
the first ones are paired and the refinement continues. A pairing is a guess; ``proves`` checks it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import field

from danetc.compiler.analysis.equivalence.form import (
    FOLDED,
    PRIME,
    SIDE,
    FormOptions,
    Forms,
    Palette,
    residue,
)
from danetc.compiler.ir.at_node import has_own_state
from danetc.compiler.ir.graph import Graph, Node
from danetc.dsl.record import record

JOINS = frozenset({"mul", "concat", "maximum", "minimum"})
MAX_VISITS = 1_000_000
"""Number of nodes to visit while like nodes are paired one by one; the rest is paired at once."""


@record
class Matching:
    """``pairs`` maps nodes of the left graph to nodes of the right one.

    ``left`` and ``right`` are nodes without a partner; then the graphs differ.
    """

    pairs: Mapping[int, int]
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()


@record(frozen=False)
class Side:
    """One of the two graphs, and the current tags of its nodes with weights.

    ``own`` has the places of the weights of each node, and of each node that carries a value.
    """

    graph: Graph
    palette: Palette
    settings: FormOptions
    own: dict[int, list[int]] = field(default_factory=dict)
    tags: dict[int, int] = field(default_factory=dict)
    same: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph, nodes = self.graph, self.graph.nodes.values()
        for node in nodes:
            if node.id in graph.carries or has_own_state(graph, node):
                self.own.setdefault(graph.shares.get(node.id, node.id), []).append(node.id)
        # Nodes that compute the same from the same weights count as one.
        forms = Forms(
            graph, Palette(), self.settings, self.at_places({id: id + 1 for id in self.own})
        )
        self.same = {node.id: forms.makers.get(forms.values[node.id], node.id) for node in nodes}

    def at_places(self, tags: Mapping[int, int]) -> dict[int, int]:
        """Return the tags of nodes with weights for all places of these."""
        return {place: tag for id, tag in tags.items() for place in self.own[id]}

    def refine(self) -> None:
        """Tag nodes with weights by their inputs and their readers."""
        forms = Forms(self.graph, self.palette, self.settings, self.tags)
        uses, tags = _uses(forms, self.same), {}
        for id, places in self.own.items():
            known = sorted((forms.values[place], uses[place]) for place in places)
            carried = [forms.values[self.graph.carries[id]]] if id in self.graph.carries else []
            tags[id] = self.palette(*carried, *known)
        self.tags = self.at_places(tags)

    def classes(self) -> dict[int, list[int]]:
        """Return the nodes of each tag, in the order of the graph."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for id in self.own:
            found[self.tags[id]].append(id)
        return found


def match(left: Side, right: Side) -> Matching:
    """Pair the nodes with weights of two graphs.

    Like nodes are first paired by their order, which holds if they are interchangeable.
    """
    classes_before = -1
    turns = MAX_VISITS // (len(left.graph.nodes) + len(right.graph.nodes))
    for turn in range(len(left.own) + 1):
        while True:
            left.refine()
            right.refine()
            mine, other = left.classes(), right.classes()
            loose = _loose(mine, other)
            if loose is not None:
                return loose
            if len(mine) == classes_before:
                break
            classes_before = len(mine)
        pairs = {a: b for tag in mine for a, b in zip(mine[tag], other[tag], strict=True)}
        alike = next((tag for tag, members in mine.items() if len(members) > 1), None)
        if alike is None or turn >= turns or proves(left, right, pairs):
            break
        tag = left.palette("paired", turn)
        for side, id in ((left, mine[alike][0]), (right, other[alike][0])):
            side.tags |= side.at_places({id: tag})
    return Matching(pairs)


def tagged(
    left: Side, right: Side, pairs: Mapping[int, int], settings: FormOptions
) -> tuple[Forms, Forms]:
    """Return the forms of both graphs with each pair as one node, and no other nodes alike."""
    mine = left.at_places({a: number for number, a in enumerate(pairs, 1)})
    other = right.at_places({b: number for number, b in enumerate(pairs.values(), 1)})
    palette = left.palette
    return (
        Forms(left.graph, palette, settings, mine),
        Forms(right.graph, palette, settings, other),
    )


def proves(left: Side, right: Side, pairs: Mapping[int, int]) -> bool:
    """Return True if the graphs have equal results when paired nodes are equal."""
    mine, other = tagged(left, right, pairs, left.settings)
    return mine.results == other.results


def _loose(mine: Mapping[int, list[int]], other: Mapping[int, list[int]]) -> Matching | None:
    """Return the nodes of classes with another size in the other graph."""
    tags = [tag for tag in mine if len(mine[tag]) != len(other.get(tag, ()))]
    more = [tag for tag in other if len(other[tag]) != len(mine.get(tag, ()))]
    if not tags and not more:
        return None
    left = sorted(id for tag in tags for id in mine[tag][len(other.get(tag, ())) :])
    right = sorted(id for tag in more for id in other[tag][len(mine.get(tag, ())) :])
    return Matching({}, tuple(left), tuple(right))


def _uses(forms: Forms, same: Mapping[int, int]) -> Mapping[int, int]:
    """Return a number for the readers of each node: the dual of ``Forms``, in linear time too."""
    graph, palette = forms.graph, forms.palette
    total: dict[int, int] = dict.fromkeys(graph.nodes, 0)
    within: dict[int, int] = dict.fromkeys(graph.nodes, 0)  # uses of a join by joins of its kind

    def add(to: dict[int, int], id: int, use: int) -> None:
        to[id] = (to[id] + use) % PRIME

    for name, id in graph.outputs.items():
        add(total, id, palette("output", name))
    for id, source in graph.carries.items():
        add(total, source, palette("carried", forms.values[id]))
    for node in reversed(list(graph.nodes.values())):
        own, first = total[node.id], same[node.id]
        if node.id in forms.passed:
            add(total, node.inputs[0], own)
        elif forms.is_linear(node):
            for factor, operand in zip(_factors(node), node.inputs, strict=True):
                add(total, operand, factor * own)
        elif first != node.id:
            add(total, first, own)
            add(within, first, within[node.id])
        elif node.op in JOINS:
            use = palette(node.op, "use", forms.values[node.id], own) if own else 0
            flow = within[node.id] + use
            channels = 0
            operands = {forms.values[i]: graph[i] for i in node.inputs}
            for item in operands.values() if node.op in FOLDED else graph.inputs_of(node):
                at = pow(SIDE, channels, PRIME) if node.op == "concat" else 1
                add(within if item.op == node.op else total, item.id, flow * at)
                channels += item.value.shape[0]
        else:
            for position, operand in enumerate(node.inputs):
                add(total, operand, palette("use", forms.values[node.id], position, own))
    return total


def _factors(node: Node) -> Iterator[int]:
    match node.op:
        case "sub":
            yield from (1, -1)
        case "affine":
            yield residue(node.attrs["factor"])
        case _:
            yield from (1 for _ in node.inputs)
