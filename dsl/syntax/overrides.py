"""``--set PATH=VALUE``: a value as the language reads it, and a call with an argument changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from danetc.dsl.diagnostics.diagnostic import Label, Reporter
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Arg, Call, Declaration, Expr, Name

Node = TypeVar("Node")
OverrideValue = str | int | float | bool

_OPENING = "rule a ="  # makes a program of an expression


def override_source(path: str, value: OverrideValue, name: str = "--set") -> SourceFile:
    """The setting as a text that diagnostics can point into; ``name`` is where it was given."""
    return SourceFile(name, f"{path} = {override_text(value)}")


def parse_override(
    path: str, value: OverrideValue, reporter: Reporter, name: str = "--set"
) -> Expr | None:
    """The value of a setting from outside the file; None where it is no expression (reported)."""
    source = override_source(path, value, name)
    text = override_text(value)
    shift = len(source.text) - len(text) - len(_OPENING)
    inner = Reporter()
    program = parse(SourceFile("--set", _OPENING + text), inner)
    for item in inner.diagnostics:
        labels = tuple(Label(_moved(each.span, source, shift), each.text) for each in item.labels)
        reporter.add(replace(item, span=_moved(item.span, source, shift), labels=labels))
    if inner.diagnostics:
        return None
    match program.items:
        case (Declaration(value=expr, body=None),) if expr is not None:
            return _respan(expr, source, shift)
    reporter.error(
        "E0802",
        f"the value of `{path}` is not one expression",
        Span(source, len(source.text) - len(text), len(source.text)),
        label="expected one value",
    )
    return None


def named(args: Iterable[Arg], positions: Iterable[str]) -> list[Arg]:
    """Arguments with the names of their parameters; one too many stays without."""
    names = iter(positions)
    return [item if item.name else replace(item, name=next(names, None)) for item in args]


def with_argument(value: Expr, arg: Arg, positions: Iterable[str] = ()) -> Expr:
    """A call, or a name that stands for one without arguments, with an argument given or changed.

    ``positions`` are the names of the parameters. Another expression stays as it is.
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
    """A value as it is written."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _moved(span: Span, source: SourceFile, shift: int) -> Span:
    last = len(source.text)
    start = min(max(span.start + shift, 0), last)
    return Span(source, start, min(max(span.end + shift, start), last))


def _respan(node: Node, source: SourceFile, shift: int) -> Node:
    """A copy of a tree whose spans lie in another text."""
    if not is_dataclass(node) or isinstance(node, type):
        return node
    changed: dict[str, Any] = {}
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(value, Span):
            changed[item.name] = _moved(value, source, shift)
        elif isinstance(value, tuple):
            changed[item.name] = tuple(_respan(child, source, shift) for child in value)
        elif is_dataclass(value):
            changed[item.name] = _respan(value, source, shift)
    return replace(node, **changed)
