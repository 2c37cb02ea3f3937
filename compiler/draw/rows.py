"""Layout of units in rows, from left to right, with a new row at the end of the page.

Wires between units run in the gaps between rows on lines of their own, so they cross no box.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import field

from danetc.compiler.draw.sheet import (
    SMALL,
    Box,
    DrawnWire,
    Look,
    Point,
    Sheet,
    caption,
    routed,
    sheet_of,
)
from danetc.dsl.record import record

PAGE = 1120.0
_STEP = 7.0  # distance between parallel lines
_CLEAR = 10.0  # distance between a line and a box
_SMALL_UNIT = 90.0  # smaller units may exceed the page by _OVER
_OVER = 320.0
_PORT = 18.0  # distance between wires into a unit


@record
class Unit:
    """A piece of a picture, with the points and boxes where wires enter and leave it.

    ``entries`` has the points of values (by node id) that do not enter at ``entry``.
    """

    key: str
    sheet: Sheet
    entry: Point
    exit: Point
    first: str
    last: str
    entries: Mapping[int, tuple[Point, str]] = field(default_factory=dict)


@record
class Link:
    """A value (by node id) from one unit to another, with a ``label`` over its end."""

    tail: str
    head: str
    value: int
    look: Look
    tooltip: str = ""
    label: str = ""


def box_unit(box: Box) -> Unit:
    """Return a unit of one box."""
    box = box.at(box.width / 2, box.height / 2)
    sheet = Sheet(box.width, box.height, (box,))
    middle = box.height / 2
    return Unit(box.key, sheet, (0.0, middle), (box.width, middle), box.key, box.key)


def in_rows(units: Sequence[Unit], links: Sequence[Link], page: float = PAGE) -> Sheet:
    """Lay out units in rows, in order, with the wires between them."""
    return _Rows(units, links, page).sheet()


class _Rows:
    def __init__(self, units: Sequence[Unit], links: Sequence[Link], page: float) -> None:
        self.units = {unit.key: unit for unit in units}
        self.links = [link for link in links if link.tail in self.units and link.head in self.units]
        self.into: dict[str, list[Link]] = defaultdict(list)
        self.out_of: dict[str, list[Link]] = defaultdict(list)
        for link in self.links:
            self.into[link.head].append(link)
            self.out_of[link.tail].append(link)
        self.order = {key: i for i, key in enumerate(self.units)}
        self.rows = self._fill(max(page, *map(self._need, self.units), 0.0))
        self.row_of = {key: r for r, row in enumerate(self.rows) for key in row}
        self.x: dict[str, float] = {}
        self.y: dict[str, float] = {}
        self.boxes: list[Box] = []
        self.wires: list[DrawnWire] = []

    def _lead(self, key: str) -> float:
        """Return the space before a unit for labels and vertical lines."""
        labels = [
            caption("", link.label, size=SMALL).width for link in self.into[key] if link.label
        ]
        return max(labels, default=0.0) + 16 + _STEP * len(self.into[key])

    def _need(self, key: str) -> float:
        return self._lead(key) + self.units[key].sheet.width + self._trail(key)

    def _trail(self, key: str) -> float:
        return 8 + _STEP * sum(not self._straight(link) for link in self.out_of[key])

    def _straight(self, link: Link) -> bool:
        """True if the head directly follows the tail."""
        return self.order[link.head] == self.order[link.tail] + 1

    def _fill(self, page: float) -> list[list[str]]:
        rows: list[list[str]] = [[]]
        used = 0.0
        for key in self.units:
            need = self._need(key)
            over = _OVER if self.units[key].sheet.width < _SMALL_UNIT else 0.0
            if rows[-1] and used + need > page + over:
                rows.append([])
                used = 0.0
            rows[-1].append(key)
            used += need
        return rows

    def _end(self, link: Link) -> tuple[Point, str]:
        """Return the point where a wire enters a unit, and the box there."""
        unit = self.units[link.head]
        (x, y), box = unit.entries.get(link.value, (unit.entry, unit.first))
        if link.value not in unit.entries:
            links = self.into[link.head]
            y += _PORT * (links.index(link) - (len(links) - 1) / 2)
        return (self.x[link.head] + x, self.y[link.head] + y), box

    def sheet(self) -> Sheet:
        crossing: dict[int, list[Link]] = defaultdict(list)  # gap above row -> links through it
        margin: list[Link] = []
        for link in self.links:
            a, b = self.row_of[link.tail], self.row_of[link.head]
            if a == b and self._straight(link):
                continue
            if a == b:
                crossing[a + 1].append(link)
                continue
            crossing[a + 1].append(link)
            if b != a + 1:
                margin.append(link)
                crossing[b].append(link)
        track = {
            (gap, id(link)): i for gap, links in crossing.items() for i, link in enumerate(links)
        }
        side = {id(link): -_CLEAR - _STEP * (i + 1) for i, link in enumerate(margin)}
        y = 0.0
        tops: dict[int, float] = {}
        for r, row in enumerate(self.rows):
            tops[r] = y
            if crossing[r]:
                y += 2 * _CLEAR + _STEP * len(crossing[r])
            elif r:
                y += 2 * _CLEAR
            above = max(self.units[key].entry[1] for key in row)
            below = max(self.units[key].sheet.height - self.units[key].entry[1] for key in row)
            x = 0.0
            for key in row:
                unit = self.units[key]
                x += self._lead(key)
                self.x[key], self.y[key] = x, y + above - unit.entry[1]
                x += unit.sheet.width + self._trail(key)
            y += above + below
        tops[len(self.rows)] = y
        for key, unit in self.units.items():
            moved = unit.sheet.shifted(self.x[key], self.y[key])
            self.boxes += moved.boxes
            self.wires += moved.wires
        turns = {
            id(link): i
            for links in self.out_of.values()
            for i, link in enumerate(item for item in links if not self._beside(item))
        }
        for link in self.links:
            self._draw(link, tops, track, side, turns)
        return sheet_of(self.boxes, self.wires)

    def _beside(self, link: Link) -> bool:
        return self._straight(link) and self.row_of[link.tail] == self.row_of[link.head]

    def _draw(
        self,
        link: Link,
        tops: dict[int, float],
        track: dict[tuple[int, int], int],
        side: dict[int, float],
        turns: dict[int, int],
    ) -> None:
        tail = self.units[link.tail]
        a, b = self.row_of[link.tail], self.row_of[link.head]
        start = (self.x[link.tail] + tail.exit[0], self.y[link.tail] + tail.exit[1])
        end, entered = self._end(link)

        def level(gap: int) -> float:
            return tops[gap] + _CLEAR + _STEP * track[(gap, id(link))]

        place = self.into[link.head].index(link)
        before = self.x[link.head] - self._lead(link.head) + 4 + _STEP * place
        corners: list[Point] = [start]
        if self._beside(link):
            if start[1] != end[1]:
                corners += [(before, start[1]), (before, end[1])]
        else:
            edge = self.x[link.tail] + tail.sheet.width
            out = edge + 6 + _STEP * turns[id(link)]
            corners += [(out, start[1]), (out, level(a + 1))]
            if b not in (a, a + 1):
                across = side[id(link)]
                corners += [(across, level(a + 1)), (across, level(b)), (before, level(b))]
            else:
                corners.append((before, level(a + 1)))
            corners.append((before, end[1]))
        corners.append(end)
        self.wires.append(routed(tail.last, entered, link.look, corners, link.tooltip))
        if link.label:
            text = caption(f"label{len(self.boxes)}", link.label, size=SMALL, ink="quiet")
            self.boxes.append(
                text.from_corner(self.x[link.head] - text.width - 5, end[1] - text.height - 3)
            )
