"""What a rule's equations say, as forms: values made of what the blocks of a stage take and give.

``in[i] = 0.5 * sum(in[0], out[0 .. i-1])`` says of block 2
``Scaled(0.5, Join("sum", (InputOf(0), OutputOf(0), OutputOf(1))))``. A form says what a value is at one
step; ``Delayed`` leads to earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar, assert_never

from danetc.dsl.record import record


@record
class StageInput:
    """``in``: what the stage takes."""


@record
class InputOf:
    """``in[block]``: what a block takes."""

    block: int


@record
class OutputOf:
    """``out[block]``: what a block gives."""

    block: int


@record
class Join:
    """Two values or more, joined in order. ``name`` is that of an operation's row (``Op.rule``)."""

    name: str
    parts: tuple[Form, ...]


@record
class Scaled:
    """A value times a number."""

    factor: float
    value: Form

    @property
    def parts(self) -> tuple[Form, ...]:
        return (self.value,)


@record
class ScaledByLearnt:
    """A value times learnt numbers. ``name`` is the path of their node below the stage."""

    name: str
    value: Form

    @property
    def parts(self) -> tuple[Form, ...]:
        return (self.value,)


@record
class Delayed:
    """What a value was some steps before; 0 at the first of them. It may be a later block's."""

    steps: int
    value: Form


Source: TypeAlias = StageInput | InputOf | OutputOf | Delayed
"""What is there when a form is computed: at a step, values of earlier steps too."""
Made: TypeAlias = Join | Scaled | ScaledByLearnt
Form: TypeAlias = Source | Made

SOURCES = (StageInput, InputOf, OutputOf, Delayed)
"""The classes of ``Source``, for ``isinstance``: a union there takes three times as long."""

T = TypeVar("T")


def folded(form: Form, source: Callable[[Source], T], made: Callable[[Made, list[T]], T]) -> T:
    """What a form comes to, from its sources up, parts from left to right.

    ``source`` says it of a source; ``made`` of what is made of parts, of which it gets what they
    came to. A form is nested no deeper than an expression of the language.
    """
    if isinstance(form, SOURCES):
        return source(form)
    parts = [
        source(part) if isinstance(part, SOURCES) else folded(part, source, made)
        for part in form.parts
    ]
    return made(form, parts)


def sources(form: Form) -> Iterator[Source]:
    """What a form is made of, in order, each as often as it is read."""
    if isinstance(form, SOURCES):
        yield form
        return
    for part in form.parts:
        yield from sources(part)


def spread(form: Form, steps: int = 0) -> Form:
    """The same numbers, with delays of single values alone: a join of what was is what the join was.

    Each join and product gives 0 where all that it takes is 0.
    """
    match form:
        case Delayed(more, value):
            return spread(value, steps + more)
        case Join(name, parts):
            return Join(name, tuple(spread(part, steps) for part in parts))
        case Scaled(factor, value):
            return Scaled(factor, spread(value, steps))
        case ScaledByLearnt(name, value):
            return ScaledByLearnt(name, spread(value, steps))
        case StageInput() | InputOf() | OutputOf():
            return Delayed(steps, form) if steps else form
    assert_never(form)


def shown(form: Form) -> str:
    """A form as people read it, cut where it is long."""
    match form:
        case StageInput():
            return "in"
        case InputOf(block):
            return f"in[{block}]"
        case OutputOf(block):
            return f"out[{block}]"
        case Delayed(steps, value):
            return f"({shown(value)} -> delay({steps}))"
        case Scaled(factor, value):
            return f"{factor:g} * {shown(value)}"
        case ScaledByLearnt(_, value):
            return f"learn(...) * {shown(value)}"
        case Join(name, parts):
            inner = ", ".join(map(shown, parts[:3]))
            return f"{name}({inner}{', ...' if len(parts) > 3 else ''})"
    assert_never(form)
