"""Constants with their origin: the parameters of which a declaration made them.

A ``ParameterValue`` is a float with an origin: the name of a parameter, or an operation on origins.
If the form of a program depends on the value of a parameter (``x + v_rest`` is ``x`` for v_rest = 0),
the parameter is fixed: constants made of it lose their origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, Union

from danetc.dsl.neuron.opcodes import compute

Origin: TypeAlias = Union[str, float, tuple[Any, ...]]
"""The name of a parameter, a number, or an opcode and the origins of its operands."""
Parameters: TypeAlias = tuple[tuple[str, Union[float, bool]], ...]
"""The parameters of a declaration that are not learnt, with their values."""


class ParameterValue(float):
    """A constant with its ``origin``."""

    __slots__ = ("origin",)
    origin: Origin

    def __new__(cls, value: float, origin: Origin) -> ParameterValue:
        self = super().__new__(cls, value)
        self.origin = origin
        return self

    def __getnewargs__(self) -> tuple[float, Origin]:  # type: ignore[override]
        return float(self), self.origin


def folded(value: float, opcode: str, args: Sequence[Any]) -> float:
    """Return the result of an operation on constants, with an origin if an operand has one."""
    if not any(isinstance(arg, ParameterValue) for arg in args):
        return value
    origins = tuple(getattr(arg, "origin", float(arg)) for arg in args)
    if opcode == "neg" and isinstance(origins[0], tuple) and origins[0][0] == "neg":
        return ParameterValue(value, origins[0][1])
    return ParameterValue(value, (opcode, *origins))


def names_of(value: object) -> set[str]:
    """Return the parameters of which a constant was made."""
    found = _walk(value.origin) if isinstance(value, ParameterValue) else ()
    return {origin for origin in found if isinstance(origin, str)}


def opcodes_of(origin: Origin) -> set[str]:
    """Return the operations that made a constant."""
    return {found[0] for found in _walk(origin) if isinstance(found, tuple)}


def _walk(origin: Origin) -> Iterator[Origin]:
    yield origin
    if isinstance(origin, tuple):
        for part in origin[1:]:
            yield from _walk(part)


def closure(fixed: Iterable[str], constants: Iterable[object]) -> frozenset[str]:
    """Return ``fixed`` and the parameters that share a constant with a fixed one."""
    found = set(fixed)
    groups = [names for names in map(names_of, constants) if names]
    while more := set().union(*(names for names in groups if names & found)) - found:
        found |= more
    return frozenset(found)


def plain(value: Any, fixed: frozenset[str]) -> Any:
    """Return a constant, without its origin if that contains a fixed parameter."""
    return float(value) if names_of(value) & fixed else value


# -- text -----------------------------------------------------------------------------------------


def constant_text(value: float) -> str:
    """Return the text of a constant: ``0.5[div(1.0,tau)]``."""
    text = repr(float(value))
    return f"{text}[{_text(value.origin)}]" if isinstance(value, ParameterValue) else text


def _text(origin: Origin) -> str:
    if isinstance(origin, tuple):
        return f"{origin[0]}({','.join(map(_text, origin[1:]))})"
    return str(origin)


def read_origin(text: str, value: float, parameters: Mapping[str, float | bool]) -> ParameterValue:
    """Return ``value`` with the origin ``text``. Raises ValueError if that gives another value."""
    words = re.findall(r"[^(),]+|[(),]", text)[::-1]
    try:
        origin = _read(words)
        right = not words and _value(origin, parameters) == value
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError):
        right = False
    if not right:
        raise ValueError(f"neuron program: {text[:40]!r} is not {value!r}")
    return ParameterValue(value, origin)


def _read(words: list[str]) -> Origin:
    """Take an origin from the end of ``words``. Raises LookupError or ValueError for other text."""
    word = words.pop()
    if words[-1:] == ["("]:
        parts: list[Origin] = [word]
        while words.pop() in ("(", ","):
            parts.append(_read(words))
        return tuple(parts)
    return float(word) if word[0] in "-0123456789" else word


def _value(origin: Origin, parameters: Mapping[str, float | bool]) -> float:
    match origin:
        case str():
            return float(parameters[origin])
        case (str(opcode), *args):
            return float(compute(opcode, *(_value(arg, parameters) for arg in args)))
    assert isinstance(origin, float)
    return origin
