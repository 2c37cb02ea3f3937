"""Sheets in Graphviz's language with all positions, as ``dot -Knop2`` reads them.

Text from the spec is escaped. The names of nodes are the keys of the boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from danetc.compiler.draw.formula import FormulaPiece
from danetc.compiler.draw.sheet import FONT, RIM, Box, DrawnWire, Point, Sheet, TextCell, columns
from danetc.compiler.draw.theme import Palette
from danetc.compiler.draw.words import clean

MARGIN = 14.0  # around a picture
_BOLD = "Helvetica-Bold"  # text in <B> would be higher than its neighbours
_ITALIC = "Helvetica-Oblique"
_BASE_LINE = 0.3  # distance from the middle of a node to the baseline, as a share of the font size
_SHAPES = {
    "box": ("box", "filled"),
    "round": ("box", "rounded,filled"),
    "circle": ("circle", "filled"),
    "bar": ("box", "rounded,filled"),
    "plain": ("plain", ""),
    "point": ("circle", "filled"),
}


def to_gv(sheet: Sheet, colours: Palette, name: str = "topology") -> str:
    """Return the sheet as text, with an invisible node that keeps its size.

    Tooltips are not included. They are added to an SVG in ``engine``.
    """
    return "\n".join(_Writer(sheet, colours).lines(name)) + "\n"


def piece_key(box: Box, place: int) -> str:
    """Return the id of a piece of a box's formula."""
    return f"{box.key}.piece{place}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Writer:
    def __init__(self, sheet: Sheet, colours: Palette) -> None:
        self.sheet = sheet
        self.colours = colours

    def lines(self, name: str) -> Iterable[str]:
        yield f"digraph {_quoted(clean(name, 200))} {{"
        yield f'  graph [layout=nop2 bgcolor="{self.colours["paper"]}" pad=0 outputorder=nodesfirst]'
        yield (
            f'  node [fontname="Helvetica" fontsize={FONT:g} fontcolor="{self.colours["ink"]}" '
            "fixedsize=true margin=0]"
        )
        yield "  edge [arrowsize=0.6]"
        width, height = self.sheet.width, self.sheet.height
        whole = self._placed((width / 2, height / 2), width + 2 * MARGIN, height + 2 * MARGIN)
        yield f'  _size [shape=box style=invis label="" {whole}]'
        for box in self.sheet.boxes:
            yield f"  {_quoted(box.key)} [{' '.join(self._box(box))}]"
            for place, piece in enumerate(box.set_pieces()):
                key = _quoted(piece_key(box, place))
                yield f"  {key} [id={key} {self._piece(piece)}]"
        for index, wire in enumerate(self.sheet.wires):
            yield f"  {_quoted(wire.tail)} -> {_quoted(wire.head)} [{self._wire(index, wire)}]"
        yield "}"

    def _point(self, point: Point) -> str:
        return f"{point[0] + MARGIN:.2f},{self.sheet.height + MARGIN - point[1]:.2f}"

    def _placed(self, middle: Point, width: float, height: float) -> str:
        return f'pos="{self._point(middle)}" width={width / 72:.4f} height={height / 72:.4f}'

    def _box(self, box: Box) -> Iterable[str]:
        shape, style = _SHAPES[box.shape]
        rim = 2 * RIM if box.double else 0.0
        yield f"id={_quoted(box.key)} shape={shape}"
        yield self._placed((box.x, box.y), box.width - rim, box.height - rim)
        if box.shape != "plain":
            yield f'style="{style}{",dashed" if box.dashed else ""}"'
            yield f'fillcolor="{self.colours[box.fill]}" color="{self.colours[box.line]}"'
            yield f"penwidth={box.pen:g}"
        if box.double:
            yield "peripheries=2"
        yield f"label={self._label(box)}"

    def _piece(self, piece: FormulaPiece) -> str:
        x, y = piece.x + piece.width / 2, piece.y - _BASE_LINE * piece.size * bool(piece.text)
        placed = self._placed((x, y), piece.width, piece.size)
        if not piece.text:
            ink = self.colours["ink"]
            return f'shape=box {placed} label="" style=filled fillcolor="{ink}" penwidth=0'
        face = f' fontname="{_ITALIC}"' if piece.italic else ""
        return f"shape=plain {placed} label={_quoted(piece.text)} fontsize={piece.size:g}{face}"

    def _label(self, box: Box) -> str:
        if not box.rows:
            return '""'
        if len(box.rows) == 1 and len(box.rows[0]) == 1 and not box.rows[0][0].wide:
            cell = box.rows[0][0]  # centred, whatever the width of the font
            face = f' fontname="{_BOLD}"' if cell.bold else ""
            ink = self.colours[cell.ink]
            return f'{_quoted(cell.text)}{face} fontsize={cell.size:g} fontcolor="{ink}"'
        widths = columns(box.rows)
        rows = "".join(f"<TR>{self._cells(row, widths)}</TR>" for row in box.rows)
        return f'<<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="0" CELLSPACING="0">{rows}</TABLE>>'

    def _cells(self, row: tuple[TextCell, ...], widths: tuple[float, ...]) -> str:
        if row and row[0].wide:
            return self._cell(row[0], sum(widths), f' COLSPAN="{len(widths)}"')
        padded = [*row, *[TextCell("")] * (len(widths) - len(row))]
        return "".join(self._cell(cell, width) for cell, width in zip(padded, widths, strict=True))

    def _cell(self, cell: TextCell, width: float, more: str = "") -> str:
        # Graphviz also replaces escape sequences such as \\N in HTML labels.
        text = escape(cell.text).replace("\\", "\\\\").replace("  ", " &#160;")
        if text and cell.fill != "none":
            text = f"&#160;{text}"  # a space between the text and the edge of the fill
            more += f' BGCOLOR="{self.colours[cell.fill]}"'
        font = f' FACE="{_BOLD}"' if cell.bold else ""
        font += f' COLOR="{self.colours[cell.ink]}"' if cell.ink != "ink" else ""
        font += f' POINT-SIZE="{cell.size:g}"' if cell.size != FONT else ""
        text = f"<FONT{font}>{text}</FONT>" if text and font else text
        return (
            f'<TD ALIGN="LEFT" WIDTH="{width:.0f}" HEIGHT="{cell.height():.0f}"{more}>{text}</TD>'
        )

    def _wire(self, index: int, wire: DrawnWire) -> str:
        points = " ".join(map(self._point, wire.points))
        return (
            f'id="wire{index}" pos="e,{self._point(wire.tip)} {points}" '
            f'color="{self.colours[wire.look.colour]}" style={wire.look.dash} '
            f"penwidth={wire.look.pen:g}{' arrowhead=onormal' if wire.look.hollow else ''}"
        )
