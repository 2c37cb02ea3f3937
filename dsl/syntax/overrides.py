"""Values of ``--set PATH=VALUE``, and changes of the arguments of a call."""

from __future__ import annotations

from collections.abc import Iterable

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.syntax.parser import parse_expression
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Arg, Call, Expr, Name

OverrideValue = str | int | float | bool


def override_source(path: str, value: OverrideValue, name: str = "--set") -> SourceFile:
    """Return ``path = value`` as a source for diagnostics; ``name`` tells where it was written."""
    return SourceFile(name, f"{path} = {override_text(value)}")


def parse_override(
    path: str, value: OverrideValue, reporter: Reporter, name: str = "--set"
) -> Expr | None:
    """Parse the value of a setting given outside the file. Return None if errors were reported."""
    source = override_source(path, value, name)
    found = Reporter()
    expr = parse_expression(source, found, len(path) + 3)
    for item in found.diagnostics:
        reporter.add(item)
    if expr is None and not found.diagnostics:
        reporter.error(
            "E0802",
            f"the value of `{path}` is not one expression",
            Span(source, len(path) + 3, len(source.text)),
            label="expected one value",
        )
    return expr


def named(args: Iterable[Arg], positions: Iterable[str]) -> list[Arg]:
    """Return the arguments with the names of their parameters, if there are enough parameters."""
    names = iter(positions)
    return [it if it.name else Arg(next(names, None), it.value, span=it.span) for it in args]


def with_argument(value: Expr, arg: Arg, positions: Iterable[str] = ()) -> Expr:
    """Add an argument to a call, or replace it. A name is a call without arguments.

    ``positions`` lists the names of the parameters. Other expressions are returned unchanged.
    """
    match value:
        case Call(function=function, args=args):
            kept = tuple(item for item in named(args, positions) if item.name != arg.name)
        case Name() as function:
            kept = ()
        case _:
            return value
    return Call(function, (*kept, arg), span=value.span)


def override_text(value: OverrideValue) -> str:
    """Return a value as it is written in a spec."""
    return str(value).lower() if isinstance(value, bool) else str(value)
