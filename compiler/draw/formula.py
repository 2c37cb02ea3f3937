"""Typeset formulas: positioned pieces of text, subscripts, powers, fractions.

Lengths are in points. Positions start at the left end of the baseline, with y downwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

from danetc.compiler.draw.theme import text_width
from danetc.dsl.record import record

SIZE = 11.0
_SMALLER = 0.72  # factor for the size of subscripts and powers
_LEAST = 7.5  # minimum size
_NARROW = 0.92  # widths are those of DejaVu Sans, which is wider than most fonts
_SPACE = 0.27  # width of a space, as a fraction of the size
_ASCENT, _DESCENT = 0.76, 0.24
_AXIS = 0.3  # height of a fraction's bar


@record
class FormulaPiece:
    """A piece of text of one style, stretched to ``width``; without text, a bar.

    ``x`` and ``y`` are the left end of its baseline.
    """

    text: str
    x: float
    y: float
    width: float
    size: float
    italic: bool = False


@record
class Formula:
    """Pieces with their extent above and below the baseline; ``text`` is the plain text."""

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

    def with_part(self, part: Formula, text: str, x: float, rise: float = 0.0) -> Formula:
        """Add a part at ``x``, raised by ``rise``; ``text`` is the plain text of both."""
        return Formula(
            text,
            (*self.pieces, *part.moved(x, -rise)),
            max(self.width, x + part.width),
            max(self.ascent, part.ascent + rise),
            max(self.descent, part.descent - rise),
        )


_NOTHING = Formula("", (), 0.0, 0.0, 0.0)


def word(text: str, size: float = SIZE, *, italic: bool = False) -> Formula:
    """Return a formula of one piece. Leading and trailing spaces keep their width."""
    inner = text.strip()
    before = len(text) - len(text.lstrip())
    room = _SPACE * size
    width = _NARROW * text_width(inner, size)
    pieces = (FormulaPiece(inner, before * room, 0.0, width, size, italic),) if inner else ()
    whole = width + room * (len(text) - len(inner))
    return Formula(text, pieces, whole, _ASCENT * size, _DESCENT * size)


def row(parts: Iterable[Formula]) -> Formula:
    """Join formulas on one baseline."""
    return reduce(lambda a, b: a.with_part(b, a.text + b.text, a.width), parts, _NOTHING)


def smaller(size: float) -> float:
    """Return the size of superscripts and subscripts."""
    return max(_LEAST, size * _SMALLER)


def subscript(base: Formula, below: Formula, size: float) -> Formula:
    """Add a subscript to ``base`` in text of ``size``."""
    return base.with_part(below, f"{base.text}_{below.text}", base.width + 0.5, -0.22 * size)


def power(base: Formula, exponent: Formula, size: float) -> Formula:
    """Add an exponent to ``base`` in text of ``size``."""
    rise = 0.36 * size + exponent.descent - _DESCENT * smaller(size)
    text = exponent.text if exponent.text.isalnum() else f"({exponent.text})"
    return base.with_part(exponent, f"{base.text}^{text}", base.width + 0.5, rise)


def fraction(above: Formula, below: Formula, size: float) -> Formula:
    """Return a fraction in text of ``size``."""
    edge, width, axis = 1.0, max(above.width, below.width) + 3.0, _AXIS * size
    text = " / ".join(f"({p.text})" if " " in p.text else p.text for p in (above, below))
    bar = FormulaPiece("", edge, -axis, width, 0.8)
    whole = Formula(text, (bar,), width + 2 * edge, 0.0, 0.0)
    up, down = axis + 1.5 + above.descent, below.ascent + 1.5 - axis
    whole = whole.with_part(above, text, edge + (width - above.width) / 2, up)
    return whole.with_part(below, text, edge + (width - below.width) / 2, -down)


def bracketed(inner: Formula, size: float, signs: str = "()") -> Formula:
    """Put a formula in brackets of the same height."""
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


def lines(parts: Sequence[Formula], gap: float = 3.0) -> Formula:
    """Stack left-aligned formulas; the first one defines the baseline."""
    whole = parts[0]
    for part in parts[1:]:
        drop = whole.descent + gap + part.ascent
        whole = whole.with_part(part, f"{whole.text} {part.text.strip()}", 0.0, -drop)
    return whole
