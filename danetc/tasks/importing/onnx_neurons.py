"""Neurons in a graph of ONNX: steps one behind the other, a loop, or one step with its states.

Nothing goes by names, but for which input of one step is which output of the step before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.program import INPUT
from danetc.errors import UserError
from danetc.tasks.importing.onnx_equations import (
    POINTWISE,
    Equations,
    NeuronPart,
    Operators,
    is_condition,
)


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of an operator by name."""
    from onnx import helper  # late: it is an extra

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


# -- steps one behind the other --------------------------------------------------------------------


class _Unlike(Exception):
    """Two steps are not the same equations."""


@dataclass
class _Steps:
    """A step of a neuron beside the one before: values by those of the step before, and the neuron's
    input in both. ``starts`` are what a step reads of the one before with where that starts, found
    where the step before is the first one; ``next`` is what they become, where it is a later one."""

    graph: Operators
    known: Collection[str] = ()
    earlier: dict[str, str] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    next: dict[str, str] = field(default_factory=dict)
    sources: set[tuple[str, str, str]] = field(default_factory=set)

    def pair(self, later: str, earlier: str) -> None:
        """Walk both steps from their results to what they read. Raises _Unlike."""
        graph = self.graph
        if earlier in self.known:
            self.next[earlier] = later
            return
        if later in self.earlier:
            if self.earlier[later] != earlier:
                raise _Unlike
            return
        if later in graph.stored:
            if later != earlier and not _equal(graph, later, earlier):
                raise _Unlike
            return
        if later == earlier:
            self.sources.add((later, later, later))
            return
        start = graph.scalar(earlier)
        if start is not None:
            self.starts[later] = start
            return
        maker, first = graph.makers.get(later), graph.makers.get(earlier)
        if maker is None or first is None or maker.op_type != first.op_type:
            raise _Unlike
        if maker is first and maker.op_type == "Split":
            self.sources.add((maker.input[0], later, earlier))
            return
        if maker.op_type not in POINTWISE or len(maker.input) != len(first.input):
            raise _Unlike
        self.earlier[later] = earlier
        for a, b in zip(maker.input, first.input, strict=True):
            self.pair(a, b)


def _equal(graph: Operators, a: str, b: str) -> bool:
    found = graph.stored.get(b)
    return found is not None and found.shape == graph.stored[a].shape and bool((found == graph.stored[a]).all())  # fmt: skip


def unrolled_neuron(graph: Operators, node: Any) -> NeuronPart | None:
    """A neuron whose steps a ``Concat`` puts together, or None where it is something else."""
    results = [*node.input]
    if node.op_type != "Concat" or len(results) < 2 or attributes(node).get("axis") != 0:
        return None
    first = _Steps(graph)
    try:
        first.pair(results[1], results[0])
        second = _Steps(graph, first.starts)
        if len(results) > 2:
            second.pair(results[2], results[1])
    except _Unlike:
        return None
    if len(first.sources) != 1 or not first.earlier:
        return None
    ((source, now, before),) = first.sources
    states = {name: f"u{place or ''}" for place, name in enumerate(first.starts)}
    made = Equations(graph, tuple(states.values()), {now: INPUT, **states})
    output = made.number(results[1])
    after = {states[name]: made.number(later) for name, later in second.next.items()}
    if len(results) == 2:  # what a state becomes is seen of the first step alone
        same = {b: a for a, b in first.earlier.items() if not is_condition(graph.makers[a])}
        known: dict[str, Operand] = {b: made.number(a) for b, a in same.items()}
        made.values = {**known, before: INPUT}
        after = {label: made.number(name) for name, label in states.items()}
    if after.keys() != set(states.values()):
        return None
    starts = {states[name]: start for name, start in first.starts.items()}
    found = made.neuron(starts, output, after)
    members = frozenset(map(id, _behind(graph, results, {source})))
    return NeuronPart(source, node.output[0], *found, members | {id(node)})


def _behind(graph: Operators, names: Sequence[str], ends: set[str]) -> Iterator[Any]:
    """The operators that values are made by, as far as the ``ends``."""
    waiting, seen = [*names], set(ends)
    while waiting:
        name = waiting.pop()
        node = graph.makers.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        yield node
        waiting += node.input


# -- a loop ----------------------------------------------------------------------------------------


def looped_neuron(graph: Operators, node: Any) -> NeuronPart:
    """The neuron that a ``Loop`` runs step by step. Raises UserError where it is something else."""
    from onnx import numpy_helper

    body = attributes(node)["body"]
    name = node.name or "Loop"
    index, _, *states = (item.name for item in body.input)
    _, *results = (item.name for item in body.output)
    after, given = results[: len(states)], results[len(states) :]
    if len(given) != 1:
        raise UserError(f"{name}: a loop that gives {len(given)} values, which is not imported")
    stored = {**graph.stored, **{item.name: numpy_helper.to_array(item) for item in body.initializer}}  # fmt: skip
    inner = Operators(body.node, stored).behind(results)
    layers = {n.op_type for n in inner.nodes} - {*POINTWISE, "Gather", "Unsqueeze"}
    if layers:
        what = ", ".join(sorted(layers))
        raise UserError(f"{name}: a loop over time through layers ({what}), which is not imported")
    sources: dict[str, str] = {}
    for item in inner.nodes:
        if item.op_type == "Gather" and item.input[1] == index and item.input[0] not in stored:
            sources[item.output[0]] = item.input[0]
    inside = {*inner.makers, *stored, *states, index, body.input[1].name, ""}
    for item in inner.nodes:
        if item.op_type in POINTWISE:
            sources |= {taken: taken for taken in item.input if taken not in inside}
    if len(sources) != 1:
        raise UserError(f"{name}: a loop that reads {len(sources)} values, which is not imported")
    ((leaf, source),) = sources.items()
    labels = {state: f"u{place or ''}" for place, state in enumerate(states)}
    made = Equations(inner, tuple(labels.values()), {leaf: INPUT, **labels})
    starts: dict[str, float] = {}
    for state, taken in zip(states, node.input[2:], strict=True):
        start = graph.scalar(taken)
        if start is None:
            raise UserError(f"{name}: a state that does not start at one number")
        starts[labels[state]] = start
    output = made.number(given[0])
    following = {labels[s]: made.number(n) for s, n in zip(states, after, strict=True)}
    found = made.neuron(starts, output, following)
    return NeuronPart(source, node.output[-1], *found, frozenset({id(node)}))


