"""Equations of neurons in the notation of papers, and the values of their symbols."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter

from danetc.compiler.draw.equations import Operation, Term, Variable, scalars, short_name, slope
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
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, caption, fitted
from danetc.compiler.draw.words import clean
from danetc.dsl.neuron.opcodes import ATOM, OPCODES, OpInfo
from danetc.dsl.neuron.program import (
    Learnable,
    NeuronProgram,
    SurrogateProgram,
    called_with,
    parameters_of,
)

_NAMES = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau
upsilon phi chi psi omega"""
GREEK = dict(zip(_NAMES.split(), "αβγδεζηθικλμνξπρστυφχψω", strict=True))
"""Greek letters by names of parameters."""
_SHORT = {"threshold": "th", "adaptation": "a"}
_VOLTAGES = ("threshold", "rest", "reset")  # v_threshold is a constant V, not a membrane potential
_LONGEST = 24
WIDEST = 330.0
"""Width of an equation in points before it is broken into lines."""
_SUM, _PRODUCT = 2, 3
_FLAT = 8.5  # smaller fractions are written inline
_OPENING = ("(", "|", "^")


def symbol(name: str, size: float = SIZE, *, constant: bool = True) -> Formula:
    """Return a name in the notation of papers; ``constant`` for values without time."""
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
    """Return ``left = term``, with ``step`` and ``before`` as indices of this and the last step.

    Long sums are broken into lines.
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
        """Return the terms of a sum with their signs, from the left."""
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
        """Return a term, in brackets if its precedence is lower than ``least``."""
        written, own = self.written(term, size)
        return written if own >= binds else bracketed(written, size)

    def written(self, term: Term, size: float) -> tuple[Formula, int]:
        """Return a term and its precedence."""
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


_GAP = 4.0
_INDENT = 5.0  # of a caption's text
_BESIDE = 10.0  # distance between a value and its description


def values(program: NeuronProgram, prefix: str) -> Sheet:
    """Return each symbol with its value, and with its name in the program if that differs.

    Parameters that do not occur in the equations are left out.
    """
    boxes: list[Box] = []
    described: list[tuple[Box, str]] = []
    y = 0.0
    for place, (formula, words) in enumerate(_lines(program)):
        box = fitted(Box(f"{prefix}value{place}", shape="plain", formula=formula))
        boxes.append(box.from_corner(_INDENT, y))
        y += box.height + _GAP
        if words:
            described.append((boxes[-1], words))
    left = max((box.right for box, _ in described), default=0.0) + _BESIDE
    for box, words in described:
        about = caption(f"{box.key}about", clean(words, 64), size=SMALL, ink="quiet")
        boxes.append(about.from_corner(left, box.y - about.height / 2))
    right = max((box.right for box in boxes), default=0.0)
    return Sheet(right, max(0.0, y - _GAP), tuple(boxes))


def _lines(program: NeuronProgram) -> Iterator[tuple[Formula, str]]:
    yield from _parameters(program)
    of_surrogate = () if program.surrogate is None else program.surrogate.scheduled
    for item in program.learnables:
        if item not in of_surrogate:
            yield _number(item)
    for name, term in scalars(program):
        yield _constant(symbol(name), term), ""
    if program.surrogate is not None:
        left = row([word("H′("), word("x", italic=True), word(")")])
        named, derivative = slope(program.surrogate)
        yield _constant(left, derivative), ""
        for name, term in named:
            yield _constant(symbol(name), term), ""
        yield from map(_number, of_surrogate)
        yield from _parameters(program.surrogate)


def _parameters(program: NeuronProgram | SurrogateProgram) -> Iterator[tuple[Formula, str]]:
    held = parameters_of(program)
    for name, value in program.parameters:
        if name in held:
            shown = _valued(name, str(value).lower() if isinstance(value, bool) else f"{value:.6g}")
            yield shown, name if symbol(name).text != name else ""


def _constant(left: Formula, term: Term) -> Formula:
    return equation(left, term, "t", "t − 1")


def _valued(name: str, value: str) -> Formula:
    return row([symbol(name), word(" = "), word(value.replace("-", "−"))])


def _number(item: Learnable) -> tuple[Formula, str]:
    name, value = short_name(item), f"{item.start:.4g}".replace("-", "−")
    left = value_at(name, "t") if item.per_step else symbol(name)
    return row([left, word(" = "), word(value)]), _learnt(item)


def _learnt(item: Learnable) -> str:
    """Describe how a number is learnt: ``at the start; learnt, above 0, one a channel``."""
    if item.scheduled:
        return f"at the start; {item.scheduled} of a recipe"
    words = ["at the start; learnt"]
    if item.above is not None and item.below is not None:
        words.append(f"between {item.above:g} and {item.below:g}")
    elif item.above is not None:
        words.append(f"above {item.above:g}")
    elif item.below is not None:
        words.append(f"below {item.below:g}")
    if not item.is_scalar:
        words.append(f"one a {item.per}")
    if item.per_step:
        words.append("others at each step")
    return ", ".join(words)


def heading(program: NeuronProgram, name: str) -> tuple[str, str]:
    """Return the calls of the neuron and of its surrogate."""
    if program.surrogate is None:
        return called_with(program, name), ""
    return called_with(
        program, name
    ), f"H′ is that of the surrogate {called_with(program.surrogate)}"
