"""Flows that would not fit on a line: what is repeated gets a name, and so do parts of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from danetc.compiler.importing.trees import flow, shown
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.layout import INDENT, WIDTH

Wire = Callable[[s.Expr], s.Expr]
NAMES = 10
"""Characters of a line that its name and its sign take, as far as they are aligned."""


def fits(value: s.Expr) -> bool:
    return INDENT + NAMES + len(" = ") + len(shown(value)) <= WIDTH


def lines(
    name: str, steps: Sequence[s.Expr], wire: Wire = lambda value: value
) -> Iterator[s.Define]:
    """The definition of ``name`` as a flow, after those of parts that it is made of.

    ``wire`` puts a part inside of its connection, where it has stages.
    """
    whole = wire(flow(*steps))
    if fits(whole) or len(steps) < 2:
        yield s.Define(name, None, whole)
        return
    left = [*steps]
    for count, part in enumerate(_repeated(left), 1):
        repeated = s.Name(f"{name}_part{count if count > 1 else ''}")
        left = _replaced(left, part, repeated)
        yield s.Define(repeated.id, None, wire(flow(*part)))
    own = [step if isinstance(step, s.Name) else wire(step) for step in left]
    if left != [*steps] and fits(flow(*own)):
        yield s.Define(name, None, flow(*own))
        return
    groups = [own[:1]] if left[0] == s.Name("in") else []
    rest = own[len(groups) :]
    while rest:
        size = len(rest)
        while size > 1 and not fits(flow(*rest[:size])):
            size -= 1
        groups.append(rest[:size])
        rest = rest[size:]
    names = []
    for count, group in enumerate(groups, 1):
        if len(group) == 1:
            names += group
            continue
        names.append(s.Name(f"{name}_{count}"))
        yield s.Define(f"{name}_{count}", None, flow(*group))
    yield s.Define(name, None, flow(*names))


def _repeated(steps: Sequence[s.Expr]) -> list[list[s.Expr]]:
    """The longest steps that stand there twice in a row, if there are any."""
    for size in range(len(steps) // 2, 1, -1):
        for start in range(len(steps) - 2 * size + 1):
            part = list(steps[start : start + size])
            if part == list(steps[start + size : start + 2 * size]):
                return [_smallest(part)]
    return []


def _smallest(part: list[s.Expr]) -> list[s.Expr]:
    """What a part is a repetition of."""
    for size in range(2, len(part)):
        if len(part) % size == 0 and part == part[:size] * (len(part) // size):
            return part[:size]
    return part


def _replaced(steps: Sequence[s.Expr], part: Sequence[s.Expr], name: s.Name) -> list[s.Expr]:
    found: list[s.Expr] = []
    at = 0
    while at < len(steps):
        if list(steps[at : at + len(part)]) == list(part):
            found.append(name)
            at += len(part)
        else:
            found.append(steps[at])
            at += 1
    return found
