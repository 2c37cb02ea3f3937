"""Loops over time through layers, of which a file has a ``Loop`` or all time steps one behind the other,
as one step and what that remembers.

Nothing goes by names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from danetc.errors import UserError
from danetc.tasks.importing.equations import POINTWISE, Operator, Operators, operands
from danetc.tasks.importing.onnx_neurons import attributes

BOUNDARY = "Boundary"
"""An operator that gives what it takes: a value of all steps, where one step takes or gives it."""
_SIZES = frozenset({"Shape", "Concat", "Unsqueeze", "Squeeze", "Gather"})


@dataclass
class OneStep:
    """A graph with one step in place of its loops. ``pairs`` are what a step takes of the one before and
    gives the next, with their ``starts`` and their ``sizes``, [N, ...] or [steps, N, ...]; ``groups``
    those that depend on each other number by number. ``stacked`` are values [T, N, ...] that loops give,
    ``numbers`` those that are the number of the step, and ``counts`` how many steps were found."""

    graph: Operators
    pairs: dict[str, str] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    stacked: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    counts: set[int] = field(default_factory=set)

    @property
    def groups(self) -> list[list[str]]:
        return coupled(self.graph, self.pairs)


def rolled(graph: Operators, neurons: Collection[str], results: Sequence[str]) -> OneStep:
    """The graph that gives ``results``, where no operator that makes one of ``neurons`` is changed. Raises
    UserError."""
    found = OneStep(graph)
    steps = _Rolling(found)
    nodes: list[Any] = []
    for node in graph.nodes:
        if neurons and not set(neurons).isdisjoint(node.output):
            nodes.append(node)
        elif node.op_type == "Loop":
            nodes += _inlined(found, node)
        elif _joins_steps(graph, node):
            nodes += steps.joined(node)
        else:
            nodes.append(node)
    if found.pairs or found.counts or found.stacked:
        nodes += steps.remembered()
        each = (item for node in nodes for item in (node, *steps.entries.get(node.output[0], [])))
        kept = [node for node in each if found.pairs.keys().isdisjoint(node.output)]
        found.graph = Operators(kept, found.graph.stored).behind([*results, *found.pairs.values()])
    return found


def _joins_steps(graph: Operators, node: Any) -> bool:
    """Whether an operator puts time steps together, and no sizes."""
    if node.op_type != "Concat" or attributes(node).get("axis") != 0 or len(node.input) < 2:
        return False
    makers = [graph.makers.get(name) for name in node.input]
    return all(maker is not None and maker.op_type not in _SIZES for maker in makers)


# -- a loop ----------------------------------------------------------------------------------------


def _inlined(found: OneStep, node: Any) -> Iterator[Any]:
    """The operators of a loop's body, which take and give what all steps have."""
    from onnx import numpy_helper

    body = attributes(node)["body"]
    label = node.output[-1]
    if len(node.output) != len(body.output) - 1 or len(node.input) != len(body.input):
        raise UserError(f"{node.name or 'Loop'}: its body takes or gives another number of values")
    index, going, *states = body.input
    _, *results = body.output
    own = {item.name for item in (*body.input, *body.initializer)}
    own |= {name for item in body.node for name in item.output}
    names = {name: f"{label}:{name}" for name in own} | {"": ""}
    arrays = {names[item.name]: numpy_helper.to_array(item) for item in body.initializer}
    found.graph = Operators(found.graph.nodes, {**found.graph.stored, **arrays})
    for item in body.node:
        if item.op_type == "Gather" and item.input[1] == index.name and item.input[0] not in own:
            yield Operator(BOUNDARY, (item.input[0],), (names[item.output[0]],), item.name)
        elif item.op_type == "Unsqueeze" and item.input[0] == index.name:
            found.numbers.add(names[item.output[0]])
        elif going.name not in item.input:
            changed = type(item).FromString(item.SerializeToString())
            changed.input[:] = [names.get(name, name) for name in item.input]
            changed.output[:] = [names[name] for name in item.output]
            yield changed
    for state, after, taken in zip(states, results[: len(states)], node.input[2:], strict=True):
        start = found.graph.scalar(taken)
        if start is None:
            raise UserError(f"{node.name or 'Loop'}: a state that does not start at one number")
        name = names[state.name]
        found.pairs[name] = names[after.name]
        found.starts[name] = start
        found.sizes[name] = [item.dim_value for item in state.type.tensor_type.shape.dim]
    for given, name in zip(results[len(states) :], node.output[len(states) :], strict=True):
        found.stacked.add(name)
        yield Operator(BOUNDARY, (names[given.name],), (name,), node.name)


# -- steps one behind the other --------------------------------------------------------------------


