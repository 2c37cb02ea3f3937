"""Pieces of the syntax tree, made without text."""

from __future__ import annotations

from danetc.compiler.ir.graph import Attribute
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.printer import print_expr
from danetc.dsl.syntax.words import AXES


def number(value: float) -> s.Expr:
    """A number, with its sign."""
    if value < 0:
        return s.Unary("-", number(-value))
    return s.Number(repr(value) if isinstance(value, float) else str(value))


def constant(value: Attribute | tuple[int, ...]) -> s.Expr:
    """An attribute as an expression."""
    match value:
        case bool():
            return s.Name("true" if value else "false")
        case int() | float():
            return number(value)
        case str() if " " in value:  # first weights with their numbers
            name, *numbers = value.split()
            return call(name, *(s.Number(item) for item in numbers))
        case str():
            return s.Word(value) if value in AXES else s.Name(value)
    raise TypeError(f"{value!r} is not written in a spec")


def call(name: str, *args: s.Expr, **named: s.Expr) -> s.Expr:
    """``name(args, named)``, or the bare name where nothing is given."""
    given = [s.Arg(None, item) for item in args]
    given += [s.Arg(key, item) for key, item in named.items()]
    return s.Call(s.Name(name), tuple(given)) if given else s.Name(name)


def flow(*steps: s.Expr) -> s.Expr:
    """``a -> b -> c``; flows that stand first are part of it."""
    parts: list[s.Expr] = []
    for number_, step in enumerate(steps):
        parts += step.steps if isinstance(step, s.Flow) and number_ == 0 else (step,)
    return s.Flow(tuple(parts)) if len(parts) > 1 else parts[0]


def shown(expr: s.Expr) -> str:
    """An expression on one line."""
    return " ".join(print_expr(expr).split())
