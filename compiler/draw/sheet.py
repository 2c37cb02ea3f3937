"""Pictures as data: boxes of text and wires between them, with their positions.

Lengths are in points; x grows to the right and y downwards from the top left corner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Literal

from danetc.compiler.draw.formula import Formula, FormulaPiece
from danetc.compiler.draw.theme import Role, line_height, text_width
from danetc.dsl.record import record

Point = tuple[float, float]
Shape = Literal["box", "round", "circle", "bar", "plain", "point"]
Dash = Literal["solid", "dashed", "dotted"]

FONT = 10.0
SMALL = 9.0
PAD = 4.0  # distance between a box's edge and its text
RIM = 4.0  # distance of Graphviz's second outline
_CELL_GAP = 6.0


@record
class TextCell:
    """A piece of text in one style. The cells of a box form columns."""

    text: str
    bold: bool = False
    ink: Role = "ink"
    fill: Role = "none"
    size: float = FONT
    wide: bool = False  # takes the whole row

    def width(self) -> float:
        indent = "" if self.fill == "none" else " "
        return text_width(self.text + indent, self.size, self.bold)

    def height(self) -> float:
        return line_height(self.size) + 1


Rows = tuple[tuple[TextCell, ...], ...]


@record
class Box:
    """A box that contains rows of text or a formula. ``x`` and ``y`` are the coordinates of its centre.

    ``key`` is unique in a sheet; ``nodes`` are the ids of the operations that the box stands for.
    """

    key: str
    rows: Rows = ()
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0
    y: float = 0.0
    shape: Shape = "box"
    fill: Role = "box"
    line: Role = "box_line"
    pen: float = 1.0
    double: bool = False  # a second outline
    dashed: bool = False
    tooltip: str = ""
    formula: Formula | None = None
    nodes: tuple[int, ...] = ()

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    def set_pieces(self) -> tuple[FormulaPiece, ...]:
        """Return the pieces of the formula with their positions in the sheet."""
        if self.formula is None:
            return ()
        top = self.y - self.formula.height / 2
        return self.formula.moved(self.x - self.formula.width / 2, top + self.formula.ascent)

    def at(self, x: float, y: float) -> Box:
        """Move the box so that its centre is at the given point."""
        return replace(self, x=x, y=y)

    def from_corner(self, left: float, top: float) -> Box:
        """Move the box so that its top left corner is at the given point."""
        return self.at(left + self.width / 2, top + self.height / 2)


def columns(rows: Rows) -> tuple[float, ...]:
    """Return the widths of a box's columns, gaps included."""
    narrow = [row for row in rows if not any(cell.wide for cell in row)]
    count = max((len(row) for row in narrow), default=1)
    widths = [
        max((row[i].width() for row in narrow if i < len(row)), default=0.0) + _CELL_GAP
        for i in range(count)
    ]
    wide = max((row[0].width() for row in rows if any(c.wide for c in row)), default=0.0)
    missing = wide + _CELL_GAP - sum(widths)
    if missing > 0 and narrow:
        widths.append(missing)  # an empty column keeps the width of the last one
    elif missing > 0:
        widths[-1] += missing
    return tuple(widths)


def fitted(box: Box, least: tuple[float, float] = (0.0, 0.0)) -> Box:
    """Return the box in the size of its text, at least ``least``."""
    if box.formula is not None:
        room = 0.0 if box.shape == "plain" else 2 * PAD
        width, height = box.formula.width + room, box.formula.height + room
        return replace(box, width=max(width, least[0]), height=max(height, least[1]))
    width = sum(columns(box.rows)) + 2 * PAD if box.rows else 0.0
    height = sum(max((c.height() for c in row), default=0.0) for row in box.rows) + 2 * PAD
    rim = 2 * RIM if box.double else 0.0
    return replace(box, width=max(width, least[0]) + rim, height=max(height, least[1]) + rim)


def caption(key: str, text: str, *, bold: bool = False, size: float = FONT, **more: Role) -> Box:
    """Return a line of text without a frame."""
    cell = TextCell(text, bold, more.get("ink", "ink"), size=size, wide=True)
    box = fitted(Box(key, ((cell,),), shape="plain", fill="none", line="none"))
    return replace(box, height=cell.height())


def frame(key: str, width: float, height: float, tooltip: str, *, inner: bool = False) -> Box:
    """Return a frame at (0, 0); ``inner`` if it is inside of another frame."""
    fill: Role = "inner" if inner else "frame"
    box = Box(key, (), width, height, shape="round", fill=fill, line="frame_line", tooltip=tooltip)
    return box.from_corner(0.0, 0.0)


