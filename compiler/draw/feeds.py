"""A stage as a lane of blocks: what the rule says of each block becomes wires and junctions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from danetc.compiler.draw.lanes import LaneWire, Stop, box_stop, junction, lane
from danetc.compiler.draw.layers import point
from danetc.compiler.draw.rows import Unit
from danetc.compiler.draw.sheet import SMALL, Box, Rows, TextCell, caption, fitted
from danetc.compiler.draw.units import Parts, leaves, signature
from danetc.compiler.draw.words import clean, look, numbers, span_words, value_words, wire_tooltip
from danetc.compiler.ir.graph import Form, Value

_MOST_NESTED = 4
_SIGNS = {"sum": "+", "concat": "cat", "max": "max", "min": "min"}


def wider(one: Value, other: Value) -> Value:
    """What is known of two values that share a wire."""
    return replace(one, kind=one.kind | other.kind, varies=one.varies or other.varies)


class StageLane:
    """A stage as a lane of groups of blocks."""

    def __init__(self, of: Parts, number: int, groups: Sequence[list[int]]) -> None:
        self.of = of
        self.graph = of.graph
        self.number = number
        self.stage = of.graph.stages[number]
        self.groups = groups
        self.name = f"s{number}"
        self.key = {
            index: f"{self.name}b{group[0]}" if len(group) == 1 else f"{self.name}more{group[0]}"
            for group in groups
            for index in group
        }
        self.stops: list[Stop] = []
        self.junctions = 0

    def unit(self, shown: Mapping[int, Stop]) -> Unit:
        """The lane. ``shown`` has a stop for each block that stands alone, and may have one for
        the first of a group."""
        stage = self.stage
        entry = self.graph[stage.entry]
        self.stops.append(box_stop(point(f"{self.name}in", f"the stage's input: {entry.path}")))
        for group in self.groups:
            block = stage.blocks[group[0]]
            if len(group) == 1:
                feeds = tuple(
                    wire
                    for id, form in block.feeds
                    for wire in self._feeds(form, self.graph[id].value)
                )
                self.stops.append(replace(shown[group[0]], key=self.key[group[0]], feeds=feeds))
            else:
                self._group(group, shown.get(group[0]))
        last = ("out", len(stage.blocks) - 1)
        if stage.result_form != last:
            value = self.graph[stage.result].value
            feeds = self._feeds(stage.result_form, value)
            message = f"the stage's output: {value_words(value)}"
            self.stops.append(box_stop(point(f"{self.name}result", message), feeds))
        result = self.graph[stage.result].value
        words = (
            f"{len(stage.blocks)} block{'s' if len(stage.blocks) != 1 else ''} · "
            f"via {stage.connection or 'its blocks'} · by {stage.rule}"
        )
        titles = [
            caption(f"{self.name}title", clean(".".join(stage.scope)), bold=True),
            caption(f"{self.name}about", clean(words, 80), size=SMALL, ink="quiet"),
        ]
        message = f"{'.'.join(stage.scope)} gives {value_words(result)}"
        return lane(self.name, self.stops, titles, message)

    def _group(self, group: list[int], stop: Stop | None) -> None:
        """Blocks drawn as one: fed by all that feeds any of them, and by themselves."""
        name = self.key[group[0]]
        blocks = [self.stage.blocks[index] for index in group]
        read: dict[str, Value] = {}
        for block in blocks:
            for leaf in (leaf for _, form in block.feeds for leaf in leaves(form)):
                source, value = self._source(leaf)
                read[source] = wider(read.get(source, value), value)
        heads = {str(form[0]) for block in blocks for _, form in block.feeds} - {"in", "out"}
        ordered = sorted(read, key=lambda key: (key == name, self._position(key)))
        feeds = [
            LaneWire(
                key,
                look(read[key]),
                self._told(key, read[key], "the block before" if key == name else ""),
            )
            for key in ordered
        ]
        if heads:
            signs = {_SIGNS.get(head, "f") for head in heads}
            value = self.graph[blocks[-1].input].value
            message = f"what feeds {span_words(group)}: {clean(str(self.stage.rule))}"
            join = junction(f"{name}join", signs.pop() if len(signs) == 1 else "f", feeds, message)
            self.stops.append(join)
            feeds = [LaneWire(join.key, look(value), wire_tooltip(message, value))]
        if stop is None:
            rows: Rows = (
                (TextCell(span_words(group), bold=True, wide=True),),
                (TextCell(self._alike(group), size=SMALL, wide=True),),
            )
            message = f"{span_words(group)} of {'.'.join(self.stage.scope)}"
            stop = box_stop(fitted(Box(name, rows, shape="round", dashed=True, tooltip=message)))
        self.stops.append(replace(stop, key=name, feeds=tuple(feeds)))

    def _alike(self, group: list[int]) -> str:
        """What blocks that are not drawn are like: ``33 more like 1``."""
        before = group[0] - 1
        kinds = {
            signature(self.stage.blocks[index], self.of.blocks[self.number, index])
            for index in (before, *group)
        }
        if len(kinds) == 1:
            return f"{len(group)} more like {before}"
        return f"{len(group)} more, not all alike"

    def _position(self, key: str) -> int:
        return next((i for i, stop in enumerate(self.stops) if stop.key == key), len(self.stops))

    def _source(self, leaf: tuple[str, int]) -> tuple[str, Value]:
        kind, index = leaf
        if kind == "in":
            return f"{self.name}in", self.graph[self.stage.entry].value
        return self.key[index], self.graph[self.stage.blocks[index].output].value

    def _told(self, key: str, value: Value, what: str = "") -> str:
        return wire_tooltip(what or self._words(key), value)

    def _words(self, key: str) -> str:
        if key == f"{self.name}in":
            return "the stage's input"
        group = [index for index, name in self.key.items() if name == key]
        return span_words(group) if group else "the sum"

    def _feeds(self, form: Form, value: Value, depth: int = 0) -> tuple[LaneWire, ...]:
        """What comes into a stop by a form; its junctions are added to the lane on the way."""
        if form[0] in ("in", "out"):
            source, given = self._source(leaves(form)[0])
            return (LaneWire(source, look(given), self._told(source, given)),)
        head = str(form[0])
        name = f"{self.name}j{self.junctions}"
        self.junctions += 1
        read: dict[str, Value] = {}
        indices: dict[str, list[int]] = {}
        inner: list[LaneWire] = []
        todo = [part for part in reversed(form[1:]) if isinstance(part, tuple)]
        while todo:
            part = todo.pop()
            if part[0] in ("in", "out") or depth >= _MOST_NESTED:
                for leaf in leaves(part):
                    source, given = self._source(leaf)
                    read[source] = wider(read.get(source, given), given)
                    if leaf[0] == "out":
                        indices.setdefault(source, []).append(leaf[1])
            elif part[0] == head and head not in ("scale", "learn"):  # a sum of sums is a sum
                todo += reversed(part[1:])
            else:
                inner += self._feeds(part, value, depth + 1)
        feeds = [
            LaneWire(
                key,
                look(v),
                self._told(key, v, span_words(sorted(set(indices[key]))) if key in indices else ""),
            )
            for key, v in read.items()
        ]
        feeds = sorted([*feeds, *inner], key=lambda feed: self._position(feed.source))
        text = (
            f"×{form[1]:g}"
            if head == "scale" and isinstance(form[1], (int, float))
            else "×learn"
            if head == "learn"
            else _SIGNS.get(head, head)
        )
        message = f"{head}: {value_words(value)}"
        self.stops.append(junction(name, clean(text, 10), feeds, message, self._note(indices)))
        return (LaneWire(name, look(value), wire_tooltip(head, value)),)

    def _note(self, read: dict[str, list[int]]) -> str:
        """Which blocks are read, where that is not each of those that are drawn as one, once."""
        words = [
            numbers(sorted(indices))
            for key, indices in read.items()
            for group in self.groups
            if self.key[group[0]] == key and sorted(indices) != group
        ]
        return clean(f"of {', '.join(words)}", 32) if words else ""
