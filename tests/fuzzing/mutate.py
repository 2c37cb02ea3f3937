"""Small changes of a spec, as made by a typing error or a new idea."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import print_program
from danetc.dsl.syntax.source import SourceFile
from tests.fuzzing.dice import Dice

Path = tuple[tuple[str, int | None], ...]
"""The path to a node: fields, each with an index if it holds several nodes."""


def mutated(text: str, dice: Dice, changes: int = 1) -> str | None:
    """The text with some nodes changed, or None if there is no change or no valid text."""
    program = parsed(text)
    if program is None:
        return None
    before = program
    for _ in range(changes):
        program = _changed(program, dice)
    try:
        return print_program(program) if program != before else None
    except SpecError:
        return None


def parsed(text: str) -> s.Program | None:
    reporter = Reporter()
    program = parse(SourceFile("<text>", text), reporter)
    return None if reporter.diagnostics else program


def places(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All nodes, each with its path."""
    yield path, node
    for item in fields(node):
        value = getattr(node, item.name)
        several = isinstance(value, tuple)
        for index, child in enumerate(value if several else (value,)):
            if isinstance(child, s.Node):
                yield from places(child, (*path, (item.name, index if several else None)))


def put(node: Any, path: Path, new: Any) -> Any:
    """The tree with one node replaced; if ``new`` is None, the node is removed from its list."""
    if not path:
        return new
    (name, index), *rest = path
    value = getattr(node, name)
    if index is None:
        return replace(node, **{name: put(value, tuple(rest), new)})
    child = put(value[index], tuple(rest), new)
    kept = (*value[:index], *(() if child is None else (child,)), *value[index + 1 :])
    if isinstance(node, s.Flow) and len(kept) == 1:
        return kept[0]
    return replace(node, **{name: kept})


def _changed(program: s.Program, dice: Dice) -> s.Program:
    found = list(places(program))
    others = [node for _, node in found if isinstance(node, s.Name | s.Call | s.Binary)]
    for _ in range(20):
        path, node = dice.choice(found)
        new = dice.choice(_changes(node, dice, others) or [node])
        if new != node:
            result: s.Program = put(program, path, new)
            return result
    return program


OPERATORS = (("+", "-", "*", "/"), ("<", "<=", ">", ">=", "==", "!="), ("and", "or"))


def _changes(node: Any, dice: Dice, others: list[Any]) -> list[Any]:
    """Possible replacements of a node; ``others`` are expressions of the same text."""
    match node:
        case s.Number(value=int(value)):
            return [s.Number(str(n)) for n in (max(0, value - 1), value + 1, 1, 2, 3, 2 * value)]
        case s.Number(value=value):
            return [s.Number(text) for text in ("0.5", "1.0", "0.0", "2.0", f"{value * 1.5:.3f}")]
        case s.Name():
            return [other for other in others if isinstance(other, s.Name)]
        case s.Binary(op, left, right):
            (same,) = (operators for operators in OPERATORS if op in operators)
            swapped = replace(node, left=right, right=left)
            return [replace(node, op=dice.choice(same)), swapped, left, right]
        case s.IfElse(then, _, otherwise):
            return [replace(node, then=otherwise, otherwise=then), then, otherwise]
        case s.Range(low, high):
            return [replace(node, low=high), replace(node, high=low), low]
        case s.Unary(operand=inner) | s.Via(inner) | s.By(inner) | s.With(inner):
            return [inner]
        case s.Flow(steps):
            place, other = dice.randrange(len(steps)), dice.randrange(len(steps))
            before, after = steps[:place], steps[place + 1 :]
            swapped = put(node, (("steps", place),), steps[other])
            return [
                replace(node, steps=(*before, steps[place], *steps[place:])),
                replace(node, steps=(*before, dice.choice(others), *after)),
                put(node, (("steps", place),), None),
                put(swapped, (("steps", other),), steps[place]),
            ]
        case s.Call(_, args) if args:
            less = put(node, (("args", dice.randrange(len(args))),), None)
            return [less, less, replace(node, args=(*args, dice.choice(args))), dice.choice(others)]
        case s.Call():
            return [dice.choice(others)]
        case s.Define():
            return [replace(node, value=dice.choice(others))]
        case s.Param():
            return [
                replace(node, default=new) for new in (None, s.Number("2"), dice.choice(others))
            ]
    return []


# -- reducing a failure ------------------------------------------------------------------------------


def minimised(text: str, fails: Callable[[str], bool]) -> str:
    """A smaller spec that also fails: parts are removed while it does, in up to 200 tries."""
    program = parsed(text)
    candidates = iter(()) if program is None else _smaller(program)
    for _ in range(200):
        if (smaller := next(candidates, None)) is None:
            break
        with suppress(SpecError):
            shorter = print_program(smaller)
            if fails(shorter):
                text, candidates = shorter, _smaller(smaller)
    return text


def _smaller(program: s.Program) -> Iterator[s.Program]:
    """Programs that lack one node of a list, or have a part of an expression in its place."""
    for path, node in list(places(program)):
        if path and path[-1][1] is not None:
            yield put(program, path, None)
        if isinstance(node, s.Expr) and path:
            inner = [c.value if isinstance(c, s.Arg) else c for c in s.children(node)]
            if isinstance(node, s.Number):
                inner = [s.Number("1")] if node.value not in (0, 1, 2) else []
            yield from (put(program, path, part) for part in inner if isinstance(part, s.Expr))