@record
class Look:
    """Style of a wire. Kinds of values differ in dashes and weight as well as in colour."""

    colour: Role
    dash: Dash
    pen: float
    hollow: bool = False  # an empty arrowhead: the same value at each step


@record
class DrawnWire:
    """A wire between boxes: control points of its Bézier curve, and the tip of the arrow."""

    tail: str
    head: str
    look: Look
    points: tuple[Point, ...]
    tip: Point
    tooltip: str = ""


@record
class Sheet:
    """Boxes and wires, in drawing order."""

    width: float
    height: float
    boxes: tuple[Box, ...] = ()
    wires: tuple[DrawnWire, ...] = ()

    def shifted(self, dx: float, dy: float) -> Sheet:
        def moved(point: Point) -> Point:
            return (point[0] + dx, point[1] + dy)

        return replace(
            self,
            boxes=tuple(box.at(box.x + dx, box.y + dy) for box in self.boxes),
            wires=tuple(
                replace(wire, points=tuple(map(moved, wire.points)), tip=moved(wire.tip))
                for wire in self.wires
            ),
        )

    def box(self, key: str) -> Box:
        return next(box for box in self.boxes if box.key == key)


def sheet_of(boxes: Iterable[Box], wires: Iterable[DrawnWire] = ()) -> Sheet:
    """Return the smallest sheet with boxes and wires, moved to (0, 0)."""
    boxes, wires = tuple(boxes), tuple(wires)
    ends = [point for wire in wires for point in wire.points]
    ends += [(box.left, box.top) for box in boxes] + [(box.right, box.bottom) for box in boxes]
    xs, ys = [x for x, _ in ends] or [0.0], [y for _, y in ends] or [0.0]
    whole = Sheet(max(xs) - min(xs), max(ys) - min(ys), boxes, wires)
    return whole.shifted(-min(xs), -min(ys))


def stacked(sheets: Iterable[Sheet], gap: float, align: float = 0.0) -> Sheet:
    """Stack sheets. They are aligned on the left by default and centred with ``align=0.5``."""
    return grid([[sheet] for sheet in sheets], 0.0, gap, align)


def grid(cells: Sequence[Sequence[Sheet]], across: float, down: float, align: float = 0.5) -> Sheet:
    """Arrange sheets in rows and columns, centred in columns and aligned at the top of rows."""
    widths = [
        max(sheet.width for sheet in column if sheet is not None) for column in zip_longest(*cells)
    ]
    boxes: list[Box] = []
    wires: list[DrawnWire] = []
    y = 0.0
    for row in cells:
        x = 0.0
        for sheet, width in zip(row, widths, strict=False):
            moved = sheet.shifted(x + (width - sheet.width) * align, y)
            boxes += moved.boxes
            wires += moved.wires
            x += width + across
        y += max((sheet.height for sheet in row), default=0.0) + down
    width = sum(widths) + across * max(0, len(widths) - 1)
    return Sheet(width, max(0.0, y - down), tuple(boxes), tuple(wires))


# -- wires along straight lines --------------------------------------------------------------------

_CORNER = 5.0
_ARROW = 6.0


def _toward(a: Point, b: Point, distance: float) -> Point:
    length = abs(b[0] - a[0]) + abs(b[1] - a[1])  # the distance along an axis
    part = min(1.0, distance / length) if length else 0.0
    return (a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part)


def _line(a: Point, b: Point) -> list[Point]:
    third = ((b[0] - a[0]) / 3, (b[1] - a[1]) / 3)
    return [(a[0] + third[0], a[1] + third[1]), (b[0] - third[0], b[1] - third[1]), b]


def routed(
    tail: str, head: str, look: Look, corners: Sequence[Point], tooltip: str = ""
) -> DrawnWire:
    """Return a wire with rounded corners that consists of horizontal and vertical lines."""
    path = [p for i, p in enumerate(corners) if i == 0 or p != corners[i - 1]]
    tip = path[-1]
    path[-1] = _toward(tip, path[-2], _ARROW)
    points = [path[0]]
    for before, here, after in zip(path, path[1:], path[2:], strict=False):
        reach = [abs(here[0] - p[0]) + abs(here[1] - p[1]) for p in (before, after)]
        radius = min(_CORNER, *(r / 2 for r in reach))
        start, end = _toward(here, before, radius), _toward(here, after, radius)
        points += _line(points[-1], start)
        points += [_toward(start, here, radius * 0.55), _toward(end, here, radius * 0.55), end]
    points += _line(points[-1], path[-1])
    return DrawnWire(tail, head, look, tuple(points), tip, tooltip)
