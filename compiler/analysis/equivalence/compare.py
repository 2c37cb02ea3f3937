"""Comparison of two graphs: equal, with pairs of nodes, or the first difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from danetc.compiler.analysis.equivalence.form import FormOptions, Forms, Palette
from danetc.compiler.analysis.equivalence.matching import JOINS, Side, match, tagged
from danetc.compiler.ir.at_node import weights
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes.dead import RemoveDead
from danetc.compiler.passes.order import in_the_order_of_the_spec
from danetc.dsl.record import record

MAX_TERMS_SHOWN = 4


@record
class Same:
    """Two graphs are one network.

    Args:
        weights: pairs of nodes with weights or random numbers, by id.
        nodes: pairs of other nodes.
        to_the_bit: True if forward results are bit-identical; else additions are in another order,
            and results are equal up to rounding.
    """

    weights: tuple[tuple[int, int], ...]
    nodes: tuple[tuple[int, int], ...]
    to_the_bit: bool


@record
class Different:
    """Two graphs are not known to be one network.

    Args:
        left: first node of the left graph without a counterpart, or None.
        right: first node of the right graph without a counterpart, or None.
        comparable: False if inputs, outputs or time steps differ, so that a test by numbers is not
            possible.
        only_starts: True if only the initial weights differ.
    """

    reason: str
    left: Node | None = None
    right: Node | None = None
    comparable: bool = True
    only_starts: bool = False


def compare_graphs(left: Graph, right: Graph) -> Same | Different:
    """Compare two networks as graphs, independent of the names and the order of nodes.

    The graphs should be as written (``graph_of(..., passes=())``): an operation that a pass moves over
    time counts as a difference. Loops over time are equal if their carried values are, by induction
    over steps.
    """
    outside = _outside(left, right)
    if outside is not None:
        return Different(outside, left.input, right.input, comparable=False)
    written = left, right
    left, right = (in_the_order_of_the_spec(RemoveDead().apply(graph)) for graph in written)
    if len(left.outputs) == len(right.outputs) == 1:  # then its name does not matter
        (mine,), (other,) = left.outputs, right.outputs.values()
        right = replace(right, outputs={mine: other})
    result = _compare(left, right, FormOptions())
    if isinstance(result, Different):
        alike = _compare(left, right, FormOptions(starts=False))
        if isinstance(alike, Same):
            return replace(result, only_starts=True)
        return result
    a, b = (graph.nodes for graph in written)
    return replace(result, nodes=tuple((i, j) for i, j in result.nodes if i in a and j in b))


def _outside(left: Graph, right: Graph) -> str | None:
    """Return a difference in inputs, outputs or time steps."""
    takes = [
        ", ".join(
            f"{f'{node.name} ' * (len(inputs) > 1)}{_size(node.value.shape)}" for node in inputs
        )
        for inputs in (left.inputs, right.inputs)
    ]
    if takes[0] != takes[1]:
        return f"they take other inputs: {takes[0]} and {takes[1]}"
    for a, b in zip(left.inputs, right.inputs, strict=True):
        if a.value.varies != b.value.varies or a.attrs != b.attrs:
            return "one takes an image and the other a sequence of frames"
    if left.steps != right.steps:
        return f"they run for other times: T = {left.steps} and T = {right.steps}"
    gives, others = (
        {name: graph[id].value for name, id in graph.outputs.items()} for graph in (left, right)
    )
    if len(gives) == len(others) == 1:
        others = dict(zip(gives, others.values(), strict=True))
    if set(gives) != set(others):
        return f"their outputs have other names: {', '.join(gives)} and {', '.join(others)}"
    for name, value in gives.items():
        if value.shape != others[name].shape:
            return f"they give other outputs: {_size(value.shape)} and {_size(others[name].shape)}"
        if value.varies != others[name].varies:
            return f"one gives `{name}` at each time step, the other once"
    return None


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _compare(left: Graph, right: Graph, settings: FormOptions) -> Same | Different:
    palette = Palette()
    untold = Forms(left, palette, settings, {}), Forms(right, palette, settings, {})
    if untold[0].results != untold[1].results:
        return _first_difference(*untold)
    sides = Side(left, palette, settings), Side(right, palette, settings)
    matching = match(*sides)
    if matching.left or matching.right:
        return _unpaired(left, right, matching.left, matching.right)
    paired = tagged(*sides, matching.pairs, settings)
    if paired[0].results != paired[1].results:  # the pairing does not hold, so nothing is proved
        return _first_difference(*paired)
    exact = tagged(*sides, matching.pairs, replace(settings, exact=True))
    weighted = tuple((a, b) for a, b in matching.pairs.items() if a not in left.carries)
    others = tuple(_others(*paired, dict(weighted)))
    return Same(weighted, others, exact[0].results == exact[1].results)


def _others(left: Forms, right: Forms, pairs: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Yield pairs of nodes without weights that have the same value."""
    found: dict[int, int] = {}
    for id, number in right.values.items():
        found.setdefault(number, id)
    for id, number in left.values.items():
        if id not in pairs and number in found:
            yield id, found[number]


# -- where they differ ----------------------------------------------------------------------------


