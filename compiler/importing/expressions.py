"""Writers of expressions, and the declarations of the standard library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from danetc.compiler.ir.graph import Attribute
from danetc.dsl import loading
from danetc.dsl.errors import UserError
from danetc.dsl.syntax import tree as s


class Unwritten(UserError):
    """Raised if a network or a part of it cannot be written in the language."""


@cache
def standard() -> Mapping[str, s.Declaration]:
    """Return all declarations of std by their names."""
    return {name: found.declaration for name, found in loading.standard().items()}


def of_kind(kind: str) -> Iterator[s.Declaration]:
    """Return the declarations of a kind: ``neuron``, ``connection``, ..."""
    return (item for item in standard().values() if item.kind == kind)


def defaults_of(declaration: s.Declaration) -> dict[str, float | bool | None]:
    """Return the defaults of parameters; None for those that are neither numbers nor booleans."""
    found: dict[str, float | bool | None] = {}
    for parameter in declaration.params:
        match parameter.default:
            case s.Number() as number:
                found[parameter.name] = number.value
            case s.Unary("-", s.Number() as number):
                found[parameter.name] = -number.value
            case s.Name("true" | "false" as word):
                found[parameter.name] = word == "true"
            case _:
                found[parameter.name] = None
    return found


def constant(value: Attribute | tuple[int, ...]) -> str:
    """Write a number, a boolean or a word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def call(name: str, *args: str, **named: str) -> str:
    """Write ``name(args, named)``, or the bare name without arguments."""
    given = [*args, *(f"{key} = {value}" for key, value in named.items())]
    return f"{name}({', '.join(given)})" if given else name


def flow(*steps: str) -> str:
    """Write ``a -> b -> c``."""
    return " -> ".join(steps)


def grouped(text: str) -> str:
    """Put parentheses around a flow."""
    return f"({text})" if "->" in text else text
