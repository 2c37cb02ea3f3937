"""Equations of neurons in the notation of papers, and the values of their symbols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from string import Formatter
from typing import Any

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
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.inference import ranges_of
from danetc.dsl.neuron.opcodes import ATOM, NO_GRADIENT, OPCODES, Operand, OpInfo
from danetc.dsl.neuron.parameters import Origin, ParameterValue
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    Learnable,
    NeuronProgram,
    SurrogateProgram,
    called_with,
    parameters_of,
)
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.ranges import constant
from danetc.dsl.record import record

_NAMES = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau
upsilon phi chi psi omega"""
GREEK = dict(zip(_NAMES.split(), "αβγδεζηθικλμνξπρστυφχψω", strict=True))
"""The Greek letters that replace names of parameters."""
_SHORT = {"threshold": "th", "adaptation": "a"}
_VOLTAGES = ("threshold", "rest", "reset")  # v_threshold is a constant V, not a membrane potential
_LONGEST = 24
WIDEST = 330.0
"""Maximum width of a line of an equation in points."""
_SUM, _PRODUCT = 2, 3
_FLAT = 8.5  # fractions in a smaller font are written on one line
_OPENING = ("(", "|", "^")
_DEEPEST = 60  # maximum depth of operations in a formula


def symbol(name: str, size: float = SIZE, *, constant: bool = True) -> Formula:
    """Return a name as it is written in papers. ``constant`` is True if the value has no time index."""
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


@record
class Read:
    """A value that an equation reads: of the step before (``before``), without gradient (``detached``)."""

    name: str
    before: bool
    detached: bool


@record
class Equation:
    """The equation of a value at each step; ``fires`` if it is the result of a step function."""

    name: str
    formula: Formula
    reads: tuple[Read, ...]
    kind: Kind
    fires: bool


def equations(program: NeuronProgram, step: str = "t", before: str = "t − 1") -> list[Equation]:
    """Return the equations of the named values at a time step, in order.

    ``step`` and ``before`` are the indices of this and the last step. Values that do not depend
    on time are left out; see ``values``.
    """
    reader = Notation.of(program, step, before)
    ranges = ranges_of(program)
    numbers = {
        name for item in program.learnables if item.per_step for name in (item.name, item.parameter)
    }
    named = {
        reader.shown(op.name): op.name
        for op in program.ops
        if not _is_unnamed(op.name) and op.name not in reader.always | numbers
    }
    after: dict[str, Operand] = {
        state.name: value
        for state, value in zip(program.states, program.next_states, strict=True)
        if state.name not in named
    }
    if isinstance(program.output, str) and _is_unnamed(program.output):
        after["s"] = program.output
    found = []
    for name, value in [*named.items(), *after.items()]:
        op = reader.ops.get(value)
        if op is not None and not _is_unnamed(op.name) and reader.shown(op.name) != name:
            op = None  # the next value of the state has a name
        formula = reader.equation(value_at(name, step), value, top=op is not None)
        reads = reader.reads(value, numbers, top=op is not None)
        kind = Kind.of(constant(value) if isinstance(value, float) else ranges[value])
        fires = op is not None and OPCODES[op.opcode].step
        found.append(Equation(name, formula, reads, kind, fires))
    return found


def output_of(program: NeuronProgram) -> Read:
    """Return the output of the neuron."""
    name = str(program.output)
    if name in {state.name for state in program.states}:
        return Read(name, True, False)
    return Read("s" if _is_unnamed(name) else Notation.of(program).shown(name), False, False)


def _is_unnamed(name: str) -> bool:
    """True for a name that the compiler generated, as ``_12``."""
    return name[:1] == "_" and name[1:].isdecimal()


class _Parameter(str):
    """Name of a parameter that a constant is computed from."""


def _computed(origin: Origin) -> Any:
    """Return a constant as an operation on the parameters that it was computed from."""
    match origin:
        case str():
            return _Parameter(origin)
        case tuple():
            return (origin[0], *map(_computed, origin[1:]))
        case _:
            return origin


