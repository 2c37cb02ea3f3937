"""Layout of units in rows, from left to right. A unit that exceeds the page starts a new row.

Wires run in the gaps between the rows, so that they do not cross boxes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

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
_STEP = 7.0  # distance between two parallel wires
_CLEAR = 10.0  # minimum distance between a wire and a box
_SMALL_UNIT = 90.0  # units of at most this width may exceed the page by _OVER
_OVER = 320.0
_PORT = 18.0  # distance between the ends of wires at a unit


@record
class Unit:
    """A part of a picture. Wires end at the left side of box ``first`` and start at the right side of ``last``.

    If there is a box ``KEYninID``, the wire of node ``ID`` ends there instead.
    """

    key: str
    sheet: Sheet
    first: str
    last: str

    @property
    def entry(self) -> Point:
        box = self.sheet.box(self.first)
        return (box.left, box.y)

    @property
    def exit(self) -> Point:
        box = self.sheet.box(self.last)
        return (box.right, box.y)


@record
class Link:
    """A value (by node id) passed from one unit to another, with a ``label`` over its end."""

    tail: str
    head: str
    value: int
    look: Look
    tooltip: str = ""
    label: str = ""


def box_unit(box: Box) -> Unit:
    """Return a unit of one box."""
    return Unit(box.key, sheet_of([box]), box.key, box.key)


def in_rows(units: Sequence[Unit], links: Sequence[Link], page: float = PAGE) -> Sheet:
    """Lay out units in rows, in order, with the wires between them."""
    return _Rows(units, links, page).sheet()


class _Rows:
    def __init__(self, units: Sequence[Unit], links: Sequence[Link], page: float) -> None:
        self.units = {unit.key: unit for unit in units}
        self.links = [link for link in links if link.tail in self.units and link.head in self.units]
        self.into: dict[str, list[Link]] = defaultdict(list)
        self.turning: dict[str, list[Link]] = defaultdict(list)  # links that run through a gap
        order = {key: i for i, key in enumerate(self.units)}
        self.direct = {link for link in self.links if order[link.head] == order[link.tail] + 1}
        trail = dict.fromkeys(self.units, 8.0)
        for link in self.links:
            self.into[link.head].append(link)
            trail[link.tail] += _STEP * (link not in self.direct)
        self.lead = {key: self._lead(self.into[key]) for key in self.units}
        self.need = {
            key: self.lead[key] + unit.sheet.width + trail[key] for key, unit in self.units.items()
        }
        self.rows = self._fill(max(page, *self.need.values(), 0.0))
        self.row_of = {key: r for r, row in enumerate(self.rows) for key in row}
        self.place: dict[str, Point] = {}

    def _lead(self, links: Sequence[Link]) -> float:
        """Return the width of the space for labels and vertical wires in front of a unit."""
        labels = [caption("", link.label, size=SMALL).width for link in links if link.label]
        return max(labels, default=0.0) + 16 + _STEP * len(links)

    def _fill(self, page: float) -> list[list[str]]:
        rows: list[list[str]] = [[]]
        used = 0.0
        for key, need in self.need.items():
            over = _OVER if self.units[key].sheet.width < _SMALL_UNIT else 0.0
            if rows[-1] and used + need > page + over:
                rows.append([])
                used = 0.0
            rows[-1].append(key)
            used += need
        return rows

    def sheet(self) -> Sheet:
        crossing: dict[int, list[Link]] = defaultdict(list)  # links in the gap above each row
        margin: list[Link] = []
        for link in self.links:
            a, b = self.row_of[link.tail], self.row_of[link.head]
            if a == b and link in self.direct:
                continue
            self.turning[link.tail].append(link)
            crossing[a + 1].append(link)
            if b not in (a, a + 1):
                margin.append(link)
                crossing[b].append(link)
        tops = self._placed(crossing)
        levels = {
            (gap, link): tops[gap] + _CLEAR + _STEP * i
            for gap, links in crossing.items()
            for i, link in enumerate(links)
        }
        boxes: list[Box] = []
        wires: list[DrawnWire] = []
        for key, unit in self.units.items():
            moved = unit.sheet.shifted(*self.place[key])
            boxes += moved.boxes
            wires += moved.wires
        for link in self.links:
            across = -_CLEAR - _STEP * (margin.index(link) + 1) if link in margin else 0.0
            wire = self._wire(link, levels, across)
            wires.append(wire)
            if link.label:
                text = caption(f"label{len(boxes)}", link.label, size=SMALL, ink="quiet")
                left, top = self.place[link.head][0] - text.width - 5, wire.tip[1] - text.height - 3
                boxes.append(text.from_corner(left, top))
        return sheet_of(boxes, wires)

    def _placed(self, crossing: dict[int, list[Link]]) -> list[float]:
        """Place all units, and return the top of the gap above each row."""
        y = 0.0
        tops = []
        for r, row in enumerate(self.rows):
            tops.append(y)
            y += 2 * _CLEAR * (r > 0 or bool(crossing[r])) + _STEP * len(crossing[r])
            above = max((self.units[key].entry[1] for key in row), default=0.0)
            x = below = 0.0
            for key in row:
                unit = self.units[key]
                self.place[key] = (x + self.lead[key], y + above - unit.entry[1])
                below = max(below, unit.sheet.height - unit.entry[1])
                x += self.need[key]
            y += above + below
        return [*tops, y]

    def _wire(self, link: Link, levels: dict[tuple[int, Link], float], across: float) -> DrawnWire:
        """Route the wire of a link. It runs in the left margin at ``across`` if it skips a row."""
        tail, head = self.units[link.tail], self.units[link.head]
        (left, top), (head_left, head_top) = self.place[link.tail], self.place[link.head]
        a, b = self.row_of[link.tail], self.row_of[link.head]
        place = self.into[link.head].index(link)
        entered = next(
            (box.key for box in head.sheet.boxes if box.key == f"{link.head}nin{link.value}"), ""
        )
        goal = head.sheet.box(entered or head.first)
        shift = 0.0 if entered else _PORT * (place - (len(self.into[link.head]) - 1) / 2)
        start = (left + tail.exit[0], top + tail.exit[1])
        end = (head_left + goal.left, head_top + goal.y + shift)
        before = head_left - self.lead[link.head] + 4 + _STEP * place
        corners = [start]
        if link not in self.turning[link.tail]:
            if start[1] != end[1]:
                corners += [(before, start[1]), (before, end[1])]
        else:
            out = left + tail.sheet.width + 6 + _STEP * self.turning[link.tail].index(link)
            level = levels[a + 1, link]
            corners += [(out, start[1]), (out, level)]
            if b not in (a, a + 1):
                corners += [(across, level), (across, levels[b, link])]
            corners += [(before, corners[-1][1]), (before, end[1])]
        return routed(tail.last, goal.key, link.look, [*corners, end], link.tooltip)
