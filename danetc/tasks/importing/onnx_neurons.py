"""Neurons in a graph of ONNX that is a loop, or one step with its states.

Nothing goes by names, but for which input of one step is which output of the step before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from danetc.dsl.neuron.program import INPUT
from danetc.errors import UserError
from danetc.tasks.importing.equations import (
    POINTWISE,
    Equations,
    NeuronPart,
    Operators,
    is_condition,
    operands,
)
from danetc.tasks.importing.unrolled import behind

_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Neg"})


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of an operator by name."""
    from onnx import helper  # late: it is an extra

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


# -- a loop ----------------------------------------------------------------------------------------


def looped_neuron(graph: Operators, node: Any) -> NeuronPart | None:
    """The neuron that a ``Loop`` runs step by step; None where its body is something else. Raises
    UserError where no neuron has such states."""
    from onnx import numpy_helper

    body = attributes(node)["body"]
    name = node.name or "Loop"
    index, _, *states = (item.name for item in body.input)
    _, *results = (item.name for item in body.output)
    after, given = results[: len(states)], results[len(states) :]
    if len(given) != 1:
        return None
    stored = {**graph.stored, **{item.name: numpy_helper.to_array(item) for item in body.initializer}}  # fmt: skip
    inner = Operators(body.node, stored).behind(results)
    if not {n.op_type for n in inner.nodes} <= {*POINTWISE, "Gather", "Unsqueeze", "Shape"}:
        return None
    sources: dict[str, str] = {}
    for item in inner.nodes:
        if item.op_type == "Gather" and item.input[1] == index and item.input[0] not in stored:
            sources[item.output[0]] = item.input[0]
    inside = {*inner.makers, *stored, *states, index, body.input[1].name, ""}
    for item in inner.nodes:
        if item.op_type in POINTWISE:
            sources |= {taken: taken for taken in operands(item) if taken not in inside}
    if len(sources) != 1:
        return None
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
    return NeuronPart(source, node.output[-1], *found, frozenset(node.output))


# -- one step --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DelayPart:
    """A value of a ``size`` that is read some steps later: as what it is ``given`` there, from what
    ``state``. The other ``members`` are what hands it on."""

    state: str
    source: str
    given: str
    steps: int
    size: tuple[int, ...]
    members: frozenset[str]


def numbers_of_steps(graph: Operators, pairs: Mapping[str, str]) -> set[str]:
    """What of one step takes and gives its number: it is one more at the next."""
    makers = {state: graph.makers.get(after) for state, after in pairs.items()}
    return {
        state
        for state, maker in makers.items()
        if maker is not None
        and maker.op_type == "Add"
        and maker.input[0] == state
        and graph.whole_number(maker.input[1]) == 1
    }


def by_names(pairs: Iterable[str]) -> list[list[str]]:
    """The states of each neuron, which share their name up to the last dot."""
    groups: dict[str, list[str]] = {}
    for state in pairs:
        groups.setdefault(state.rpartition(".")[0] or state, []).append(state)
    return [*groups.values()]


def parts_of_a_step(
    graph: Operators,
    groups: Iterable[Sequence[str]],
    pairs: Mapping[str, str],
    starts: Mapping[str, float],
    sizes: Mapping[str, Sequence[int]],
) -> tuple[list[NeuronPart], list[DelayPart]]:
    """The neurons and delays of a graph of one step; ``pairs`` are what it takes of the step before and
    gives the next, in ``groups`` of what may be the states of one neuron. Raises UserError."""
    found = {
        tuple(states): _neuron_and_delays(graph, states, pairs, starts, sizes) for states in groups
    }
    for states in [states for states, made in found.items() if made is None]:
        others = [other for other in found if other != states] if states in found else []
        for other in others:  # of one neuron, where one of its states only reads the other
            whole = tuple(state for state in pairs if state in {*states, *other})
            made = _stepped(graph, whole, pairs, starts)
            if made is not None:
                del found[states], found[other]
                found[whole] = made, []
                break
    neurons, delays = [], []
    for states, parts in found.items():
        if parts is None:
            raise UserError(
                f"{states[0]}: what is remembered is no state of a neuron that danetc can write, and no "
                "delay"
            )
        neuron, late = parts
        neurons += [] if neuron is None else [neuron]
        delays += late
    return neurons, delays


def _neuron_and_delays(
    graph: Operators,
    states: Sequence[str],
    pairs: Mapping[str, str],
    starts: Mapping[str, float],
    sizes: Mapping[str, Sequence[int]],
) -> tuple[NeuronPart | None, list[DelayPart]] | None:
    """What states are that depend on each other: a neuron, one and a delay of what it reads, or delays;
    None where they are none of these. A neuron of std is taken before others."""
    late: dict[str, DelayPart] = {}
    for state in states:
        delay = None if starts[state] else _delay(graph, state, pairs[state], sizes[state])
        if delay is not None:
            late[state] = delay
    choices = [[*states]]
    if len(states) > 1:
        choices += [[state for state in states if state != one] for one in late]
    neuron, apart = None, {*states}
    for kept in choices:
        made = _stepped(graph, kept, pairs, starts)
        if made is not None and (neuron is None or made.standard > neuron.standard):
            neuron, apart = made, {*states} - {*kept}
    if not apart <= late.keys():
        return None
    return neuron, [delay for state, delay in late.items() if state in apart]


