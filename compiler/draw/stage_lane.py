"""A stage as a lane of blocks, with the rule's feeds as wires and junctions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from danetc.compiler.draw.flow import point
from danetc.compiler.draw.lanes import LaneWire, Stop, box_stop, junction, lane, stop_of
from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import SMALL, Box, Rows, TextCell, caption, fitted
from danetc.compiler.draw.units import Parts, signature
from danetc.compiler.draw.words import clean, look, numbers, span_words, value_words, wire_tooltip
from danetc.compiler.ir.graph import Value
from danetc.compiler.ir.rule_forms import (
    SOURCES,
    Delayed,
    Form,
    InputOf,
    Join,
    Made,
    OutputOf,
    Scaled,
    ScaledByLearnt,
    Source,
    StageInput,
    sources,
    spread,
)

_MOST_NESTED = 4
_INPUT = "input of "  # placeholder for the source of a later block's input
_SIGNS = {"sum": "+", "concat": "cat", "max": "max", "min": "min"}

Read = tuple[str, int]
"""A stop, and the number of time steps by which its value is delayed."""


class StageLane:
    """A stage as a lane of groups of blocks."""

    def __init__(self, of: Parts, number: int, groups: Sequence[list[int]]) -> None:
        self.of = of
        self.graph = of.graph
        self.number = number
        self.stage = of.graph.stages[number]
        self.name = f"s{number}"
        self.groups = {
            f"{self.name}b{group[0]}" if len(group) == 1 else f"{self.name}more{group[0]}": group
            for group in groups
        }
        self.key = {index: key for key, group in self.groups.items() for index in group}
        self.input_of: dict[int, Read] = {}  # source of each block's input
        self.stops: list[Stop] = []
        self.place: dict[str, int] = {}
        self.junctions = 0

    def unit(self, shown: Mapping[int, Unit]) -> Unit:
        """Return the lane; ``shown`` has the units of single blocks, and of groups by first block."""
        stage = self.stage
        entry = self.graph[stage.entry]
        self._add(box_stop(point(f"{self.name}in", f"the stage's input: {entry.path}")))
        for key, group in self.groups.items():
            if len(group) > 1:
                self._add_group(key, group, shown.get(group[0]))
                continue
            block = stage.blocks[group[0]]
            entering = [
                wire
                for id, form in block.feeds
                for wire in self._entering(spread(form), self.graph[id].value)
            ]
            self.input_of[group[0]] = entering[0].source, entering[0].steps
            self._add(stop_of(replace(shown[group[0]], key=key), entering))
        value = self.graph[stage.result].value
        if stage.result_form != OutputOf(len(stage.blocks) - 1):
            entering = self._entering(spread(stage.result_form), value)
            message = f"the stage's output: {value_words(value)}"
            self._add(box_stop(point(f"{self.name}result", message), entering))
        title = ".".join(stage.scope)
        words = (
            f"{len(stage.blocks)} block{'s' if len(stage.blocks) != 1 else ''} · "
            f"via {stage.connection or 'its blocks'} · by {stage.rule}"
        )
        titles = [
            caption(f"{self.name}title", clean(title), bold=True),
            caption(f"{self.name}about", clean(words, 80), size=SMALL, ink="quiet"),
        ]
        return lane(
            self.name,
            [*map(self._resolved, self.stops)],
            titles,
            f"{title} gives {value_words(value)}",
        )

    def _add(self, stop: Stop) -> None:
        self.place[stop.key] = len(self.stops)
        self.stops.append(stop)

    def _add_group(self, key: str, group: list[int], unit: Unit | None) -> None:
        """Add blocks drawn as one, with the inputs of all of them."""
        blocks = [self.stage.blocks[index] for index in group]
        feeds = [spread(block.feed) for block in blocks]
        forms = [spread(form) for block in blocks for _, form in block.feeds]
        made = [form for form in forms if not isinstance(form, SOURCES)]
        join = f"{key}join"
        for index, feed in zip(group, feeds, strict=True):
            self.input_of[index] = (join, 0) if made else self._source(next(sources(feed)))[0]
        read: dict[Read, Value] = {}
        for form in forms:
            for source, value in map(self._source, sources(form)):
                read[source] = _wider(read.get(source, value), value)
        last = len(self.stops)
        entering = [
            self._wire(source, read[source], "the block before" if source == (key, 0) else "")
            for source in sorted(read, key=lambda it: self.place.get(it[0], last + (it[0] == key)))
        ]
        if made:
            signs = {"f" if isinstance(form, Scaled) else _sign(form) for form in made}
            value = self.graph[blocks[-1].input].value
            message = f"what feeds {span_words(group)}: {clean(str(self.stage.rule))}"
            text = signs.pop() if len(signs) == 1 else "f"
            self._add(junction(join, text, entering, message))
            entering = [LaneWire(join, look(value), wire_tooltip(message, value))]
        if unit is None:
            rows: Rows = (
                (TextCell(span_words(group), bold=True, wide=True),),
                (TextCell(self._alike(group), size=SMALL, wide=True),),
            )
            message = f"{span_words(group)} of {'.'.join(self.stage.scope)}"
            unit = box_unit(fitted(Box(key, rows, shape="round", dashed=True, tooltip=message)))
        self._add(stop_of(replace(unit, key=key), entering))

    def _alike(self, group: list[int]) -> str:
        """Describe blocks that are not drawn: ``33 more like 1``."""
        before = group[0] - 1
        kinds = {
            signature(self.stage.blocks[index], self.of.blocks[self.number, index])
            for index in (before, *group)
        }
        if len(kinds) == 1:
            return f"{len(group)} more like {before}"
        return f"{len(group)} more, not all alike"

    def _source(self, source: Source) -> tuple[Read, Value]:
        """Return the source of a value that the rule names, and the value."""
        match source:
            case OutputOf(block):
                return (self.key[block], 0), self.graph[self.stage.blocks[block].output].value
            case StageInput():
                return (f"{self.name}in", 0), self.graph[self.stage.entry].value
            case InputOf(block):
                stop = self.input_of.get(block, (f"{_INPUT}{block}", 0))
                return stop, self.graph[self.stage.blocks[block].input].value
            case Delayed(steps, value):
                assert isinstance(value, SOURCES)
                (key, more), given = self._source(value)
                return (key, steps + more), given
        assert_never(source)

    def _resolved(self, stop: Stop) -> Stop:
        """Replace placeholders of sources in a stop."""

        def found(wire: LaneWire) -> LaneWire:
            if not wire.source.startswith(_INPUT):
                return wire
            source, more = self.input_of[int(wire.source.removeprefix(_INPUT))]
            return replace(wire, source=source, steps=wire.steps + more)

        return replace(stop, entering=tuple(map(found, stop.entering)))

    def _wire(self, read: Read, value: Value, what: str = "") -> LaneWire:
        source, steps = read
        if not what and source == f"{self.name}in":
            what = "the stage's input"
        elif not what:
            what = span_words(self.groups[source]) if source in self.groups else "the sum"
        if steps:
            what += f", {steps} step{'s' if steps > 1 else ''} before"
        return LaneWire(source, look(value), wire_tooltip(what, value), steps)

    def _entering(self, form: Form, value: Value, depth: int = 0) -> list[LaneWire]:
        """Return the wires of a form into a stop, and add its junctions to the lane."""
        if isinstance(form, SOURCES):
            return [self._wire(*self._source(form))]
        key = f"{self.name}j{self.junctions}"
        self.junctions += 1
        read: dict[Read, Value] = {}
        indices: dict[Read, list[int]] = {}
        entering: list[LaneWire] = []
        for part in _addends(form):
            if not isinstance(part, SOURCES) and depth < _MOST_NESTED:
                entering += self._entering(part, value, depth + 1)
                continue
            for each in sources(part):
                source, given = self._source(each)
                read[source] = _wider(read.get(source, given), given)
                block = each.value if isinstance(each, Delayed) else each
                if isinstance(block, OutputOf):
                    indices.setdefault(source, []).append(block.block)
        for source, given in read.items():
            of = sorted(set(indices.get(source, ())))
            entering.append(self._wire(source, given, span_words(of) if of else ""))
        entering.sort(key=lambda wire: self.place.get(wire.source, len(self.stops)))
        name = _name(form)
        message = f"{name}: {value_words(value)}"
        self._add(junction(key, clean(_sign(form), 10), entering, message, self._note(indices)))
        return [LaneWire(key, look(value), wire_tooltip(name, value))]

    def _note(self, read: Mapping[Read, list[int]]) -> str:
        """Name the blocks that are read, unless those are all blocks of a group, once."""
        words = [
            numbers(sorted(indices))
            for (source, _), indices in read.items()
            if source in self.groups and sorted(indices) != self.groups[source]
        ]
        return clean(f"of {', '.join(words)}", 32) if words else ""


def _wider(one: Value, other: Value) -> Value:
    """Return the properties common to two values that share a wire."""
    return replace(one, kind=one.kind | other.kind, varies=one.varies or other.varies)


def _addends(form: Made) -> Iterator[Form]:
    """Yield the operands of a junction; nested sums are flattened."""
    for part in form.parts:
        if isinstance(form, Join) and isinstance(part, Join) and part.name == form.name:
            yield from _addends(part)
        else:
            yield part


def _name(form: Made) -> str:
    """Return the name of a junction's operation."""
    match form:
        case Join(name):
            return name
        case Scaled():
            return "scale"
        case ScaledByLearnt():
            return "learn"
    assert_never(form)


def _sign(form: Made) -> str:
    """Return the sign of a junction's operation."""
    match form:
        case Join(name):
            return _SIGNS[name]
        case Scaled(factor):
            return f"×{factor:g}"
        case ScaledByLearnt():
            return "×learn"
    assert_never(form)
