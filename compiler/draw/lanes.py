"""A stage as a lane: its blocks from left to right, and above them what feeds each.

A value that is read further on rises to a line of its own, from which it falls to every place
where it is read; so dense additions stay legible, and two values never share a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    frame,
    routed,
    sheet_of,
)

_GAP = 30.0
_TRACK = 8.0
_TAP = 9.0
_BEFORE = 10.0  # where a repetition comes up, before the first of its boxes


@dataclass(frozen=True, slots=True)
class LaneWire:
    """A wire into a stop of a lane from another stop (or itself: a repetition)."""

    source: str
    look: Look
    tooltip: str = ""


@dataclass(frozen=True, slots=True)
class Stop(Unit):
    """A unit of a lane: a block, an addition, the stage's input.

    Wires come in on the left at ``entry`` or from above, and leave on the right at ``exit``.
    """

    entering: tuple[LaneWire, ...] = ()


def stop_of(unit: Unit, entering: Sequence[LaneWire] = ()) -> Stop:
    """A unit with the wires into it."""
    ends = unit.entry, unit.exit, unit.first, unit.last, unit.entries
    return Stop(unit.key, unit.sheet, *ends, tuple(entering))


def box_stop(box: Box, entering: Sequence[LaneWire] = ()) -> Stop:
    """A box with the wires into it."""
    return stop_of(box_unit(box), entering)


def junction(
    key: str, sign: str, entering: Sequence[LaneWire], tooltip: str = "", note: str = ""
) -> Stop:
    """An addition, or another way of joining, as wide as what comes into it from above needs.

    ``note`` stands below it.
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
    """A stage in its frame. ``title`` are lines of text at its top."""
    return _Lane(key, stops, title, tooltip).unit()


class _Lane:
    def __init__(self, key: str, stops: Sequence[Stop], title: Sequence[Box], tooltip: str) -> None:
        self.key = key
        self.stops = list(stops)
        self.title = title
        self.tooltip = tooltip
        self.index = {stop.key: i for i, stop in enumerate(self.stops)}
        self.x: list[float] = []
        x = 0.0
        for stop in self.stops:
            self.x.append(x)
            x += stop.sheet.width + _GAP
        self.tracks = self._tracks()

    def _above(self, i: int, wire: LaneWire) -> bool:
        return self.index[wire.source] < i - 1

    def _tracks(self) -> dict[str, int]:
        """The line of each value that is read further on; lines far apart share a height.

        The first values get the highest lines.
        """
        last: dict[str, int] = {}
        for i, stop in enumerate(self.stops):
            for wire in stop.entering:
                if self._above(i, wire):
                    last[wire.source] = i
        ends: list[int] = []
        found: dict[str, int] = {}
        for source in sorted(last, key=self.index.__getitem__, reverse=True):
            start, end = self.index[source], last[source]
            free = next((t for t, begins in enumerate(ends) if end < begins), None)
            if free is None:
                free = len(ends)
                ends.append(start)
            ends[free] = start
            found[source] = free
        return found

    def unit(self) -> Unit:
        above = max(stop.entry[1] for stop in self.stops)
        height = max((t + 1 for t in self.tracks.values()), default=0) * _TRACK
        middle = above + height + (6 if height else 0)
        boxes: list[Box] = []
        wires: list[DrawnWire] = []
        places: list[Sheet] = []
        for stop, x in zip(self.stops, self.x, strict=True):
            places.append(stop.sheet.shifted(x, middle - stop.entry[1]))
            boxes += places[-1].boxes
            wires += places[-1].wires
        for i, stop in enumerate(self.stops):
            taps = [wire for wire in stop.entering if self._above(i, wire)]
            wires += [self._wire(i, wire, taps, middle, above) for wire in stop.entering]
        body = sheet_of(boxes, wires)
        return self._framed(body, boxes[0], middle)

    def _wire(
        self, i: int, wire: LaneWire, taps: Sequence[LaneWire], middle: float, above: float
    ) -> DrawnWire:
        stop, j = self.stops[i], self.index[wire.source]
        source = self.stops[j]
        top = middle - stop.entry[1]
        start = (self.x[j] + source.exit[0], middle - source.entry[1] + source.exit[1])
        entry = (self.x[i] + stop.entry[0], middle)
        corners: list[Point] = [start]
        if j == i - 1:
            if start[1] != entry[1]:
                half = (start[0] + entry[0]) / 2
                corners += [(half, start[1]), (half, entry[1])]
            corners.append(entry)
        elif j < i:
            level = middle - above - 6 - _TRACK * self.tracks[wire.source]
            width = stop.sheet.width
            spread = min(_TAP, (stop.sheet.boxes[0].width - 8) / max(1, len(taps)))
            place = taps.index(wire)
            if stop.sheet.boxes[0].shape == "bar":
                x = self.x[i] + width / 2 + spread * (place - (len(taps) - 1) / 2)
            else:
                x = self.x[i] + 14 + spread * place
            rise = self.x[j] + source.sheet.width + 8
            corners += [(rise, start[1]), (rise, level), (x, level), (x, top)]
        else:  # a repetition: back below the boxes, to where the first of them is entered
            low = 9 + max(
                middle - self.stops[k].entry[1] + self.stops[k].sheet.height
                for k in range(i, j + 1)
            )
            turn = self.x[j] + source.sheet.width + 8
            before = self.x[i] - _BEFORE
            corners += [(turn, start[1]), (turn, low), (before, low), (before, middle), entry]
        return routed(source.last, stop.first, wire.look, corners, wire.tooltip)

    def _framed(self, body: Sheet, first: Box, middle: float) -> Unit:
        """The lane in a frame with its title; its input lies on the frame's left edge."""
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