def stateless_neurons(graph: Operators, members: Collection[str]) -> list[NeuronPart]:
    """The neurons without states: spikes of one value, outside of ``members``, which are read."""
    found: list[NeuronPart] = []
    for node in graph.nodes:
        maker = graph.makers.get(node.input[0]) if node.op_type == "Cast" else None
        if maker is None or not is_condition(maker) or node.output[0] in members:
            continue
        entries = {name for name in maker.input if not _is_constant(graph, name)}
        parts = (_part(graph, (), {}, {}, source, node.output[0]) for source in _sources(graph, entries))  # fmt: skip
        possible = [part for part in parts if part is not None]
        if possible:
            found.append(next((part for part in possible if part.standard), possible[0]))
    return found


def _delay(graph: Operators, state: str, after: str, sizes: Sequence[int]) -> DelayPart | None:
    """What becomes a state as it is, or is the last of some that move up: ``state[0]`` is read, and
    ``state[1:]`` with a new one behind it is what it becomes."""
    members = [after]
    while (maker := graph.makers.get(after)) is not None and maker.op_type == "Identity":
        after = maker.input[0]
        members.append(after)
    if not any(user.op_type == "Slice" for user in graph.users.get(state, [])):
        size = tuple(sizes[1:])
        known = size and all(size)
        return DelayPart(state, after, state, 1, size, frozenset(members[:-1])) if known else None
    if maker is None or maker.op_type != "Concat" or len(maker.input) != 2:
        return None
    rest, last = (graph.makers.get(name) for name in maker.input)
    slices = [user for user in graph.users[state] if user.op_type == "Slice"]
    read = [user for node in slices for user in graph.users.get(node.output[0], []) if user.op_type == "Squeeze"]  # fmt: skip
    if (
        rest is None
        or rest not in slices
        or last is None
        or last.op_type != "Unsqueeze"
        or len(read) != 1
    ):
        return None
    end = graph.stored.get(rest.input[2])
    if end is None or end.size != 1:
        return None
    members += [node.output[0] for node in (*slices, *read, last)]
    size, steps = tuple(sizes[2:]), int(end.reshape(-1)[0])
    if not size or not all(size) or steps < 1:
        return None
    return DelayPart(state, last.input[0], read[0].output[0], steps, size, frozenset(members))


def _stepped(
    graph: Operators, states: Sequence[str], pairs: Mapping[str, str], starts: Mapping[str, float]
) -> NeuronPart | None:
    """The neuron that has these states, or None."""
    dependent = _dependent(graph, states)
    ends = [pairs[state] for state in states]
    values = {name for name in behind(graph, ends, set()) if name in dependent}
    members = [graph.makers[name] for name in values]
    if any(node.op_type not in POINTWISE for node in members):
        return None
    entries = {
        taken
        for node in members
        for taken in operands(node)
        if taken and taken not in values and taken not in states and not _is_constant(graph, taken)
    }
    last = [name for name in values if name not in ends and _outside(graph, name, values)]
    chosen: NeuronPart | None = None
    # Arithmetic with numbers belongs to the equations, of which a part may be in it.
    further = True
    for source in _sources(graph, entries):
        possible = (_part(graph, states, pairs, starts, source, given) for given in _results(graph, last, values))  # fmt: skip
        parts = [part for part in possible if part is not None]
        standard = next((part for part in parts if part.standard), None)
        if standard is not None:
            return standard
        if parts and (chosen is None or further):
            chosen = parts[0]
        maker = graph.makers.get(source)
        further = further and maker is not None and maker.op_type in _ARITHMETIC
    return chosen


def _dependent(graph: Operators, states: Sequence[str]) -> set[str]:
    """The values that depend on states."""
    found = set(states)
    for node in graph.nodes:
        if node.op_type != "Shape" and not found.isdisjoint(operands(node)):
            found.update(node.output)
    return found


def _is_constant(graph: Operators, name: str) -> bool:
    """Whether a value is made of stored numbers alone."""
    if name in graph.stored:
        return True
    node = graph.makers.get(name)
    return node is not None and node.op_type in POINTWISE and all(_is_constant(graph, i) for i in operands(node))  # fmt: skip


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
    taken = [item for item in operands(node) if not _is_constant(graph, item)]
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
    members = frozenset(behind(graph, names, {source, *states}))
    return NeuronPart(source, given, *found, members)
