"""What a rule's equations say, as forms: values made of a stage's ports.

``in[i] = 0.5 * sum(in[0], out[0 .. i-1])`` says of block 2
``Scaled(0.5, Join("sum", (Input(0), Output(0), Output(1))))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar


@dataclass(frozen=True, slots=True)
class Entry:
    """``in``: what the stage takes."""


@dataclass(frozen=True, slots=True)
class Input:
    """``in[block]``: what a block takes."""

    block: int


@dataclass(frozen=True, slots=True)
class Output:
    """``out[block]``: what a block gives."""

    block: int


@dataclass(frozen=True, slots=True)
class Join:
    """Two values or more, joined in order. ``name`` is that of an operation's row (``Op.rule``)."""

    name: str
    parts: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Scaled:
    """A value times a number."""

    factor: float
    value: Form

    @property
    def parts(self) -> tuple[Form, ...]:
        return (self.value,)


@dataclass(frozen=True, slots=True)
class Learnt:
    """A value times learnt numbers. ``name`` is the path of their node below the stage."""

    name: str
    value: Form

    @property
    def parts(self) -> tuple[Form, ...]:
        return (self.value,)


Port: TypeAlias = Entry | Input | Output
Made: TypeAlias = Join | Scaled | Learnt
Form: TypeAlias = Port | Made

PORTS = (Entry, Input, Output)
"""The classes of ``Port``, for ``isinstance``: a union there takes three times as long."""

T = TypeVar("T")


def folded(form: Form, port: Callable[[Port], T], made: Callable[[Made, list[T]], T]) -> T:
    """What a form comes to, from its ports up, parts from left to right.

    ``port`` says it of a port; ``made`` of what is made of parts, of which it gets what they came to.
    A form is nested no deeper than an expression of the language.
    """
    if isinstance(form, PORTS):
        return port(form)
    parts = [
        port(part) if isinstance(part, PORTS) else folded(part, port, made) for part in form.parts
    ]
    return made(form, parts)


def ports(form: Form) -> Iterator[Port]:
    """The ports that a form reads, in order, each as often as it is read."""
    if isinstance(form, PORTS):
        yield form
        return
    for part in form.parts:
        yield from ports(part)
