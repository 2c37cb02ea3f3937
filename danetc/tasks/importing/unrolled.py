"""Neurons whose time steps stand one behind the other: one step's equations, found by two of them.

Nothing goes by names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import INPUT, SurrogateProgram
from danetc.tasks.importing.equations import (
    NUMBERS,
    POINTWISE,
    Equations,
    NeuronPart,
    NotPointwise,
    Operators,
    is_condition,
    operands,
)


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
            if later != earlier and not graph.equal(later, earlier):
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
        for a, b in zip(operands(maker), operands(first), strict=True):
            self.pair(a, b)


def _is_of_others(graph: Operators, name: str, starts: Mapping[str, float]) -> bool:
    """Whether what a step reads of the one before is made of what else it reads, and starts so: of a
    first step it may have been worked out before the graph was written."""
    maker = graph.makers.get(name)
    if maker is None or maker.op_type not in NUMBERS:
        return False
    numbers = [starts.get(item, graph.scalar(item)) for item in maker.input]
    if starts.keys().isdisjoint(maker.input):
        return False
    known = [number for number in numbers if number is not None]
    value = OPCODES[NUMBERS[maker.op_type]].value
    if value is None or len(known) != len(numbers):
        return False
    return bool(np.float32(value(*known)) == np.float32(starts[name]))


def unrolled_neuron(
    graph: Operators, results: Sequence[str], given: str, surrogate: SurrogateProgram | None = None
) -> NeuronPart | None:
    """A neuron of which the outputs at two steps or more are ``results``, put together as ``given``; None
    where it is something else."""
    if len(results) < 2:
        return None
    first = _Steps(graph)
    try:
        first.pair(results[1], results[0])
        kept = [name for name in first.starts if not _is_of_others(graph, name, first.starts)]
        second = _Steps(graph, kept)
        if len(results) > 2:
            second.pair(results[2], results[1])
    except _Unlike:
        return None
    if len(first.sources) != 1 or not first.earlier:
        return None
    ((source, now, before),) = first.sources
    states = {name: f"u{place or ''}" for place, name in enumerate(kept)}
    made = Equations(graph, tuple(states.values()), {now: INPUT, **states})
    try:
        output = made.number(results[1])
        after = {states[name]: made.number(later) for name, later in second.next.items()}
        if len(results) == 2:  # what a state becomes is seen of the first step alone
            same = {b: a for a, b in first.earlier.items() if not is_condition(graph.makers[a])}
            known: dict[str, Operand] = {b: made.number(a) for b, a in same.items()}
            made.values = {**known, before: INPUT}
            after = {label: made.number(name) for name, label in states.items()}
    except NotPointwise:
        return None
    if after.keys() != set(states.values()):
        return None
    starts = {states[name]: first.starts[name] for name in kept}
    found = made.neuron(starts, output, after, surrogate)
    members = frozenset(behind(graph, results, {source})) | {given}
    learnt = {item.parameter: name for name, item in made.learnables.items()}
    return NeuronPart(source, given, *found, members, learnt)


def behind(graph: Operators, names: Sequence[str], ends: Collection[str]) -> Iterator[str]:
    """The values that others are made of, as far as the ``ends``, themselves too, with the sizes that
    they are spread over."""
    waiting, seen = [*names], set(ends)
    while waiting:
        name = waiting.pop()
        node = graph.makers.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        yield name
        waiting += () if node.op_type == "Shape" else node.input
