"""Typeset formulas: positioned pieces of text, subscripts, powers, fractions.

Lengths are in points. Positions start at the left end of the baseline, with y downwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from danetc.compiler.draw.theme import text_width
from danetc.dsl.record import record

SIZE = 11.0
_SMALLER = 0.72  # of subscripts and powers
_LEAST = 7.5
_NARROW = 0.92  # DejaVu Sans, which is measured, is wider than most fonts
_SPACE = 0.27  # of a size
_ASCENT, _DESCENT = 0.76, 0.24
_AXIS = 0.3  # height of a fraction's bar


@record
class FormulaPiece:
    """A piece of text of one style at the left end of its baseline, stretched to ``width``.

    Without text it is a bar.
    """

    text: str
    x: float
    y: float
    width: float
    size: float
    italic: bool = False


@record
class Formula:
    """Pieces, their extent above and below the baseline, and the formula as plain ``text``."""

    text: str
    pieces: tuple[FormulaPiece, ...]
    width: float
    ascent: float
    descent: float

    @property
    def height(self) -> float:
        return self.ascent + self.descent

    def moved(self, dx: float, dy: float) -> tuple[FormulaPiece, ...]:
        return tuple(replace(p, x=p.x + dx, y=p.y + dy) for p in self.pieces)


def word(text: str, size: float = SIZE, *, italic: bool = False) -> Formula:
    """Return a formula of one piece. Leading and trailing spaces become a gap."""
    inner = text.strip()
    before = len(text) - len(text.lstrip())
    room = _SPACE * size
    width = _NARROW * text_width(inner, size)
    pieces = (FormulaPiece(inner, before * room, 0.0, width, size, italic),) if inner else ()
    whole = width + room * (len(text) - len(inner))
    return Formula(text, pieces, whole, _ASCENT * size, _DESCENT * size)


def row(parts: Iterable[Formula], text: str = "", gap: float = 0.0) -> Formula:
    """Join formulas on one baseline."""
    parts = list(parts)
    pieces: list[FormulaPiece] = []
    x = 0.0
    for part in parts:
        pieces += part.moved(x, 0.0)
        x += part.width + gap
    return Formula(
        text or "".join(part.text for part in parts),
        tuple(pieces),
        max(0.0, x - gap),
        max((part.ascent for part in parts), default=0.0),
        max((part.descent for part in parts), default=0.0),
    )


def smaller(size: float) -> float:
    """Return the size of superscripts and subscripts."""
    return max(_LEAST, size * _SMALLER)


def subscript(base: Formula, below: Formula, size: float) -> Formula:
    """Add a subscript to ``base`` in text of ``size``."""
    drop = 0.22 * size
    pieces = (*base.pieces, *below.moved(base.width + 0.5, drop))
    return Formula(
        f"{base.text}_{below.text}",
        pieces,
        base.width + 0.5 + below.width,
        max(base.ascent, below.ascent - drop),
        max(base.descent, below.descent + drop),
    )


def power(base: Formula, exponent: Formula, size: float) -> Formula:
    """Add an exponent to ``base`` in text of ``size``."""
    rise = 0.36 * size + exponent.descent - _DESCENT * smaller(size)
    pieces = (*base.pieces, *exponent.moved(base.width + 0.5, -rise))
    text = exponent.text if exponent.text.isalnum() else f"({exponent.text})"
    return Formula(
        f"{base.text}^{text}",
        pieces,
        base.width + 0.5 + exponent.width,
        max(base.ascent, exponent.ascent + rise),
        max(base.descent, exponent.descent - rise),
    )


def fraction(above: Formula, below: Formula, size: float) -> Formula:
    """Return a fraction in text of ``size``."""
    width = max(above.width, below.width) + 3.0
    axis = _AXIS * size
    up, down = axis + 1.5 + above.descent, below.ascent + 1.5 - axis
    edge = 1.0
    bar = FormulaPiece("", edge, -axis, width, 0.8)
    pieces = (
        bar,
        *above.moved(edge + (width - above.width) / 2, -up),
        *below.moved(edge + (width - below.width) / 2, down),
    )
    text = " / ".join(f"({p.text})" if " " in p.text else p.text for p in (above, below))
    return Formula(text, pieces, width + 2 * edge, up + above.ascent, down + below.descent)


def bracketed(inner: Formula, size: float, signs: str = "()") -> Formula:
    """Put a formula in brackets of its height."""
    high = max(1.0, inner.height / (1.15 * size))
    middle = (inner.ascent - inner.descent) / 2
    ends = []
    for sign in signs:
        grown = size * high
        width = _NARROW * text_width(sign, size) * (1 + 0.25 * (high - 1))
        base = (_ASCENT - _DESCENT) / 2 * grown - middle
        piece = FormulaPiece(sign, 0.0, base, width, grown)
        ends.append(Formula(sign, (piece,), width, _ASCENT * grown - base, _DESCENT * grown + base))
    return row([ends[0], inner, ends[1]])


def lines(parts: list[Formula], gap: float = 3.0) -> Formula:
    """Stack formulas, aligned left, on the baseline of the first."""
    pieces: list[FormulaPiece] = list(parts[0].pieces)
    at = parts[0].descent
    for part in parts[1:]:
        at += gap + part.ascent
        pieces += part.moved(0.0, at)
        at += part.descent
    width = max(part.width for part in parts)
    return Formula(
        " ".join(part.text.strip() for part in parts), tuple(pieces), width, parts[0].ascent, at
    )
