"""What the symbols of a neuron's equations stand for: parameters, learnt numbers, the surrogate."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.compiler.draw.equations import Term, scalars, short_name, slope
from danetc.compiler.draw.formula import Formula, row, word
from danetc.compiler.draw.notation import equation, symbol, value_at
from danetc.compiler.draw.sheet import SMALL, Box, Sheet, caption, fitted
from danetc.compiler.draw.words import clean
from danetc.dsl.neuron.program import (
    Learnable,
    NeuronProgram,
    SurrogateProgram,
    called_with,
    parameters_of,
)

_GAP = 4.0
_INDENT = 5.0  # of a caption's text
_BESIDE = 10.0  # between a value and what it is


def values(program: NeuronProgram, prefix: str) -> Sheet:
    """Each symbol with its value, and with its name in the program where that is another.

    A parameter that the equations do not hold (one that chose between them) has no symbol here.
    """
    boxes: list[Box] = []
    described: list[tuple[Box, str]] = []
    y = 0.0
    for place, (formula, words) in enumerate(_lines(program)):
        box = fitted(Box(f"{prefix}value{place}", shape="plain", formula=formula))
        boxes.append(box.from_corner(_INDENT, y))
        y += box.height + _GAP
        if words:
            described.append((boxes[-1], words))
    left = max((box.right for box, _ in described), default=0.0) + _BESIDE
    for box, words in described:
        about = caption(f"{box.key}about", clean(words, 64), size=SMALL, ink="quiet")
        boxes.append(about.from_corner(left, box.y - about.height / 2))
    right = max((box.right for box in boxes), default=0.0)
    return Sheet(right, max(0.0, y - _GAP), tuple(boxes))


def _lines(program: NeuronProgram) -> Iterator[tuple[Formula, str]]:
    yield from _parameters(program)
    of_surrogate = () if program.surrogate is None else program.surrogate.scheduled
    for item in program.learnables:
        if item not in of_surrogate:
            yield _number(item)
    for name, term in scalars(program):
        yield _constant(symbol(name), term), ""
    if program.surrogate is not None:
        left = row([word("H′("), word("x", italic=True), word(")")])
        named, derivative = slope(program.surrogate)
        yield _constant(left, derivative), ""
        for name, term in named:
            yield _constant(symbol(name), term), ""
        yield from map(_number, of_surrogate)
        yield from _parameters(program.surrogate)


def _parameters(program: NeuronProgram | SurrogateProgram) -> Iterator[tuple[Formula, str]]:
    held = parameters_of(program)
    for name, value in program.parameters:
        if name in held:
            shown = _valued(name, str(value).lower() if isinstance(value, bool) else f"{value:.6g}")
            yield shown, name if symbol(name).text != name else ""


def _constant(left: Formula, term: Term) -> Formula:
    return equation(left, term, "t", "t − 1")


def _valued(name: str, value: str) -> Formula:
    return row([symbol(name), word(" = "), word(value.replace("-", "−"))])


def _number(item: Learnable) -> tuple[Formula, str]:
    name, value = short_name(item), f"{item.start:.4g}".replace("-", "−")
    left = value_at(name, "t") if item.per_step else symbol(name)
    return row([left, word(" = "), word(value)]), _learnt(item)


def _learnt(item: Learnable) -> str:
    """How a number is learnt: ``at the start; learnt, above 0, one a channel``."""
    if item.scheduled:
        return f"at the start; {item.scheduled} of a recipe"
    words = ["at the start; learnt"]
    if item.above is not None and item.below is not None:
        words.append(f"between {item.above:g} and {item.below:g}")
    elif item.above is not None:
        words.append(f"above {item.above:g}")
    elif item.below is not None:
        words.append(f"below {item.below:g}")
    if not item.is_scalar:
        words.append(f"one a {item.per}")
    if item.per_step:
        words.append("others at each step")
    return ", ".join(words)


def heading(program: NeuronProgram, name: str) -> tuple[str, str]:
    """The call that makes the neuron, and its surrogate's."""
    if program.surrogate is None:
        return called_with(program, name), ""
    return called_with(
        program, name
    ), f"H′ is that of the surrogate {called_with(program.surrogate)}"
