"""A lane: stops from left to right, and beside them the wires that skip a stop.

If a value is read by later stops, one line above the boxes leads to all of them. This makes dense
additions easier to read. Wires to earlier stops are drawn below the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.draw.rows import Unit
from danetc.compiler.draw.sheet import Box, DrawnWire, Look, Point, Sheet, frame, routed, sheet_of
from danetc.dsl.record import record

_GAP = 30.0
_TRACK = 8.0
TAP = 9.0
_BEFORE = 10.0  # where feedback rises, before the first of its boxes
_PAD = 10.0


@record
class LaneWire:
    """A wire into a stop from the stop ``source``, which may be a later one or the stop itself."""

    source: str
    look: Look
    tooltip: str = ""


@record
class Stop:
    """A unit of a lane (a block, an addition, a delay) and the wires into it.

    Wires enter a unit on the left or at the top of the first box of its sheet.
    """

    unit: Unit
    entering: Sequence[LaneWire] = ()


_Line = tuple[str, bool]
"""Line beside the boxes: its source, and True if it leads back, below."""


class Lane:
    """Layout of a lane; ``unit`` draws it."""

    def __init__(self, stops: Sequence[Stop]) -> None:
        self.stops = stops
        self.index = {stop.unit.key: i for i, stop in enumerate(stops)}
        self.over = max(stop.unit.entry[1] for stop in stops)
        self.x: list[float] = []
        x = 0.0
        for stop in stops:
            self.x.append(x)
            x += stop.unit.sheet.width + _GAP
        spans: dict[_Line, tuple[int, int]] = {}
        for i, stop in enumerate(stops):
            for wire in stop.entering:
                line = self._line(i, wire)
                if line is not None:
                    j = self.index[wire.source]
                    low, high = spans.get(line, (j, j))
                    spans[line] = min(low, i), max(high, i)
        above = sorted(
            (line for line in spans if not line[1]), key=lambda line: -self.index[line[0]]
        )
        below = sorted(
            (line for line in spans if line[1]), key=lambda line: spans[line][1] - spans[line][0]
        )
        bottom = max(self.over - s.unit.entry[1] + s.unit.sheet.height for s in stops)
        self.level = {line: -6 - _TRACK * track for line, track in _tracks(above, spans).items()}
        self.level |= {
            line: bottom + 1 + _TRACK * (track + 1) for line, track in _tracks(below, spans).items()
        }

    def _line(self, i: int, wire: LaneWire) -> _Line | None:
        """Return the line of a wire; None between neighbours."""
        j = self.index[wire.source]
        return None if j == i - 1 else (wire.source, j >= i)

    def unit(self, key: str, title: Sequence[Box], tooltip: str = "") -> Unit:
        """Return the lane in a frame, with the lines of ``title`` at the top."""
        boxes: list[Box] = []
        wires: list[DrawnWire] = []
        for stop, x in zip(self.stops, self.x, strict=True):
            place = stop.unit.sheet.shifted(x, self.over - stop.unit.entry[1])
            boxes += place.boxes
            wires += place.wires
        for i, stop in enumerate(self.stops):
            lines = [self._line(i, wire) for wire in stop.entering]
            for place_of, (wire, line) in enumerate(zip(stop.entering, lines, strict=True)):
                same = [n for n, each in enumerate(lines) if each and line and each[1] == line[1]]
                tap = self._tap(i, same.index(place_of), len(same)) if line else 0.0
                wires.append(self._wire(i, wire, line, tap))
        body = sheet_of(boxes, wires)
        y = 6.0
        titles = []
        for text in title:
            titles.append(text.from_corner(_PAD, y))
            y += text.height
        width = max(body.width, *(text.width for text in title))
        moved = body.shifted(_PAD, y + 4)
        around = frame(f"{key}frame", width + 2 * _PAD, y + 4 + body.height + _PAD, tooltip)
        sheet = Sheet(around.width, around.height, (around, *titles, *moved.boxes), moved.wires)
        return Unit(key, sheet, self.stops[0].unit.first, self.stops[-1].unit.last)

    def _wire(self, i: int, wire: LaneWire, line: _Line | None, tap: float) -> DrawnWire:
        j = self.index[wire.source]
        stop, source = self.stops[i].unit, self.stops[j].unit
        top = self.over - stop.entry[1]
        entry = (self.x[i] + stop.entry[0], self.over)
        start = (self.x[j] + source.exit[0], self.over - source.entry[1] + source.exit[1])
        corners: list[Point] = [start]
        if line is None:
            half = (start[0] + entry[0]) / 2
            corners += (
                [(half, start[1]), (half, entry[1]), entry] if start[1] != self.over else [entry]
            )
            return routed(source.last, stop.first, wire.look, corners, wire.tooltip)
        level = self.level[line]
        turn = self.x[j] + source.sheet.width + 8
        corners += [(turn, start[1]), (turn, level)]
        bar = stop.sheet.boxes[0]
        if not line[1]:
            corners += [(tap, level), (tap, top)]
        elif bar.shape == "bar" and tap < turn - 4:
            corners += [(tap, level), (tap, top + bar.height)]
        else:
            before = min(self.x[i] - _BEFORE, turn - 4)
            corners += [(before, level), (before, self.over), entry]
        return routed(source.last, stop.first, wire.look, corners, wire.tooltip)

    def _tap(self, i: int, place: int, count: int) -> float:
        """Return the x coordinate of the end of a wire at the top or the bottom of a stop."""
        sheet = self.stops[i].unit.sheet
        spread = min(TAP, (sheet.boxes[0].width - 8) / count)
        if sheet.boxes[0].shape == "bar":
            return self.x[i] + sheet.width / 2 + spread * (place - (count - 1) / 2)
        return self.x[i] + 14 + spread * place


def _tracks(lines: Sequence[_Line], spans: dict[_Line, tuple[int, int]]) -> dict[_Line, int]:
    """Return the track of each line. Tracks are counted from the boxes, and a track may have several lines."""
    tracks: list[list[tuple[int, int]]] = []
    found: dict[_Line, int] = {}
    for line in lines:
        low, high = spans[line]
        free = (t for t, taken in enumerate(tracks) if all(high < a or b < low for a, b in taken))
        found[line] = next(free, len(tracks))
        if found[line] == len(tracks):
            tracks.append([])
        tracks[found[line]].append((low, high))
    return found
