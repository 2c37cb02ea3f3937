"""A stage as a lane: blocks from left to right, and above them the wires that feed each.

A value that later blocks read has a line of its own above the boxes, with a tap to each reader, so
dense additions stay legible. Below the boxes, the outputs of later blocks lead back to earlier blocks
through delays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from danetc.compiler.draw.rows import Unit, box_unit
from danetc.compiler.draw.sheet import (
    SMALL,
    Box,
    DrawnWire,
    Look,
    Point,
    Sheet,
    TextCell,
    caption,
    fitted,
    frame,
    routed,
    sheet_of,
)
from danetc.dsl.record import record

_GAP = 30.0
_TRACK = 8.0
_TAP = 9.0
_BEFORE = 10.0  # where feedback rises, before the first of its boxes


@record
class LaneWire:
    """A wire into a stop of a lane from another stop, or from itself (a repetition).

    It leads through a delay of ``steps`` time steps.
    """

    source: str
    look: Look
    tooltip: str = ""
    steps: int = 0


@record
class Stop(Unit):
    """A unit of a lane: a block, an addition, or the stage's input.

    Wires enter on the left at ``entry`` or from above, and leave on the right at ``exit``.
    """

    entering: tuple[LaneWire, ...] = ()


def stop_of(unit: Unit, entering: Sequence[LaneWire] = ()) -> Stop:
    """Return a unit as a stop with the wires into it."""
    ends = unit.entry, unit.exit, unit.first, unit.last, unit.entries
    return Stop(unit.key, unit.sheet, *ends, tuple(entering))


def box_stop(box: Box, entering: Sequence[LaneWire] = ()) -> Stop:
    """Return a box as a stop with the wires into it."""
    return stop_of(box_unit(box), entering)


def junction(
    key: str, sign: str, entering: Sequence[LaneWire], tooltip: str = "", note: str = ""
) -> Stop:
    """Return an addition or another join, wide enough for its wires from above.

    ``note`` is written below it.
    """
    single = len(sign) == 1
    text = TextCell(sign, bold=single, size=12.0 if single else 9.0)
    width = max(26.0, text.width() + 8, _TAP * len(entering) + 8)
    box = Box(key, ((text,),), width, 26.0, shape="bar", fill="join", pen=1.2, tooltip=tooltip)
    stop = box_stop(box, entering)
    if not note:
        return stop
    below = caption(f"{key}note", note, size=SMALL, ink="quiet")
    width = max(width, below.width)
    middle = width / 2
    parts = (
        box.at(middle, box.height / 2),
        below.from_corner(middle - below.width / 2, box.height + 1),
    )
    sheet = Sheet(width, box.height + 1 + below.height, parts)
    side = (width - box.width) / 2
    return replace(
        stop, sheet=sheet, entry=(side, box.height / 2), exit=(width - side, box.height / 2)
    )


def lane(key: str, stops: Sequence[Stop], title: Sequence[Box], tooltip: str = "") -> Unit:
    """Return a stage in its frame, with the lines of ``title`` at the top."""
    return _Lane(key, stops, title, tooltip).unit()


_Line = tuple[str, int, bool]
"""Line beside the boxes: its source, the steps of its delay, and True if it leads back, below."""


class _Lane:
    def __init__(self, key: str, stops: Sequence[Stop], title: Sequence[Box], tooltip: str) -> None:
        self.key = key
        self.stops = list(stops)
        self.title = title
        self.tooltip = tooltip
        self.index = {stop.key: i for i, stop in enumerate(self.stops)}
        self.delays = self._delays()
        room = {line[0]: box.width + 12 for line, box in self.delays.items() if not line[2]}
        self.x: list[float] = []
        x = 0.0
        for stop in self.stops:
            self.x.append(x)
            x += stop.sheet.width + _GAP + room.get(stop.key, 0.0)
        self.above = self._levels(self._tracks())
        self.below = self._levels(self._lows())
        self.over = max(stop.entry[1] for stop in self.stops)
        height = max(self.above.values(), default=0.0)
        self.middle = self.over + height + (6 if height else 0)

    def _delays(self) -> dict[_Line, Box]:
        """Return the box of each delay, without a position."""
        found: dict[_Line, Box] = {}
        for i, stop in enumerate(self.stops):
            for wire in stop.entering:
                if wire.steps:
                    text = TextCell(f"delay {wire.steps}", size=SMALL, wide=True)
                    box = Box(f"{self.key}d{len(found)}", ((text,),), tooltip=wire.tooltip)
                    found.setdefault(self._line(i, wire), fitted(box))
        return found

    def _line(self, i: int, wire: LaneWire) -> _Line:
        return wire.source, wire.steps, self._below(i, wire)

    def _above(self, i: int, wire: LaneWire) -> bool:
        """True if a wire runs above the boxes: it skips a stop, or is delayed."""
        return self.index[wire.source] < (i if wire.steps else i - 1)

    def _below(self, i: int, wire: LaneWire) -> bool:
        """True if a wire leads back, below the boxes."""
        return self.index[wire.source] >= i

    def _tracks(self) -> dict[_Line, int]:
        """Return the track of each line above; lines that do not overlap share tracks.

        The first values get the highest tracks.
        """
        last: dict[_Line, int] = {}
        for i, stop in enumerate(self.stops):
            for wire in stop.entering:
                if self._above(i, wire):
                    last[self._line(i, wire)] = i
        ends: list[int] = []
        found: dict[_Line, int] = {}
        for line in sorted(last, key=lambda line: self.index[line[0]], reverse=True):
            start, end = self.index[line[0]], last[line]
            free = next((t for t, begins in enumerate(ends) if end < begins), None)
            if free is None:
                free = len(ends)
                ends.append(start)
            ends[free] = start
            found[line] = free
        return found

    def _lows(self) -> dict[_Line, int]:
        """Return the track of each line below; the shortest lines are nearest to the boxes."""
        first: dict[_Line, int] = {}
        for i, stop in enumerate(self.stops):
            for wire in stop.entering:
                if self._below(i, wire):
                    first.setdefault(self._line(i, wire), i)
        taken: list[list[tuple[int, int]]] = []
        found: dict[_Line, int] = {}
        for line, i in sorted(first.items(), key=lambda each: self.index[each[0][0]] - each[1]):
            j = self.index[line[0]]
            free = (t for t, spans in enumerate(taken) if all(j < a or b < i for a, b in spans))
            found[line] = next(free, len(taken))
            if found[line] == len(taken):
                taken.append([])
            taken[found[line]].append((i, j))
        return found

    def _levels(self, tracks: Mapping[_Line, int]) -> dict[_Line, float]:
        """Return the distance of each line from the boxes; tracks are as high as their delays."""
        heights: dict[int, float] = {}
        for line, track in tracks.items():
            box = self.delays.get(line)
            heights[track] = max(heights.get(track, _TRACK), 0.0 if box is None else box.height + 3)
        ends = dict(
            zip(sorted(heights), accumulate(heights[t] for t in sorted(heights)), strict=True)
        )
        return {line: ends[track] - (heights[track] - _TRACK) / 2 for line, track in tracks.items()}

    def unit(self) -> Unit:
        boxes: list[Box] = []
        wires: list[DrawnWire] = []
        for stop, x in zip(self.stops, self.x, strict=True):
            place = stop.sheet.shifted(x, self.middle - stop.entry[1])
            boxes += place.boxes
            wires += place.wires
        for line in self.delays:
            box, wire = self._delayed(line)
            boxes.append(box)
            wires.append(wire)
        for i, stop in enumerate(self.stops):
            taps = [wire for wire in stop.entering if self._above(i, wire)]
            lows = [wire for wire in stop.entering if self._below(i, wire)]
            wires += [self._wire(i, wire, taps, lows) for wire in stop.entering]
        body = sheet_of(boxes, wires)
        return self._framed(body, boxes[0], self.middle)

    def _start(self, source: str) -> Point:
        """Return the point where wires leave a stop."""
        j = self.index[source]
        stop = self.stops[j]
        return (self.x[j] + stop.exit[0], self.middle - stop.entry[1] + stop.exit[1])

    def _level(self, line: _Line) -> float:
        """Return the y coordinate of a line beside the boxes."""
        if line in self.above:
            return self.middle - self.over - 6 - self.above[line] + _TRACK
        bottom = max(self.middle - stop.entry[1] + stop.sheet.height for stop in self.stops)
        return bottom + 1 + self.below[line]

    def _turn(self, source: str) -> float:
        """Return the x coordinate where a wire turns, right of a stop."""
        j = self.index[source]
        return self.x[j] + self.stops[j].sheet.width + 8

    def _delayed(self, line: _Line) -> tuple[Box, DrawnWire]:
        """Return the box of a delay on its line, and the wire into it."""
        source, level, turn = line[0], self._level(line), self._turn(line[0])
        box, start = self.delays[line], self._start(source)
        aside = 10 + box.width / 2
        box = self.delays[line] = box.at(turn + (aside if line in self.above else -aside), level)
        end = box.left if line in self.above else box.right
        corners = [start, (turn, start[1]), (turn, level), (end, level)]
        wire = next(
            wire
            for i, stop in enumerate(self.stops)
            for wire in stop.entering
            if self._line(i, wire) == line
        )
        return box, routed(self.stops[self.index[source]].last, box.key, wire.look, corners)

    def _wire(
        self, i: int, wire: LaneWire, taps: Sequence[LaneWire], lows: Sequence[LaneWire]
    ) -> DrawnWire:
        stop, j = self.stops[i], self.index[wire.source]
        line = self._line(i, wire)
        start = self._start(wire.source)
        entry = (self.x[i] + stop.entry[0], self.middle)
        tail = self.stops[j].last
        corners: list[Point] = [start]
        if line in self.delays:
            box = self.delays[line]
            tail = box.key
            corners = [(box.right if line in self.above else box.left, box.y)]
        elif j != i - 1:
            turn = self._turn(wire.source)
            corners += [(turn, start[1]), (turn, self._level(line))]
        if self._above(i, wire):
            x = self._tap(i, taps.index(wire), len(taps))
            corners += [(x, self._level(line)), (x, self.middle - stop.entry[1])]
        elif self._below(i, wire):
            corners += self._up(i, self._level(line), lows.index(wire), len(lows), corners[-1][0])
        else:
            if start[1] != entry[1]:
                half = (start[0] + entry[0]) / 2
                corners += [(half, start[1]), (half, entry[1])]
            corners.append(entry)
        return routed(tail, stop.first, wire.look, corners, wire.tooltip)

    def _tap(self, i: int, place: int, count: int) -> float:
        """Return the x coordinate where one of the wires from above or below meets a stop."""
        stop = self.stops[i]
        spread = min(_TAP, (stop.sheet.boxes[0].width - 8) / max(1, count))
        if stop.sheet.boxes[0].shape == "bar":
            return self.x[i] + stop.sheet.width / 2 + spread * (place - (count - 1) / 2)
        return self.x[i] + 14 + spread * place

    def _up(self, i: int, level: float, place: int, count: int, start: float) -> list[Point]:
        """Return the corners from a line below into a junction, or into the entry of a box."""
        stop = self.stops[i]
        x = self._tap(i, place, count)
        bar = stop.sheet.boxes[0]
        if bar.shape == "bar" and x < start - 4:
            return [(x, level), (x, self.middle - stop.entry[1] + bar.height)]
        before = min(self.x[i] - _BEFORE, start - 4)
        return [(before, level), (before, self.middle), (self.x[i] + stop.entry[0], self.middle)]

    def _framed(self, body: Sheet, first: Box, middle: float) -> Unit:
        """Return the lane in a frame with its title and with its input on the left edge."""
        pad = 10.0
        y = 6.0
        titles = []
        width = body.width
        for text in self.title:
            titles.append(text.from_corner(pad, y))
            y += text.height
            width = max(width, text.width)
        moved = body.shifted(pad, y + 4)
        shift = moved.boxes[0].y - first.y
        height = y + 4 + body.height + pad
        around = frame(f"{self.key}frame", width + 2 * pad, height, self.tooltip)
        sheet = Sheet(around.width, height, (around, *titles, *moved.boxes), moved.wires)
        start, end = self.stops[0], self.stops[-1]
        exit = (
            moved.boxes[0].x - first.x + self.x[-1] + end.exit[0],
            middle - end.entry[1] + end.exit[1] + shift,
        )
        entry = moved.box(start.first)
        return Unit(self.key, sheet, (entry.left, entry.y), exit, start.first, end.last)
