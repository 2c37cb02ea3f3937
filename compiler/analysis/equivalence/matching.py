"""Which weights of one graph are which of the other, found from the topology alone.

What has weights of its own is distinguished by what it reads (its number in ``Forms``) and by what
reads it, again and again until nothing more is distinguished: colour refinement (Weisfeiler and Leman,
1968) on both graphs at once. Weights that stand at several places are known by all of them, and what a
loop carries from one step to the next by what that is. Of nodes that are still alike the first ones are
paired, and the refinement goes on. A pairing is a guess; ``proves`` tells whether it holds.
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
"""How many nodes are visited to pair what is alike one by one; what is left is paired at once."""


@record
class Matching:
    """``pairs`` leads from nodes of the left graph to those of the right.

    ``left`` and ``right`` are nodes that found none; then the graphs are not the same.
    """

    pairs: Mapping[int, int]
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()


@record(frozen=False)
class Side:
    """One of the two graphs, with the tags that its nodes with weights have by now.

    ``own`` has for each node with weights of its own, and each that carries a value, the places where
    these are.
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
        # Nodes that compute the same of the very same weights count as one.
        forms = Forms(
            graph, Palette(), self.settings, self.at_places({id: id + 1 for id in self.own})
        )
        self.same = {node.id: forms.makers.get(forms.values[node.id], node.id) for node in nodes}

    def at_places(self, tags: Mapping[int, int]) -> dict[int, int]:
        """Tags of nodes with weights, for all places where these are."""
        return {place: tag for id, tag in tags.items() for place in self.own[id]}

    def refine(self) -> None:
        """Tag what has weights by what it reads and by what reads it."""
        forms = Forms(self.graph, self.palette, self.settings, self.tags)
        uses, tags = _uses(forms, self.same), {}
        for id, places in self.own.items():
            known = sorted((forms.values[place], uses[place]) for place in places)
            carried = [forms.values[self.graph.carries[id]]] if id in self.graph.carries else []
            tags[id] = self.palette(*carried, *known)
        self.tags = self.at_places(tags)

    def classes(self) -> dict[int, list[int]]:
        """The nodes of each tag, in the order of the graph."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for id in self.own:
            found[self.tags[id]].append(id)
        return found


def match(left: Side, right: Side) -> Matching:
    """Pair the nodes with weights of two graphs.

    Where some are alike, the pairing by their order is tried first; it holds where it does not
    matter which is which.
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
    """The forms of both graphs where each pair is one node, and no other nodes are alike."""
    mine = left.at_places({a: number for number, a in enumerate(pairs, 1)})
    other = right.at_places({b: number for number, b in enumerate(pairs.values(), 1)})
    palette = left.palette
    return (
        Forms(left.graph, palette, settings, mine),
        Forms(right.graph, palette, settings, other),
    )


def proves(left: Side, right: Side, pairs: Mapping[int, int]) -> bool:
    """Whether the graphs give the same where paired nodes are the same."""
    mine, other = tagged(left, right, pairs, left.settings)
    return mine.results == other.results


def _loose(mine: Mapping[int, list[int]], other: Mapping[int, list[int]]) -> Matching | None:
    """The nodes of classes that are not as large in the other graph."""
    tags = [tag for tag in mine if len(mine[tag]) != len(other.get(tag, ()))]
    more = [tag for tag in other if len(other[tag]) != len(mine.get(tag, ()))]
    if not tags and not more:
        return None
    left = sorted(id for tag in tags for id in mine[tag][len(other.get(tag, ())) :])
    right = sorted(id for tag in more for id in other[tag][len(mine.get(tag, ())) :])
    return Matching({}, tuple(left), tuple(right))


def _uses(forms: Forms, same: Mapping[int, int]) -> Mapping[int, int]:
    """For each node a number for all that reads it: the dual of ``Forms``, in linear time too."""
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
