"""Equations of neurons in the notation of papers: τ and V with the index th for ``tau`` and
``v_threshold``, fractions, powers. How each operation is written is a field of its row."""

from __future__ import annotations

from string import Formatter

from danetc.compiler.draw.equations import Operation, Term, Variable
from danetc.compiler.draw.formula import (
    SIZE,
    Formula,
    bracketed,
    fraction,
    lines,
    power,
    row,
    smaller,
    subscript,
    word,
)
from danetc.compiler.draw.words import clean
from danetc.dsl.neuron.opcodes import ATOM, OPCODES, OpInfo

_NAMES = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau
upsilon phi chi psi omega"""
GREEK = dict(zip(_NAMES.split(), "αβγδεζηθικλμνξπρστυφχψω", strict=True))
"""Letters by the names that parameters have."""
_SHORT = {"threshold": "th", "adaptation": "a"}
_VOLTAGES = ("threshold", "rest", "reset")  # v_threshold is no membrane potential, but V
_LONGEST = 24
WIDEST = 330.0
"""Points that an equation takes before it goes on in another line."""
_SUM, _PRODUCT = 2, 3
_FLAT = 8.5  # a smaller fraction is written in a line
_OPENING = ("(", "|", "^")


def symbol(name: str, size: float = SIZE, *, constant: bool = True) -> Formula:
    """A name as papers write it; ``constant`` says that no step has a value of its own."""
    base, *below = clean(name, _LONGEST).split("_")
    digits = base[len(base.rstrip("0123456789")) :]
    if digits and base != digits:
        base, below = base[: -len(digits)], [digits, *below]
    if constant and base == "v" and below[:1] and below[0] in _VOLTAGES:
        base = "V"
    base = GREEK.get(base, base)
    whole = word(base or "_", size, italic=len(base) == 1)
    index = ", ".join(GREEK.get(part, _SHORT.get(part, part)) for part in below if part)
    if not index:
        return whole
    small = smaller(size)
    return subscript(whole, word(index, small, italic=len(index) == 1 and index.isalpha()), size)


def value_at(name: str, step: str, size: float = SIZE) -> Formula:
    """``v[t]``."""
    return row([symbol(name, size, constant=False), word(f"[{step}]", size)])


def equation(left: Formula, term: Term, step: str, before: str) -> Formula:
    """``left = term``; ``step`` and ``before`` are what stands for this step and the one before.

    A long sum goes on in further lines.
    """
    writer = _Writer(step, before)
    parts = [row([left, word(" = ")]), *writer.addends(term)]
    whole = row(parts)
    if whole.width <= WIDEST:
        return whole
    found: list[list[Formula]] = [parts[:2]]
    for part in parts[2:]:
        if sum(p.width for p in found[-1]) + part.width > WIDEST:
            found.append([word("    ")])
        found[-1].append(part)
    return lines([row(line) for line in found])


class _Writer:
    def __init__(self, step: str, before: str) -> None:
        self.steps = {"now": step, "before": before}

    def addends(self, term: Term) -> list[Formula]:
        """The terms of a sum with their signs, from the left."""
        found: list[Formula] = []
        while (
            isinstance(term, Operation)
            and OPCODES[term.opcode].infix
            and OPCODES[term.opcode].binds[0] == _SUM
        ):
            info = OPCODES[term.opcode]
            sign = info.notation.replace("{0}", "").replace("{1}", "")
            addend = term.args[1]
            below = isinstance(addend, float) and addend < 0
            found.append(
                row([word(sign), self.held(addend, ATOM if below else info.binds[2], SIZE)])
            )
            term = term.args[0]
        first = self.held(term, _SUM if found else 0, SIZE)
        return [first, *reversed(found)]

    def held(self, term: Term, binds: int, size: float) -> Formula:
        """A term, in brackets where it binds less tight."""
        written, own = self.written(term, size)
        return written if own >= binds else bracketed(written, size)

    def written(self, term: Term, size: float) -> tuple[Formula, int]:
        """A term, and how tight it binds."""
        if isinstance(term, float):
            return word(f"{term:.4g}".replace("-", "−"), size), ATOM if term >= 0 else _PRODUCT
        if isinstance(term, Variable):
            if term.when == "always":
                return symbol(term.name, size), ATOM
            return value_at(term.name, self.steps[term.when], size), ATOM
        info = OPCODES[term.opcode]
        if not info.notation:
            return self._called(term, size), ATOM
        if info.notation == "{0}":
            return self.written(term.args[0], size)
        if info.notation == "{0}/{1}":
            if size < _FLAT:
                over, under = (
                    self.held(arg, b, size)
                    for arg, b in zip(term.args, info.binds[1:], strict=True)
                )
                return row([over, word("/", size), under]), info.binds[0]
            over, under = (self.written(arg, size * 0.9)[0] for arg in term.args)
            return fraction(over, under, size), ATOM
        return self._template(term, info, size)

    def _called(self, term: Operation, size: float) -> Formula:
        parts: list[Formula] = []
        for arg in term.args:
            parts += [word(", ", size)] * bool(parts) + [self.written(arg, size)[0]]
        return row([word(term.opcode, size), bracketed(row(parts), size)])

    def _template(self, term: Operation, info: OpInfo, size: float) -> tuple[Formula, int]:
        parts: list[Formula] = []
        pieces = [(text, field) for text, field, _, _ in Formatter().parse(info.notation)]
        binds = 0 if " if " in info.notation else info.binds[0]
        for text, field in pieces:
            if field is None:
                if text not in (")", "|"):
                    parts.append(word(text, size))
                continue
            place = int(field)
            arg = term.args[place]
            if text.endswith("^"):
                exponent = self.written(arg, smaller(size))[0]
                parts.append(power(word(text[:-1], size, italic=True), exponent, size))
                binds = ATOM
            elif text.endswith(_OPENING):
                signs = "||" if text.endswith("|") else "()"
                name = text[:-1]
                parts += [word(name, size)] * bool(name)
                parts.append(bracketed(self.written(arg, size)[0], size, signs))
                binds = ATOM
            else:
                parts += [word(text, size)] * bool(text)
                need = info.binds[1 + place] if binds and len(info.binds) > 1 + place else 1
                parts.append(self.held(arg, need, size))
        return row(parts), binds
