"""Equations in normal form: quotients of polynomials over atoms, so that two ways to write the same
equation are one.

An atom is an input, or what an operation makes that is no arithmetic: ``sigmoid(4 x)`` is an atom
that holds the polynomial ``4 x``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.ssa import Instruction

MAX_TERMS = 64
"""More terms than any equation that is looked for has: longer ones are not followed."""


@dataclass(frozen=True, slots=True)
class Atom:
    """``name``, or ``name(argument)``."""

    name: str
    argument: Polynomial | None = None


Monomial: TypeAlias = tuple[tuple[Atom, int], ...]
"""Atoms and their powers, by name."""
ONE: Monomial = ()


class NotPolynomial(Exception):
    """A value is no quotient of polynomials, or too long a one."""


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of monomials with coefficients other than 0."""

    terms: tuple[tuple[Monomial, float], ...]

    @staticmethod
    def of(terms: Iterable[tuple[Monomial, float]]) -> Polynomial:
        total: dict[Monomial, float] = {}
        for monomial, factor in terms:
            total[monomial] = total.get(monomial, 0.0) + factor
        if len(total) > MAX_TERMS:
            raise NotPolynomial
        kept = [(m, c) for m, c in total.items() if c != 0.0]
        return Polynomial(tuple(sorted(kept, key=lambda item: repr(item[0]))))

    @staticmethod
    def constant(value: float) -> Polynomial:
        return Polynomial.of([(ONE, value)])

    @staticmethod
    def atom(name: str, argument: Polynomial | None = None) -> Polynomial:
        return Polynomial.of([(((Atom(name, argument), 1),), 1.0)])

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial.of((*self.terms, *other.terms))

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other * -1.0

    def __mul__(self, other: Polynomial | float) -> Polynomial:
        if isinstance(other, float):
            return Polynomial.of((monomial, other * factor) for monomial, factor in self.terms)
        return Polynomial.of((_product(a, b), x * y) for a, x in self.terms for b, y in other.terms)

    @property
    def value(self) -> float | None:
        """The number that a polynomial is, but for roundings, or None."""
        if any(monomial != ONE and abs(factor) > 1e-12 for monomial, factor in self.terms):
            return None
        return sum((factor for monomial, factor in self.terms if monomial == ONE), start=0.0)

    def atoms(self) -> frozenset[Atom]:
        return frozenset(atom for monomial, _ in self.terms for atom, _ in monomial)

    def split(self, name: str) -> list[Polynomial]:
        """The coefficients of the powers of the atom ``name``, from 0 on."""
        parts: dict[int, list[tuple[Monomial, float]]] = {}
        for monomial, factor in self.terms:
            power = sum(p for atom, p in monomial if atom.name == name)
            rest = tuple((atom, p) for atom, p in monomial if atom.name != name)
            parts.setdefault(power, []).append((rest, factor))
        return [Polynomial.of(parts.get(i, [])) for i in range(max(parts, default=0) + 1)]

    def coefficients(self) -> dict[str, float]:
        """The coefficients by the text of their monomials: ``""``, ``"x"``, ``"q*u"``, ``"x^2"``."""
        return {
            "*".join(atom.name + (f"^{p}" if p > 1 else "") for atom, p in monomial): factor
            for monomial, factor in self.terms
        }


def _product(a: Monomial, b: Monomial) -> Monomial:
    powers: Counter[Atom] = Counter(dict(a))
    powers.update(dict(b))
    size = next((atom for atom in powers if atom.name == "abs"), None)
    if size is not None and powers[size] > 1 and size.argument is not None:
        inner = size.argument.terms
        if len(inner) == 1 and inner[0][1] == 1.0 and len(inner[0][0]) == 1:  # abs(x)^2 = x^2
            (atom, power), even = inner[0][0][0], powers[size] // 2 * 2
            powers[atom] += power * even
            powers[size] -= even
    ordered = sorted(powers.items(), key=lambda item: repr(item[0]))
    return tuple((atom, power) for atom, power in ordered if power)


@dataclass(frozen=True, slots=True)
class Quotient:
    """``above / below``."""

    above: Polynomial
    below: Polynomial = Polynomial.constant(1.0)

    def whole(self) -> Polynomial:
        """The polynomial that it is. Raises NotPolynomial if it is none."""
        divisor = self.below.value
        if not divisor:
            raise NotPolynomial
        return Polynomial.of((m, c / divisor) for m, c in self.above.terms)


def normal_forms(
    ops: Sequence[Instruction], inputs: Mapping[str, Polynomial]
) -> dict[Operand, Quotient]:
    """The normal forms of the values of ``ops``; what has none is left out.

    Operations other than arithmetic make atoms under the name of their opcode.
    """
    forms: dict[Operand, Quotient] = {name: Quotient(form) for name, form in inputs.items()}
    for op in ops:
        try:
            args = [
                Quotient(Polynomial.constant(arg)) if isinstance(arg, float) else forms[arg]
                for arg in op.args
            ]
            forms[op.name] = _apply(op.opcode, args)
        except (KeyError, NotPolynomial, OverflowError):
            continue
    return forms


def _apply(opcode: str, args: Sequence[Quotient]) -> Quotient:
    a, b = args[0], args[-1]
    match opcode:
        case "add" if a.below == b.below:
            return Quotient(a.above + b.above, a.below)
        case "add":
            return Quotient(a.above * b.below + b.above * a.below, a.below * b.below)
        case "sub":
            return _apply("add", (a, Quotient(b.above * -1.0, b.below)))
        case "neg":
            return Quotient(a.above * -1.0, a.below)
        case "mul":
            return Quotient(a.above * b.above, a.below * b.below)
        case "div":
            return Quotient(a.above * b.below, a.below * b.above)
        case "lt":
            return Quotient(Polynomial.atom(opcode, a.whole() - b.whole()))
        case "number" | "cast":
            return a
        case "abs":
            return Quotient(_size(a.whole()))
    if len(args) > 1:
        raise NotPolynomial
    return Quotient(Polynomial.atom(opcode, a.whole()))


def _size(value: Polynomial) -> Polynomial:
    """``abs(value)``, a constant factor taken out of it."""
    if len(value.terms) != 1:
        return Polynomial.atom("abs", value)
    ((monomial, factor),) = value.terms
    return Polynomial.atom("abs", Polynomial(((monomial, 1.0),))) * abs(factor)


def close(a: float, b: float) -> bool:
    """Equal but for a few roundings."""
    return math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-15)


def same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Equal coefficients, but for roundings; one that is 0 may be missing."""
    return all(close(a.get(key, 0.0), b.get(key, 0.0)) for key in {*a, *b})
