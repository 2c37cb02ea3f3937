"""A stage as a lane of blocks, with the rule's feeds as wires, junctions and delays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from danetc.compiler.draw.flow import point
from danetc.compiler.draw.lanes import TAP, Lane, LaneWire, Stop
from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, TextCell, caption, fitted
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
    Source,
    StageInput,
    sources,
    spread,
)

_MOST_NESTED = 4
_INPUT = "input of "  # used as the source until the input of a later block is known
_SIGNS = {"sum": "+", "concat": "cat", "max": "max", "min": "min"}


class StageLane:
    """A stage as a lane of groups of blocks."""

    def __init__(self, of: Parts, number: int, groups: Sequence[list[int]]) -> None:
        self.of = of
        self.graph = of.graph
        self.stage = of.graph.stages[number]
        self.number = number
        self.name = f"s{number}"
        self.groups = {
            f"{self.name}{'b' if len(group) == 1 else 'more'}{group[0]}": group for group in groups
        }
        self.key = {index: key for key, group in self.groups.items() for index in group}
        self.input_of: dict[int, str] = {}  # source of each block's input
        self.words = {key: span_words(group) for key, group in self.groups.items()}
        self.words[f"{self.name}in"] = "the stage's input"
        self.delays: dict[tuple[str, int], str] = {}
        self.junctions = 0
        self.stops: dict[str, Stop] = {}

    def unit(self, shown: Mapping[int, Unit]) -> Unit:
        """Return the lane; ``shown`` has the units of single blocks, and of groups by first block."""
        stage = self.stage
        entry = self.graph[stage.entry].path
        self._add(box_unit(point(f"{self.name}in", f"the stage's input: {entry}")))
        for key, group in self.groups.items():
            if len(group) > 1:
                self._add_group(key, group, shown.get(group[0]))
                continue
            feeds = stage.blocks[group[0]].feeds
            entering = [
                wire for id, form in feeds for wire in self._entering(form, self.graph[id].value)
            ]
            self.input_of[group[0]] = entering[0].source
            self._add(replace(shown[group[0]], key=key), entering)
        value = self.graph[stage.result].value
        if stage.result_form != OutputOf(len(stage.blocks) - 1):
            entering = self._entering(stage.result_form, value)
            message = f"the stage's output: {value_words(value)}"
            self._add(box_unit(point(f"{self.name}result", message)), entering)
        title = ".".join(stage.scope)
        words = (
            f"{len(stage.blocks)} block{'s' if len(stage.blocks) != 1 else ''} · "
            f"via {stage.connection or 'its blocks'} · by {stage.rule}"
        )
        titles = [
            caption(f"{self.name}title", clean(title), bold=True),
            caption(f"{self.name}about", clean(words, 80), size=SMALL, ink="quiet"),
        ]
        lane = Lane([Stop(stop.unit, self._known(stop.entering)) for stop in self.stops.values()])
        return lane.unit(self.name, titles, f"{title} gives {value_words(value)}")

    def _add(self, unit: Unit, entering: Sequence[LaneWire] = ()) -> None:
        order = {key: place for place, key in enumerate(self.stops)}
        entering = sorted(entering, key=lambda wire: order.get(wire.source, len(order)))
        self.stops[unit.key] = Stop(unit, entering)

    def _known(self, wires: Sequence[LaneWire]) -> list[LaneWire]:
        """Replace the placeholders of sources."""
        return [
            replace(wire, source=self.input_of[int(wire.source.removeprefix(_INPUT))])
            if wire.source.startswith(_INPUT)
            else wire
            for wire in wires
        ]

    def _add_group(self, key: str, group: list[int], unit: Unit | None) -> None:
        """Add blocks that are drawn as one, with the inputs of all of them."""
        blocks = [self.stage.blocks[index] for index in group]
        feeds = [spread(block.feed) for block in blocks]
        forms = [spread(form) for block in blocks for _, form in block.feeds]
        made = [form for form in forms if not isinstance(form, SOURCES)]
        join = f"{key}join"
        for index, feed in zip(group, feeds, strict=True):
            self.input_of[index] = join if made else self._source(next(sources(feed)))[0]
        read = self._read(source for form in forms for source in sources(form))
        entering = [
            self._wire(source, value, "the block before" if source == key else "")
            for source, value in read.items()
        ]
        if made:
            signs = {"f" if isinstance(form, Scaled) else _sign(form) for form in made}
            value = self.graph[blocks[-1].input].value
            message = f"what feeds {span_words(group)}: {clean(str(self.stage.rule))}"
            text = signs.pop() if len(signs) == 1 else "f"
            self._add(_junction(join, text, entering, message), entering)
            entering = [LaneWire(join, look(value), wire_tooltip(message, value))]
        if unit is None:
            alike = {
                signature(self.stage.blocks[index], self.of.blocks[self.number, index])
                for index in (group[0] - 1, *group)
            }
            more = f"more like {group[0] - 1}" if len(alike) == 1 else "more, not all alike"
            rows = (
                (TextCell(span_words(group), bold=True, wide=True),),
                (TextCell(f"{len(group)} {more}", size=SMALL, wide=True),),
            )
            message = f"{span_words(group)} of {'.'.join(self.stage.scope)}"
            nodes = self.of.ids(self.number, group)
            unit = box_unit(
                fitted(Box(key, rows, shape="round", dashed=True, tooltip=message, nodes=nodes))
            )
        self._add(replace(unit, key=key), entering)

    def _source(self, source: Source) -> tuple[str, Value]:
        """Return the stop of a value that the rule names, and the value."""
        match source:
            case OutputOf(block):
                return self.key[block], self.graph[self.stage.blocks[block].output].value
            case StageInput():
                return f"{self.name}in", self.graph[self.stage.entry].value
            case InputOf(block):
                stop = self.input_of.get(block, f"{_INPUT}{block}")
                return stop, self.graph[self.stage.blocks[block].input].value
            case Delayed(steps, OutputOf() | StageInput() | InputOf() as value):
                before, given = self._source(value)
                key = self.delays.setdefault((before, steps), f"{self.name}d{len(self.delays)}")
                if key not in self.stops:  # in front of its first reader
                    text = TextCell(f"delay {steps}", size=SMALL, wide=True)
                    wire = self._wire(before, given)
                    self._add(box_unit(fitted(Box(key, ((text,),), tooltip=wire.tooltip))), [wire])
                    earlier = f"{steps} step{'s' if steps > 1 else ''} before"
                    self.words[key] = f"{self.words.get(before, 'the sum')}, {earlier}"
                return key, given
        raise AssertionError("a spread form delays single values")

    def _read(self, given: Iterable[Source]) -> dict[str, Value]:
        """Return the stop of each source, with a value that covers all values read from it."""
        read: dict[str, Value] = {}
        for source, value in map(self._source, given):
            known = read.get(source, value)
            kind, varies = known.kind | value.kind, known.varies or value.varies
            read[source] = replace(known, kind=kind, varies=varies)
        return read

    def _wire(self, source: str, value: Value, what: str = "") -> LaneWire:
        what = what or self.words.get(source, "the sum")
        return LaneWire(source, look(value), wire_tooltip(what, value))

    def _entering(self, form: Form, value: Value, depth: int = 0) -> list[LaneWire]:
        """Return the wires of a form into a stop, and add its junctions to the lane."""
        form = spread(form)
        if isinstance(form, SOURCES):
            return [self._wire(*self._source(form))]
        single: list[Source] = []
        entering: list[LaneWire] = []
        for part in _addends(form):
            if isinstance(part, SOURCES) or depth == _MOST_NESTED:
                single += sources(part)
            else:
                entering += self._entering(part, value, depth + 1)
        blocks: dict[str, list[int]] = {}
        for each in single:
            if isinstance(each, OutputOf):
                blocks.setdefault(self.key[each.block], []).append(each.block)
        for source, given in self._read(single).items():
            some = sorted({*blocks.get(source, ())})
            entering.append(self._wire(source, given, span_words(some) if some else ""))
        name = (
            form.name
            if isinstance(form, Join)
            else "scale"
            if isinstance(form, Scaled)
            else "learn"
        )
        few = [
            numbers(sorted(read))
            for key, read in blocks.items()
            if sorted(read) != self.groups[key]
        ]
        note = clean(f"of {', '.join(few)}", 32) if few else ""
        key = f"{self.name}j{self.junctions}"
        self.junctions += 1
        message = f"{name}: {value_words(value)}"
        self._add(_junction(key, clean(_sign(form), 10), entering, message, note), entering)
        return [LaneWire(key, look(value), wire_tooltip(name, value))]


def _junction(
    key: str, sign: str, entering: Sequence[LaneWire], tooltip: str, note: str = ""
) -> Unit:
    """Return the unit of a join such as an addition, with a note below it."""
    text = TextCell(sign, bold=len(sign) == 1, size=12.0 if len(sign) == 1 else 9.0)
    width = max(26.0, text.width() + 8, TAP * len(entering) + 8)
    box = Box(key, ((text,),), width, 26.0, shape="bar", fill="join", pen=1.2, tooltip=tooltip)
    if not note:
        return box_unit(box)
    below = caption(f"{key}note", note, size=SMALL, ink="quiet")
    whole, height = max(width, below.width), box.height + 1 + below.height
    boxes = (
        box.at(whole / 2, box.height / 2),
        below.from_corner((whole - below.width) / 2, box.height + 1),
    )
    return Unit(key, Sheet(whole, height, boxes), key, key)


def _addends(form: Made) -> Iterator[Form]:
    """Yield the operands of a junction; nested sums are flattened."""
    for part in form.parts:
        if isinstance(form, Join) and isinstance(part, Join) and part.name == form.name:
            yield from _addends(part)
        else:
            yield part


def _sign(form: Made) -> str:
    """Return the sign of a junction's operation."""
    match form:
        case Join(name):
            return _SIGNS[name]
        case Scaled(float(factor)):
            return f"×{factor:g}"
        case _:
            return "×learn"