class Notation:
    """Writes values of a program as formulas.

    ``always`` are the names of values without time, ``states`` those of the step before, and
    ``next_names`` the states by the names of their next values.
    """

    def __init__(
        self,
        ops: Iterable[Instruction],
        always: Iterable[str],
        states: Iterable[str] = (),
        next_names: Mapping[str, str] | None = None,
        step: str = "t",
        before: str = "t − 1",
    ) -> None:
        self.ops: dict[Operand, Instruction] = {op.name: op for op in ops}
        self.always = set(always)
        self.states = set(states)
        self.next_names = next_names or {}
        self.step, self.before = step, before

    @classmethod
    def of(cls, program: NeuronProgram, step: str = "t", before: str = "t − 1") -> Notation:
        states = [state.name for state in program.states]
        names = {
            f"{state}{NEXT}": state
            for state, after in zip(states, program.next_states, strict=True)
            if after == f"{state}{NEXT}"
        }
        return cls(program.ops, program.scalars(constant=True), states, names, step, before)

    def shown(self, name: str) -> str:
        return self.next_names.get(name, name)

    def reads(self, value: Operand, numbers: set[str], *, top: bool) -> tuple[Read, ...]:
        """Return the values with time that a value is computed from, without learnt ``numbers``."""
        found: dict[tuple[str, bool], bool] = {}
        seen: set[tuple[Operand, bool]] = set()
        waiting: list[tuple[Operand, bool]] = [(value, False)]
        while waiting:
            at = waiting.pop()
            value, detached = at
            if at in seen or isinstance(value, float) or value in self.always | numbers:
                continue
            seen.add(at)
            if value in self.ops and (top or _is_unnamed(value)):
                op = self.ops[value]
                inside = detached or OPCODES[op.opcode].derivative == NO_GRADIENT
                waiting += [(arg, inside) for arg in reversed(op.args)]
            else:
                key = (self.shown(value), value in self.states)
                found[key] = found.get(key, True) and detached
            top = False
        return tuple(Read(*key, detached) for key, detached in found.items())

    def equation(self, left: Formula, value: Operand, *, top: bool = True) -> Formula:
        """Return the formula ``left = value``. Long sums are broken into several lines."""
        parts = [row([left, word(" = ")]), *self._addends(value, top)]
        whole = row(parts)
        if whole.width <= WIDEST:
            return whole
        found: list[list[Formula]] = [parts[:2]]
        for part in parts[2:]:
            if sum(p.width for p in found[-1]) + part.width > WIDEST:
                found.append([word("    ")])
            found[-1].append(part)
        return lines([row(line) for line in found])

    def _opened(self, term: Any, top: bool = False) -> Any:
        """Return a value as ``(opcode, *operands)`` if it has no name, or with ``top``."""
        if isinstance(term, ParameterValue):
            return _computed(term.origin)
        if type(term) is str and term in self.ops and (top or _is_unnamed(term)):
            return (self.ops[term].opcode, *self.ops[term].args)
        return term

    def _addends(self, term: Any, top: bool) -> list[Formula]:
        """Return the terms of a sum with their signs, from the left."""
        found: list[Formula] = []
        term = self._opened(term, top)
        while isinstance(term, tuple) and term[0] in ("add", "sub"):
            opcode, first, addend = term
            sign = OPCODES[opcode].notation.replace("{0}", "").replace("{1}", "")
            addend = self._opened(addend)
            below = isinstance(addend, float) and addend < 0
            need = ATOM if below else OPCODES[opcode].binds[2]
            found.append(row([word(sign), self._held(addend, need, SIZE, 0)]))
            term = self._opened(first)
        found.append(self._held(term, _SUM if found else 0, SIZE, 0))
        return found[::-1]

    def _held(self, term: Any, binds: int, size: float, depth: int) -> Formula:
        """Return a term, in brackets if its precedence is lower than ``binds``."""
        written, own = self._written(term, size, depth)
        return written if own >= binds else bracketed(written, size)

    def _written(self, term: Any, size: float, depth: int) -> tuple[Formula, int]:
        """Return a term and its precedence."""
        match self._opened(term):
            case float(number):
                text = f"{number:.4g}".replace("-", "−")
                return word(text, size), ATOM if number >= 0 else _PRODUCT
            case str(name):
                if isinstance(name, _Parameter) or name in self.always:
                    return symbol(self.shown(name), size), ATOM
                step = self.before if name in self.states else self.step
                return value_at(self.shown(name), step, size), ATOM
            case opcode, *args:
                if depth > _DEEPEST:
                    return word("…", size), ATOM
                return self._operation(opcode, args, size, depth + 1)
        raise AssertionError(term)

    def _operation(
        self, opcode: str, args: list[Any], size: float, depth: int
    ) -> tuple[Formula, int]:
        info = OPCODES[opcode]
        if not info.notation:
            parts: list[Formula] = []
            for arg in args:
                parts += [word(", ", size)] * bool(parts) + [self._written(arg, size, depth)[0]]
            return row([word(opcode, size), bracketed(row(parts), size)]), ATOM
        if info.notation == "{0}":
            return self._written(args[0], size, depth)
        if info.notation == "{0}/{1}" and size >= _FLAT:
            over, under = (self._written(arg, size * 0.9, depth)[0] for arg in args)
            return fraction(over, under, size), ATOM
        return self._template(args, info, size, depth)

    def _template(
        self, args: list[Any], info: OpInfo, size: float, depth: int
    ) -> tuple[Formula, int]:
        parts: list[Formula] = []
        binds = 0 if " if " in info.notation else info.binds[0]
        for text, field, _, _ in Formatter().parse(info.notation):
            if field is None:
                parts += [word(text, size)] * (text not in (")", "|"))
                continue
            place = int(field)
            if text.endswith("^"):
                exponent = self._written(args[place], smaller(size), depth)[0]
                parts.append(power(word(text[:-1], size, italic=True), exponent, size))
                binds = ATOM
            elif text.endswith(_OPENING):
                signs = "||" if text.endswith("|") else "()"
                parts += [word(text[:-1], size)] * bool(text[:-1])
                inner = self._written(args[place], size, depth)[0]
                parts.append(bracketed(inner, size, signs))
                binds = ATOM
            else:
                parts += [word(text, size)] * bool(text)
                need = info.binds[1 + place] if binds and len(info.binds) > 1 + place else 1
                parts.append(self._held(args[place], need, size, depth))
        return row(parts), binds