class _Rolling:
    """What all steps do alike, found from what they give: each value by those of all steps."""

    def __init__(self, found: OneStep) -> None:
        self.found = found
        self.graph = found.graph
        self._known: dict[tuple[str, str], str] = {}
        self.entries: dict[str, list[Operator]] = {}
        """What takes one step, by the first value of what takes the steps apart."""
        self._waiting: list[tuple[str, tuple[str, ...]]] = []
        self._made: list[Any] = []

    def joined(self, node: Any) -> list[Any]:
        """The operators of one step in place of one that puts what it gives together."""
        self._made = []
        self._label = node.name or node.output[0]
        given = self._value(tuple(node.input))
        self.found.counts.add(len(node.input))
        return [*self._made, Operator(BOUNDARY, (given,), (node.output[0],), node.name)]

    def remembered(self) -> list[Any]:
        """The operators that make what the next step takes."""
        self._made = []
        while self._waiting:
            state, steps = self._waiting.pop()
            given = self._value(steps) if len(steps) > 1 else self._again(steps[0])
            self._made.append(Operator("Identity", (given,), (self.found.pairs[state],)))
        return self._made

    def _again(self, first: str) -> str:
        """What a value is called that is seen of the first step alone."""
        known = {name for key, name in self._known.items() if key[0] == first}
        if len(known) == 1:
            return known.pop()
        maker = self.graph.makers.get(first)
        if maker is None:
            if known or first not in self.graph.stored:
                raise UserError(
                    f"{self._label}: a loop over time of two steps, which do not show what the next "
                    "ones do; a file of three steps or more is read, and one of --loop"
                )
            return first
        return self._copied(maker, [name and self._again(name) for name in maker.input], first)

    def _value(self, steps: tuple[str, ...]) -> str:
        """What a value is called, which is called so at each step."""
        graph, key = self.graph, (steps[0], steps[1])
        first, second = steps[0], steps[1]
        if key in self._known:
            return self._known[key]
        if all(name == first for name in steps):
            return first
        if first in graph.stored and second in graph.stored:
            if [graph.whole_number(name) for name in steps] == [*range(len(steps))]:
                self.found.numbers.add(f"{first} and so on")
                return f"{first} and so on"
            if any(not graph.equal(name, first) for name in steps):
                raise self._unlike(f"{first} and {second} are other numbers")
            return first
        makers = [graph.makers.get(name) for name in steps]
        maker = makers[1]
        if maker is not None and maker.op_type == "Split" and all(item is maker for item in makers):
            name = f"{second} alone"
            entry = Operator(BOUNDARY, (maker.input[0],), (name,), maker.name)
            self.entries.setdefault(maker.output[0], []).append(entry)
        elif (start := graph.scalar(first)) is not None:
            name = self._state(steps, start)
        else:
            name = self._operation(steps, makers)
        self._known[key] = name
        return name

    def _state(self, steps: tuple[str, ...], start: float) -> str:
        """What a step takes of the step before."""
        found, size = self.found, _size_of_start(self.graph, steps[0])
        name = f"{steps[1]} before, {start:g} of {size}"
        if name not in found.pairs:
            found.pairs[name] = f"{name}, next"
            found.starts[name] = start
            found.sizes[name] = size
            self._waiting.append((name, steps[1:]))
        return name

    def _operation(self, steps: tuple[str, ...], makers: Sequence[Any]) -> str:
        maker = makers[1]
        kinds = {None if item is None else item.op_type for item in makers}
        if maker is None or len(kinds) > 1:
            named = sorted(str(kind) for kind in kinds if kind is not None)
            raise self._unlike(f"{steps[0]} and {steps[1]} are made by {' and '.join(named)}")
        if any(not _alike(item, maker) for item in makers) or maker.output[0] != steps[1]:
            raise self._unlike(f"{steps[0]} and {steps[1]} are other operators {maker.op_type}")
        each = zip(*(item.input for item in makers), strict=True)
        taken = [self._value(names) if names[0] else "" for names in each]
        return self._copied(maker, taken, steps[1])

    def _copied(self, node: Any, taken: Sequence[str], given: str) -> str:
        changed = type(node).FromString(node.SerializeToString())
        changed.input[:] = taken
        changed.output[:] = [f"{given} alone"]
        self._made.append(changed)
        return f"{given} alone"

    def _unlike(self, why: str) -> UserError:
        return UserError(
            f"{self._label}: its time steps are not alike ({why}), so that they are not read as a loop; a "
            "file of danetc's is read in the form of --streaming"
        )


def _alike(a: Any, b: Any) -> bool:
    """Whether two operators are the same one of other values."""
    return len(a.input) == len(b.input) and attributes(a) == attributes(b)


def _size_of_start(graph: Operators, name: str) -> list[int]:
    """The size [N, ...] or [steps, N, ...] of a number that is spread over the samples, with 0 for N; []
    where it is a number alone."""
    maker = graph.makers.get(name)
    if maker is None or maker.op_type != "Expand":
        return []
    size = graph.makers.get(maker.input[1])
    parts = [maker.input[1]] if size is None else [*size.input]
    found: list[int] = []
    for part in parts:
        array = graph.stored.get(part)
        found += [0] if array is None else [int(item) for item in array]
    return found


# -- what depends on each other --------------------------------------------------------------------


def coupled(graph: Operators, pairs: Mapping[str, str]) -> list[list[str]]:
    """What steps remember, in groups that depend on each other number by number: the states of a neuron."""
    import networkx as nx

    reads: nx.DiGraph[str] = nx.DiGraph()
    reads.add_nodes_from(pairs)
    for state, after in pairs.items():
        waiting, seen = [after], set[str]()
        while waiting:
            name = waiting.pop()
            node = graph.makers.get(name)
            if name in pairs:
                reads.add_edge(state, name)
            elif name not in seen and node is not None and node.op_type in POINTWISE:
                waiting += operands(node)
            seen.add(name)
    order = {state: place for place, state in enumerate(pairs)}
    groups = nx.strongly_connected_components(reads)
    return sorted(
        (sorted(group, key=order.__getitem__) for group in groups), key=lambda g: order[g[0]]
    )
