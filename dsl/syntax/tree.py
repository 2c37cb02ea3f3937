"""Syntax tree: immutable nodes with their spans.

Equality ignores spans, so ``parse(print(tree)) == tree``. Parentheses are not stored: the printer
adds the parentheses that are required by operator precedence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field, fields, replace
from typing import Any, TypeVar, Union, get_args

from danetc.dsl.record import record
from danetc.dsl.syntax.source import NOWHERE, Span

DECLARATION_KINDS = (
    "network", "block", "backbone", "connection", "rule", "neuron", "surrogate", "recipe",
)  # fmt: skip


def _span() -> Span:
    return field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@record
class Name:
    """A name in an expression. ``in`` and ``out`` are names too."""

    id: str
    span: Span = _span()


@record
class Word:
    """A name as a literal argument, as in ``over = time`` (see ``words``)."""

    id: str
    span: Span = _span()


@record
class Number:
    """A number as it was written: ``4``, ``0.5``, ``1e-4``."""

    text: str
    span: Span = _span()

    @property
    def value(self) -> int | float:
        whole = self.text.isdigit() and len(self.text) < 400  # a longer number is infinite
        return int(self.text) if whole else float(self.text)


@record
class String:
    value: str
    span: Span = _span()


@record
class Arg:
    """An argument of a call or a setting of ``with``: ``value`` or ``name = value``."""

    name: str | None
    value: Expr
    span: Span = _span()


@record
class Each:
    """``value for variable in low .. high if condition``, an argument of ``sum`` and similar."""

    value: Expr
    variable: str
    low: Expr
    high: Expr
    condition: Expr | None
    span: Span = _span()
    name_span: Span = _span()  # of the variable


@record
class Call:
    function: Expr
    args: tuple[Arg, ...]
    span: Span = _span()


@record
class Range:
    """``low .. high``, including both ends; only allowed inside an index."""

    low: Expr
    high: Expr
    span: Span = _span()


@record
class At:
    """``base[i]``, ``base[a .. b]``, ``base[i, j .. k]``."""

    base: Expr
    indices: tuple[Expr, ...]
    span: Span = _span()


@record
class Binary:
    """``+ - * /``, a comparison, ``and`` or ``or``."""

    op: str
    left: Expr
    right: Expr
    span: Span = _span()


@record
class Unary:
    """``-`` or ``not``."""

    op: str
    operand: Expr
    span: Span = _span()


@record
class IfElse:
    """``then if condition else otherwise``."""

    then: Expr
    condition: Expr
    otherwise: Expr
    span: Span = _span()


@record
class Flow:
    """``a -> b -> c``, two steps or more."""

    steps: tuple[Expr, ...]
    span: Span = _span()


@record
class Via:
    """``backbone via connection``."""

    subject: Expr
    connection: Expr
    span: Span = _span()


@record
class By:
    """``... by rule``."""

    subject: Expr
    rule: Expr
    span: Span = _span()


@record
class With:
    """``... with (neuron = PLIF)``."""

    subject: Expr
    settings: tuple[Arg, ...]
    span: Span = _span()


Expr = Union[
    Name, Word, Number, String, Call, At, Range, Each, Binary, Unary, IfElse, Flow, Via, By, With
]  # fmt: skip


@record
class Define:
    """``name = value`` or ``name[i] = value``."""

    name: str
    index: Expr | None
    value: Expr
    span: Span = _span()
    name_span: Span = _span()


@record
class State:
    """``state u = 0.0`` in a neuron."""

    name: str
    value: Expr
    span: Span = _span()
    name_span: Span = _span()


@record
class Group:
    """``phase full { ... }`` or ``augment { ... }`` in a recipe."""

    kind: str
    name: str | None
    body: tuple[Stmt, ...]
    span: Span = _span()
    name_span: Span = _span()  # place of the name, or of the kind if there is no name


Stmt = Union[Define, State, Group]


@record
class Param:
    name: str
    default: Expr | None
    span: Span = _span()
    name_span: Span = _span()


@record
class Declaration:
    """``KIND name(params) = value { body }``; value, body or both.

    ``value { body }`` is a variant: the named declaration with the settings of the body changed.
    """

    kind: str
    name: str
    params: tuple[Param, ...]
    value: Expr | None
    body: tuple[Stmt, ...] | None
    span: Span = _span()
    name_span: Span = _span()


@record
class UseName:
    id: str
    span: Span = _span()


@record
class Use:
    """``use std``, ``use zoo.vit``, ``use "file.danet"``, each with or without ``(names)``.

    ``names`` is None if everything is imported.
    """

    module: str
    is_path: bool
    names: tuple[UseName, ...] | None
    span: Span = _span()


@record
class Comment:
    text: str  # from # to the end of the line, without trailing spaces
    span: Span = _span()


@record
class Lost:
    """The name of a statement or declaration that could not be parsed.

    ``kind`` is that of a declaration; empty for statements.
    """

    kind: str
    name: str
    span: Span = _span()
    name_span: Span = _span()


@record
class Program:
    """A file with its declarations, comments, and the names that are ``lost`` because of errors."""

    items: tuple[Use | Declaration, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False, repr=False)
    lost: tuple[Lost, ...] = field(default=(), compare=False, repr=False)
    span: Span = _span()

    @property
    def uses(self) -> tuple[Use, ...]:
        return tuple(item for item in self.items if isinstance(item, Use))

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        return tuple(item for item in self.items if isinstance(item, Declaration))


N = TypeVar("N", bound="Node")
Node = Union[Expr, Arg, Stmt, Param, Declaration, UseName, Use, Program]
_FIELDS = {kind: tuple(item.name for item in fields(kind)) for kind in get_args(Node)}


def called(expr: Expr | None) -> Name | None:
    """Return the name of ``LIF`` and of ``LIF(tau = 3)``; None for other expressions."""
    name = expr.function if isinstance(expr, Call) else expr
    return name if isinstance(name, Name) else None


def children(node: Node) -> Iterator[Node]:
    """Iterate over the children of a node, in the order of the text."""
    for name in _FIELDS[type(node)]:
        value = getattr(node, name)
        for child in value if isinstance(value, tuple) else (value,):
            if hasattr(child, "span") and not isinstance(child, Comment | Lost):
                yield child


def walk(node: Node) -> Iterator[Node]:
    """Iterate over a node and its descendants, in the order of the text."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(list(children(current))))


def variables(node: Node) -> set[str]:
    """Return the variables of each `for` in a tree."""
    return {item.variable for item in walk(node) if isinstance(item, Each)}


def with_names(
    node: N, change: Callable[[Any], Expr], kind: type = Name, *, functions: bool = True
) -> N:
    """Return a tree with each name changed; without ``functions`` the names of calls stay.

    Another ``kind`` of nodes is changed in their place, and what they contain is left to ``change``.
    """
    if isinstance(node, kind):
        return change(node)  # type: ignore[return-value]
    changes: dict[str, Any] = {}
    for name in _FIELDS[type(node)]:
        value = getattr(node, name)
        if isinstance(value, tuple):
            changes[name] = tuple(with_names(it, change, kind, functions=functions) for it in value)
        elif hasattr(value, "span") and (functions or name != "function"):
            changes[name] = with_names(value, change, kind, functions=functions)
    return replace(node, **changes)
