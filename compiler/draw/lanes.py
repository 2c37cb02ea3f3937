"""A stage as a lane: its blocks from left to right, and above them what feeds each.

A value that is read further on rises to a line of its own, from which it falls to every place
where it is read; so dense additions stay legible, and two values never share a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from danetc.compiler.draw.rows import Unit
from danetc.compiler.draw.sheet import (
    SMALL,
    Box,
    DrawnWire,
    Look,
    Point,
    Sheet,
    TextCell,
    caption,
    hung,
    routed,
    sheet_of,
)

_GAP = 30.0
_TRACK = 8.0
_TAP = 9.0


@dataclass(frozen=True, slots=True)
class LaneWire:
    """A wire into a stop of a lane from another stop (or itself: a repetition)."""

    source: str
    look: Look
    tooltip: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """A place of a lane: a block, an addition, the stage's input.

    Wires come in on the left at ``entry`` or from above, and leave on the right at ``exit``;
    ``first`` and ``last`` are the boxes there.
    """

    key: str
    sheet: Sheet
    entry: Point
    exit: Point
    first: str
    last: str
    feeds: tuple[LaneWire, ...] = ()
    top: float = 0.0  # where a wire from above ends


def box_stop(box: Box, feeds: Sequence[LaneWire] = ()) -> Stop:
    box = box.at(box.width / 2, box.height / 2)
    middle = box.height / 2
    sheet = Sheet(box.width, box.height, (box,))
    return Stop(box.key, sheet, (0.0, middle), (box.width, middle), box.key, box.key, tuple(feeds))


def junction(
    key: str, sign: str, feeds: Sequence[LaneWire], tooltip: str = "", note: str = ""
) -> Stop:
    """An addition, or another way of joining, as wide as what comes into it from above needs.

    ``note`` stands below it.
    """
    single = len(sign) == 1
    text = TextCell(sign, bold=single, size=12.0 if single else 9.0)
    width = max(26.0, text.width() + 8, _TAP * len(feeds) + 8)
    box = Box(key, ((text,),), width, 26.0, shape="bar", fill="join", pen=1.2, tooltip=tooltip)
    stop = box_stop(box, feeds)
    if not note:
        return stop
    below = caption(f"{key}note", note, size=SMALL, ink="quiet")
    width = max(width, below.width)
    middle = width / 2
    parts = (box.at(middle, box.height / 2), hung(below, middle - below.width / 2, box.height + 1))
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

    def _above(self, i: int, feed: LaneWire) -> bool:
        return self.index[feed.source] < i - 1

    def _tracks(self) -> dict[str, int]:
        """The line of each value that is read further on; lines far apart share a height.

        The first values get the highest lines.
        """
        last: dict[str, int] = {}
        for i, stop in enumerate(self.stops):
            for feed in stop.feeds:
                if self._above(i, feed):
                    last[feed.source] = i
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
            taps = [feed for feed in stop.feeds if self._above(i, feed)]
            for feed in stop.feeds:
                wires.append(self._wire(i, feed, taps, middle, above))
        body = sheet_of(boxes, wires)
        return self._framed(body, boxes[0], middle)

    def _wire(
        self, i: int, feed: LaneWire, taps: Sequence[LaneWire], middle: float, above: float
    ) -> DrawnWire:
        stop, j = self.stops[i], self.index[feed.source]
        source = self.stops[j]
        top = middle - stop.entry[1] + stop.top
        start = (self.x[j] + source.exit[0], middle - source.entry[1] + source.exit[1])
        entry = (self.x[i] + stop.entry[0], middle)
        corners: list[Point] = [start]
        if j == i - 1:
            if start[1] != entry[1]:
                half = (start[0] + entry[0]) / 2
                corners += [(half, start[1]), (half, entry[1])]
            corners.append(entry)
        elif j < i:
            level = middle - above - 6 - _TRACK * self.tracks[feed.source]
            width = stop.sheet.width
            spread = min(_TAP, (stop.sheet.boxes[0].width - 8) / max(1, len(taps)))
            place = taps.index(feed)
            if stop.sheet.boxes[0].shape == "bar":
                x = self.x[i] + width / 2 + spread * (place - (len(taps) - 1) / 2)
            else:
                x = self.x[i] + 14 + spread * place
            rise = self.x[j] + source.sheet.width + 8
            corners += [(rise, start[1]), (rise, level), (x, level), (x, top)]
        else:  # a repetition: back below the boxes
            bottom = max(
                middle - self.stops[k].entry[1] + self.stops[k].sheet.height
                for k in range(i, j + 1)
            )
            rise = self.x[j] + source.sheet.width + 8
            low = bottom + 9
            if j == i:
                x, end = self.x[i] + 14, bottom
            else:
                x, end = self.x[i] + stop.sheet.width / 2, middle + 13.0
            corners += [(rise, start[1]), (rise, low), (x, low), (x, end)]
        return routed(source.last, stop.first, feed.look, corners, feed.tooltip)

    def _framed(self, body: Sheet, first: Box, middle: float) -> Unit:
        """The lane in a frame with its title; its input lies on the frame's left edge."""
        pad = 10.0
        y = 6.0
        titles = []
        width = body.width
        for text in self.title:
            titles.append(text.at(pad + text.width / 2, y + text.height / 2))
            y += text.height
            width = max(width, text.width)
        moved = body.shifted(pad, y + 4)
        shift = moved.boxes[0].y - first.y
        height = y + 4 + body.height + pad
        frame = Box(
            f"{self.key}frame",
            (),
            width + 2 * pad,
            height,
            (width + 2 * pad) / 2,
            height / 2,
            shape="round",
            fill="frame",
            line="frame_line",
            tooltip=self.tooltip,
        )
        sheet = Sheet(frame.width, frame.height, (frame, *titles, *moved.boxes), moved.wires)
        start, end = self.stops[0], self.stops[-1]
        exit = (
            moved.boxes[0].x - first.x + self.x[-1] + end.exit[0],
            middle - end.entry[1] + end.exit[1] + shift,
        )
        entry = moved.box(start.first)
        return Unit(self.key, sheet, (entry.left, entry.y), exit, start.first, end.last)
