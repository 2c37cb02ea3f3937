"""Sheets in Graphviz's language with all positions, as ``dot -Knop2`` reads them.

All text of users is escaped; names of nodes are the keys of boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from danetc.compiler.draw.formula import FormulaPiece
from danetc.compiler.draw.sheet import (
    FONT,
    RIM,
    Box,
    DrawnWire,
    Point,
    Sheet,
    TextCell,
    columns,
)
from danetc.compiler.draw.theme import Palette
from danetc.compiler.draw.words import clean, tooltip_lines

MARGIN = 14.0  # around a picture
_BOLD = "Helvetica-Bold"  # text in <B> would be higher than its neighbours
_ITALIC = "Helvetica-Oblique"
_BASE_LINE = 0.3  # Graphviz's offset of a text below the middle of its node, in font sizes
_SHAPES = {
    "box": ("box", "filled"),
    "round": ("box", "rounded,filled"),
    "circle": ("circle", "filled"),
    "bar": ("box", "rounded,filled"),
    "plain": ("plain", ""),
    "point": ("circle", "filled"),
}


def to_gv(sheet: Sheet, colours: Palette, name: str = "topology", *, tooltips: bool = True) -> str:
    """Return the sheet as text, with an invisible node that keeps its size.

    Without ``tooltips``, ``engine`` adds them later in a form that browsers show.
    """
    writer = _Writer(sheet, colours, tooltips)
    return "\n".join(writer.lines(name)) + "\n"


def piece_key(box: Box, place: int) -> str:
    """Return the id of a piece of a box's formula."""
    return f"{box.key}.piece{place}"


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Writer:
    def __init__(self, sheet: Sheet, colours: Palette, tooltips: bool) -> None:
        self.sheet = sheet
        self.colours = colours
        self.tooltips = tooltips

    def lines(self, name: str) -> Iterable[str]:
        width, height = self.sheet.width + 2 * MARGIN, self.sheet.height + 2 * MARGIN
        middle = (self.sheet.width / 2, self.sheet.height / 2)
        yield f"digraph {quoted(clean(name, 200))} {{"
        yield f'  graph [layout=nop2 bgcolor="{self.colours["paper"]}" pad=0 outputorder=nodesfirst]'
        yield (
            f'  node [fontname="Helvetica" fontsize={FONT:g} fontcolor="{self.colours["ink"]}" '
            "fixedsize=true margin=0]"
        )
        yield "  edge [arrowsize=0.6]"
        yield (
            f'  _size [shape=box style=invis label="" pos="{self._point(middle)}" '
            f"width={width / 72:.4f} height={height / 72:.4f}]"
        )
        for box in self.sheet.boxes:
            yield f"  {quoted(box.key)} [{' '.join(self._box(box))}]"
            for place, piece in enumerate(box.set_pieces()):
                key = quoted(piece_key(box, place))
                yield f"  {key} [id={key} {' '.join(self._piece(box, piece))}]"
        for index, wire in enumerate(self.sheet.wires):
            yield f"  {quoted(wire.tail)} -> {quoted(wire.head)} [{' '.join(self._wire(index, wire))}]"
        yield "}"

    def _point(self, point: Point) -> str:
        return f"{point[0] + MARGIN:.2f},{self.sheet.height + MARGIN - point[1]:.2f}"

    def _box(self, box: Box) -> Iterable[str]:
        shape, style = _SHAPES[box.shape]
        yield f'id={quoted(box.key)} shape={shape} pos="{self._point((box.x, box.y))}"'
        rim = 2 * RIM if box.double else 0.0
        yield f"width={(box.width - rim) / 72:.4f} height={(box.height - rim) / 72:.4f}"
        if box.shape != "plain":
            line = self.colours[box.line]
            yield f'style="{style}{",dashed" if box.dashed else ""}"'
            yield f'fillcolor="{self.colours[box.fill]}" color="{line}" penwidth={box.pen:g}'
        if box.double:
            yield "peripheries=2"
        yield f"label={self._label(box)}"
        if box.tooltip and self.tooltips:
            yield f"tooltip={quoted(tooltip_lines(box.tooltip))}"

    def _piece(self, box: Box, piece: FormulaPiece) -> Iterable[str]:
        ink = self.colours["ink"]
        middle = piece.x + piece.width / 2
        if piece.text:
            middle_of_text = (middle, piece.y - _BASE_LINE * piece.size)
            yield f'shape=plain pos="{self._point(middle_of_text)}" width={piece.width / 72:.4f}'
            yield f"height={piece.size / 72:.4f} label={quoted(piece.text)} fontsize={piece.size:g}"
            if piece.italic:
                yield f'fontname="{_ITALIC}"'
        else:
            yield f'shape=box pos="{self._point((middle, piece.y))}" width={piece.width / 72:.4f}'
            yield f'height={piece.size / 72:.4f} label="" style=filled fillcolor="{ink}" penwidth=0'
        if box.tooltip and self.tooltips:
            yield f"tooltip={quoted(tooltip_lines(box.tooltip))}"

    def _label(self, box: Box) -> str:
        if not box.rows:
            return '""'
        if len(box.rows) == 1 and len(box.rows[0]) == 1 and not box.rows[0][0].wide:
            cell = box.rows[0][0]  # centred, whatever the width of the font
            face = f' fontname="{_BOLD}"' if cell.bold else ""
            return (
                f"{quoted(cell.text)}{face} fontsize={cell.size:g} "
                f'fontcolor="{self.colours[cell.ink]}"'
            )
        widths = columns(box.rows)
        rows = "".join(f"<TR>{self._cells(row, widths)}</TR>" for row in box.rows)
        return f'<<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="0" CELLSPACING="0">{rows}</TABLE>>'

    def _cells(self, row: tuple[TextCell, ...], widths: tuple[float, ...]) -> str:
        if row and row[0].wide:
            return self._cell(row[0], sum(widths), len(widths))
        empty = TextCell("")
        padded = [*row, *[empty] * (len(widths) - len(row))]
        return "".join(self._cell(c, w, 1) for c, w in zip(padded, widths, strict=True))

    def _cell(self, cell: TextCell, width: float, span: int) -> str:
        fill = f' BGCOLOR="{self.colours[cell.fill]}"' if cell.fill != "none" else ""
        columns = f' COLSPAN="{span}"' if span > 1 else ""
        return (
            f'<TD ALIGN="LEFT" WIDTH="{width:.0f}" HEIGHT="{cell.height():.0f}"{columns}{fill}>'
            f"{self._text(cell)}</TD>"
        )

    def _text(self, cell: TextCell) -> str:
        # Graphviz expands escapes such as \\N here too.
        text = escape(cell.text).replace("\\", "\\\\").replace("  ", " &#160;")
        if not text:
            return ""
        if cell.fill != "none":
            text = f"&#160;{text}"  # space at the edge of the filled cell
        attributes = [f'FACE="{_BOLD}"'] if cell.bold else []
        if cell.ink != "ink":
            attributes.append(f'COLOR="{self.colours[cell.ink]}"')
        if cell.size != FONT:
            attributes.append(f'POINT-SIZE="{cell.size:g}"')
        return f"<FONT {' '.join(attributes)}>{text}</FONT>" if attributes else text

    def _wire(self, index: int, wire: DrawnWire) -> Iterable[str]:
        start = f"e,{self._point(wire.tip)} " if wire.tip is not None else ""
        yield f'id="wire{index}" pos="{start}{" ".join(map(self._point, wire.points))}"'
        yield f'color="{self.colours[wire.look.colour]}" style={wire.look.dash}'
        yield f"penwidth={wire.look.pen:g}"
        if wire.tip is None:
            yield "arrowhead=none"
        elif wire.look.hollow:
            yield "arrowhead=onormal"
        if wire.tooltip and self.tooltips:
            yield f"tooltip={quoted(tooltip_lines(wire.tooltip))}"