def _first_difference(left: Forms, right: Forms) -> Different:
    """Return the first nodes whose values the other graph does not have."""
    mine, other = _first_without(left, right), _first_without(right, left)
    if mine is None and other is None:
        known = right.results
        key = next(key for key, number in left.results.items() if number != known.get(key))
        mine, other = (forms.graph[forms.source(key)] for forms in (left, right))
    return Different(_tell(left.graph, mine, right.graph, other), mine, other)


def _first_without(forms: Forms, than: Forms) -> Node | None:
    known = set(than.values.values())
    users = forms.graph.users()
    outputs = set(forms.graph.outputs.values())
    for node in forms.graph.nodes.values():
        notation = forms.is_linear(node) or node.id in forms.passed
        if notation or forms.values[node.id] in known:
            continue
        within = {forms.graph[user].op for user in users[node.id]} == {node.op}
        if node.op in JOINS and within and node.id not in outputs:
            continue  # a part of the join that reads it
        return node
    return None


def _unpaired(
    left: Graph, right: Graph, mine: tuple[int, ...], other: tuple[int, ...]
) -> Different:
    a = left[mine[0]] if mine else None
    b = right[other[0]] if other else None
    if a is None or b is None:
        graph, node = (left, a) if a is not None else (right, b)
        assert node is not None
        reason = f"{graph.name} has one more such layer: `{node.path}`, {_a(node.op)}"
        return Different(reason, a, b)
    if a.id in left.carries and b.id in right.carries:
        carried = left[left.carries[a.id]], right[right.carries[b.id]]
        return Different(_tell(left, carried[0], right, carried[1]), a, b)
    return Different(f"`{a.path}` and `{b.path}` are read by other operations", a, b)


def _tell(left: Graph, a: Node | None, right: Graph, b: Node | None) -> str:
    """Return the difference between two nodes."""
    if a is None or b is None:
        graph, node = (left, a) if a is not None else (right, b)
        assert node is not None
        return f"only {graph.name} has `{node.path}`, {_a(node.op)}"
    if a.op != b.op:
        return f"{_a(a.op)} stands where the other has {_a(b.op)}"
    if a.op == "neuron":
        if left.program(a) != right.program(b):
            return "neurons with other equations, parameters or surrogates"
    else:
        changed = [name for name in a.attrs if a.attrs[name] != b.attrs.get(name)]
        if changed:
            parts = (f"{name} {a.attrs[name]} and {b.attrs.get(name)}" for name in changed)
            return f"{_a(a.op)} with {', '.join(parts)}"
    mine, other = (
        [_terms(graph, i) for i in graph.reads(node)] for graph, node in ((left, a), (right, b))
    )
    if a.op == "add" or mine == other:
        mine, other = [_terms(left, a.id)], [_terms(right, b.id)]
    apart = next(((x, y) for x, y in zip(mine, other, strict=False) if x != y), None)
    if apart is None:
        return f"the same {a.op} of other values"
    return f"{_a(a.op)} that reads {_sum(apart[0])}, and one that reads {_sum(apart[1])}"


def _a(op: str) -> str:
    word = "delay" if OPS[op].carries else op
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _terms(graph: Graph, id: int) -> list[str]:
    """Return the paths of the first terms of a sum."""
    waiting: list[int] = [id]
    found: list[str] = []
    while waiting and len(found) <= MAX_TERMS_SHOWN:
        node = graph[waiting.pop()]
        if node.op == "add":
            waiting += reversed(node.inputs)
        else:
            found.append(node.path)
    return found


def _sum(terms: list[str]) -> str:
    shown = [f"`{term}`" for term in terms[:MAX_TERMS_SHOWN]]
    return " + ".join([*shown, "..."] if len(terms) > MAX_TERMS_SHOWN else shown)


# -- weights that may be the same -----------------------------------------------------------------


def weights_by_name_or_order(
    left: Graph, right: Graph
) -> tuple[Literal["name", "order"], tuple[tuple[int, int], ...]] | None:
    """Pairs of nodes whose weights have the same shapes and first values, for a test by numbers.

    By the nodes' names where both graphs have the same ones, else by their order. None where
    neither fits.
    """
    mine, other = ([n for n in g.nodes.values() if weights(g, n)] for g in (left, right))
    if len(mine) != len(other):
        return None
    named = {node.path: node for node in other}
    by_name = [(a, named[a.path]) for a in mine if a.path in named]
    if len(by_name) == len(mine) and _fit(left, right, by_name):
        return "name", tuple((a.id, b.id) for a, b in by_name)
    by_order = list(zip(mine, other, strict=True))
    if _fit(left, right, by_order):
        return "order", tuple((a.id, b.id) for a, b in by_order)
    return None


def _fit(left: Graph, right: Graph, pairs: list[tuple[Node, Node]]) -> bool:
    return all(_weights(left, a) == _weights(right, b) for a, b in pairs)


def _weights(graph: Graph, node: Node) -> object:
    if node.op == "neuron":
        learnables = graph.program(node).learnables
        return [replace(item, name="") for item in learnables]
    kept = {name: node.attrs.get(name) for name in ("init", "per_step")}
    return node.op, weights(graph, node), kept