_GAP = 4.0
_INDENT = 5.0  # margin on the left
_BESIDE = 10.0  # space between a value and the description


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
    surrogate = program.surrogate
    scheduled = () if surrogate is None else surrogate.scheduled
    yield from (_number(item) for item in program.learnables if item not in scheduled)
    for name, draw in program.drawn.items():
        about = ", ".join(["random", *draw.facts])
        yield row([value_at(name, "t"), word(f" ~ {draw.law}".replace("-", "−"))]), about
    reader = Notation.of(program)
    bounded = {item.name for item in program.learnables}
    for op in program.ops:  # values without time
        if op.name in reader.always and not _is_unnamed(op.name) and op.name not in bounded:
            yield reader.equation(symbol(op.name), op.name), ""
    if surrogate is None:
        return
    names = [op.name for op in surrogate.ops if not _is_unnamed(op.name)]
    short = {item.name: _short_name(item) for item in scheduled}
    reader = Notation(surrogate.ops, (INPUT, *names, *short), next_names=short)
    slope = row([word("H′("), word("x", italic=True), word(")")])
    yield reader.equation(slope, surrogate.derivative), ""
    for name in names:
        if name != surrogate.derivative:
            yield reader.equation(symbol(name), name), ""
    yield from map(_number, scheduled)
    yield from _parameters(surrogate)


def _parameters(program: NeuronProgram | SurrogateProgram) -> Iterator[tuple[Formula, str]]:
    occurring = parameters_of(program)
    for name, value in program.parameters:
        if name in occurring:
            shown = str(value).lower() if isinstance(value, bool) else f"{value:.6g}"
            yield _valued(symbol(name), shown), name if symbol(name).text != name else ""


def _valued(left: Formula, value: str) -> Formula:
    return row([left, word(" = "), word(value.replace("-", "−"))])


def _short_name(item: Learnable) -> str:
    """Return the name of a learnt number in its declaration."""
    return item.scheduled.rpartition(".")[2] or item.name


def _number(item: Learnable) -> tuple[Formula, str]:
    """Return a learnt number, and how it is learnt: ``at the start; learnt, above 0, one a channel``."""
    name = _short_name(item)
    left = value_at(name, "t") if item.per_step else symbol(name)
    if item.scheduled:
        about = [f"{item.scheduled} of a recipe"]
    else:
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("above", item.above), ("below", item.below))
            if bound is not None
        ]
        about = ["learnt", *[" and ".join(bounds)] * bool(bounds)]
        about += [f"one a {item.per}"] * (not item.is_scalar)
        about += ["others at each step"] * item.per_step
    start = f"{item.start:.4g}" if item.random is None else str(item.random)
    return _valued(left, start), f"at the start; {', '.join(about)}"


def heading(program: NeuronProgram, name: str) -> tuple[str, str]:
    """Return the calls of the neuron and of its surrogate."""
    if program.surrogate is None:
        return called_with(program, name), ""
    surrogate = f"H′ is that of the surrogate {called_with(program.surrogate)}"
    return called_with(program, name), surrogate