# -- one step --------------------------------------------------------------------------------------


def stepped_neurons(
    graph: Operators, pairs: Mapping[str, str], starts: Mapping[str, float]
) -> list[NeuronPart]:
    """The neurons of a graph of one step; ``pairs`` are what it takes of the step before and gives the
    next. States of one neuron share their name up to the last dot. Raises UserError."""
    groups: dict[str, list[str]] = {}
    for state in pairs:
        groups.setdefault(state.rpartition(".")[0] or state, []).append(state)
    return [_stepped(graph, name, states, pairs, starts) for name, states in groups.items()]


def _stepped(
    graph: Operators,
    name: str,
    states: Sequence[str],
    pairs: Mapping[str, str],
    starts: Mapping[str, float],
) -> NeuronPart:
    dependent = _dependent(graph, states)
    ends = [pairs[state] for state in states]
    members = [node for node in _behind(graph, ends, set()) if node.output[0] in dependent]
    if any(node.op_type not in POINTWISE for node in members):
        raise UserError(f"{name}: a loop over time through several layers, which is not imported")
    values = {node.output[0] for node in members}
    entries = {
        taken
        for node in members
        for taken in node.input
        if taken and taken not in values and taken not in states and not _is_constant(graph, taken)
    }
    last = [name for name in values if name not in ends and _outside(graph, name, values)]
    chosen: NeuronPart | None = None
    for source in _sources(graph, entries):
        for given in _results(graph, last, values):
            part = _part(graph, states, pairs, starts, source, given)
            if part is not None and part.standard:
                return part
            chosen = chosen or part
    if chosen is None:
        raise UserError(f"{name}: what it remembers is no state of a neuron that danetc can write")
    return chosen


def _dependent(graph: Operators, states: Sequence[str]) -> set[str]:
    """The values that depend on states."""
    found = set(states)
    for node in graph.nodes:
        if found.intersection(node.input):
            found.update(node.output)
    return found


def _is_constant(graph: Operators, name: str) -> bool:
    """Whether a value is made of stored numbers alone."""
    if name in graph.stored:
        return True
    node = graph.makers.get(name)
    return node is not None and node.op_type in POINTWISE and all(_is_constant(graph, i) for i in node.input)  # fmt: skip


def _outside(graph: Operators, name: str, values: Collection[str]) -> list[Any]:
    """The operators that read a value and give none of ``values``."""
    return [node for node in graph.users.get(name, []) if node.output[0] not in values]


def _sources(graph: Operators, entries: set[str]) -> Iterator[str]:
    """What may be the input of a neuron: the one value that its equations read, or what that is made
    of, number by number."""
    waiting = set(entries)
    while len(waiting) > 1:  # several readings of one value
        made = {name for name in waiting if _alone(graph, name) is not None}
        if not made:
            return
        name = max(made, key=lambda item: graph.nodes.index(graph.makers[item]))
        source = _alone(graph, name)
        assert source is not None
        waiting = (waiting - {name}) | {source}
    name_ = next(iter(waiting), None)
    while name_ is not None:
        yield name_
        name_ = _alone(graph, name_)


def _alone(graph: Operators, name: str) -> str | None:
    """The one value that an operation of numbers reads besides stored ones, or None."""
    node = graph.makers.get(name)
    if node is None or node.op_type not in POINTWISE:
        return None
    taken = [item for item in node.input if not _is_constant(graph, item)]
    return taken[0] if len(taken) == 1 else None


def _results(graph: Operators, last: Sequence[str], values: Collection[str]) -> Iterator[str]:
    """What may be the output of a neuron: the value that others read, or what is made of it alone."""
    name = last[0] if len(last) == 1 else None
    while name is not None:
        if not is_condition(graph.makers[name]):
            yield name
        others = _outside(graph, name, values)
        only = len(others) == 1 and _alone(graph, others[0].output[0]) == name
        name = others[0].output[0] if only else None


def _part(
    graph: Operators,
    states: Sequence[str],
    pairs: Mapping[str, str],
    starts: Mapping[str, float],
    source: str,
    given: str,
) -> NeuronPart | None:
    labels = {state: f"u{place or ''}" for place, state in enumerate(states)}
    made = Equations(graph, tuple(labels.values()), {source: INPUT, **labels})
    try:
        output = made.number(given)
        after = {labels[state]: made.number(pairs[state]) for state in states}
    except UserError:
        return None
    found = made.neuron({labels[s]: starts.get(s, 0.0) for s in states}, output, after)
    names = [given, *(pairs[state] for state in states)]
    members = frozenset(map(id, _behind(graph, names, {source, *states})))
    return NeuronPart(source, given, *found, members)
