"""Forms: the equations of a rule, over inputs and outputs of the blocks of a stage.

``in[i] = 0.5 * sum(in[0], out[0 .. i-1])`` is
``Scaled(0.5, Join("sum", (InputOf(0), OutputOf(0), OutputOf(1))))`` for block 2. A form is a value at
one time step; ``Delayed`` refers to earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, assert_never

from danetc.dsl.record import record


@record
class StageInput:
    """``in``: input of the stage."""


@record
class InputOf:
    """``in[block]``: input of a block."""

    block: int


@record
class OutputOf:
    """``out[block]``: output of a block."""

    block: int


@record
class Join:
    """Join of two or more values in order. ``name`` is the ``Op.rule`` of an operation."""

    name: str
    parts: tuple[Form, ...]


@record
class Scaled:
    """A value times a number, or times learnt numbers: the path of their node below the stage."""

    factor: float | str
    value: Form

    @property
    def parts(self) -> tuple[Form, ...]:
        return (self.value,)


@record
class Delayed:
    """Value some steps before, 0 in the first steps. It may belong to a later block."""

    steps: int
    value: Form


Source: TypeAlias = StageInput | InputOf | OutputOf | Delayed
"""Value that is known before a form is computed."""
Made: TypeAlias = Join | Scaled
Form: TypeAlias = Source | Made

SOURCES = (StageInput, InputOf, OutputOf, Delayed)
"""The classes of ``Source``, for ``isinstance``: a union there takes three times as long."""


def sources(form: Form) -> Iterator[Source]:
    """Yield the sources of a form in order, with repetitions."""
    if isinstance(form, SOURCES):
        yield form
        return
    for part in form.parts:
        yield from sources(part)


def spread(form: Form, steps: int = 0) -> Form:
    """Return an equal form in which only single values are delayed.

    This holds because joins and products of zeros are 0.
    """
    match form:
        case Delayed(more, value):
            return spread(value, steps + more)
        case Join(name, parts):
            return Join(name, tuple(spread(part, steps) for part in parts))
        case Scaled(factor, value):
            return Scaled(factor, spread(value, steps))
        case StageInput() | InputOf() | OutputOf():
            return Delayed(steps, form) if steps else form
    assert_never(form)


def shown(form: Form, *, cut: bool = True) -> str:
    """Return the text of a form: for messages, where long joins are ``cut``, or complete."""

    def text(part: Form) -> str:
        return shown(part, cut=cut)

    match form:
        case StageInput():
            return "in"
        case InputOf(block):
            return f"in[{block}]"
        case OutputOf(block):
            return f"out[{block}]"
        case Delayed(steps, value):
            return f"({text(value)} -> delay({steps}))"
        case Scaled(str(name), value):
            return f"learn({'...' if cut else name}) * {text(value)}"
        case Scaled(factor, value):
            return f"{f'{factor:g}' if cut else repr(factor)} * {text(value)}"
        case Join(name, parts):
            left_out = ", ..." if cut and len(parts) > 3 else ""
            return f"{name}({', '.join(map(text, parts[:3] if cut else parts))}{left_out})"
    assert_never(form)
