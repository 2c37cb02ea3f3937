"""Small changes of a spec: what a typing error or a new idea would make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import print_program
from danetc.dsl.syntax.source import SourceFile
from tests.fuzzing.dice import Dice

Path = tuple[tuple[str, int | None], ...]
"""The way to a node: fields, with an index where one holds several."""


def mutated(text: str, dice: Dice, changes: int = 1) -> str | None:
    """The text with some nodes changed; None where nothing was."""
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
    """All nodes, each with the way to it."""
    yield path, node
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(value, tuple):
            for index, child in enumerate(value):
                if is_dataclass(child) and not isinstance(child, s.Comment):
                    yield from places(child, (*path, (item.name, index)))
        elif is_dataclass(value) and hasattr(value, "span"):
            yield from places(value, (*path, (item.name, None)))


def put(node: Any, path: Path, new: Any) -> Any:
    """The tree with one node exchanged; ``new`` of None leaves it out of its list."""
    if not path:
        return new
    (name, index), *rest = path
    value = getattr(node, name)
    if index is None:
        return replace(node, **{name: put(value, tuple(rest), new)})
    child = put(value[index], tuple(rest), new)
    kept = (*value[:index], *(() if child is None else (child,)), *value[index + 1 :])
    return replace(node, **{name: kept})


def _changed(program: s.Program, dice: Dice) -> s.Program:
    found = list(places(program))
    names = sorted({node.id for _, node in found if isinstance(node, s.Name)})
    expressions = [node for _, node in found if isinstance(node, s.Name | s.Call | s.Binary)]
    for _ in range(20):
        path, node = dice.choice(found)
        change = _CHANGES.get(type(node))
        if change is not None and path:
            new = change(node, dice, names, expressions)
            if new is not None and new != node:
                result: s.Program = put(program, path, new)
                return result
    return program


Change = Callable[[Any, Dice, list[str], list[Any]], Any]


def _number(node: s.Number, dice: Dice, names: list[str], others: list[Any]) -> Any:
    value = node.value
    if isinstance(value, int):
        return s.Number(str(dice.choice([max(0, value - 1), value + 1, 1, 2, 3, 2 * value])))
    return s.Number(dice.choice(["0.5", "1.0", "0.0", "2.0", f"{value * 1.5:.3f}"]))


def _name(node: s.Name, dice: Dice, names: list[str], others: list[Any]) -> Any:
    return s.Name(dice.choice(names))


def _binary(node: s.Binary, dice: Dice, names: list[str], others: list[Any]) -> Any:
    kinds = [
        op
        for op in (("+", "-", "*", "/"), ("<", "<=", ">", ">=", "==", "!="), ("and", "or"))
        if node.op in op
    ]
    return dice.choice(
        [
            replace(node, op=dice.choice(kinds[0])),
            replace(node, left=node.right, right=node.left),
            node.left,
            node.right,
            replace(node, right=node.left),
        ]
    )


def _unary(node: s.Unary, dice: Dice, names: list[str], others: list[Any]) -> Any:
    return node.operand


def _if_else(node: s.IfElse, dice: Dice, names: list[str], others: list[Any]) -> Any:
    return dice.choice(
        [replace(node, then=node.otherwise, otherwise=node.then), node.then, node.otherwise]
    )


def _flow(node: s.Flow, dice: Dice, names: list[str], others: list[Any]) -> Any:
    steps = list(node.steps)
    place = dice.randrange(len(steps))
    match dice.randrange(4):
        case 0 if len(steps) > 2:
            del steps[place]
        case 1:
            steps.insert(place, steps[place])
        case 2:
            other = dice.randrange(len(steps))
            steps[place], steps[other] = steps[other], steps[place]
        case _:
            steps[place] = dice.choice(others)
    return replace(node, steps=tuple(steps))


def _call(node: s.Call, dice: Dice, names: list[str], others: list[Any]) -> Any:
    args = list(node.args)
    if args and dice.maybe(0.5):
        del args[dice.randrange(len(args))]
        return replace(node, args=tuple(args))
    if args and dice.maybe(0.3):
        return replace(node, args=(*args, dice.choice(args)))
    return dice.choice([*others, node])


def _range(node: s.Range, dice: Dice, names: list[str], others: list[Any]) -> Any:
    return dice.choice([replace(node, low=node.high), replace(node, high=node.low), node.low])


def _wrapped(node: Any, dice: Dice, names: list[str], others: list[Any]) -> Any:
    return node.subject


def _define(node: s.Define, dice: Dice, names: list[str], others: list[Any]) -> Any:
    return None if dice.maybe(0.3) else replace(node, value=dice.choice(others))


def _param(node: s.Param, dice: Dice, names: list[str], others: list[Any]) -> Any:
    return replace(node, default=dice.choice([None, s.Number("2"), dice.choice(others)]))


_CHANGES: dict[type, Change] = {
    s.Number: _number,
    s.Name: _name,
    s.Binary: _binary,
    s.Unary: _unary,
    s.IfElse: _if_else,
    s.Flow: _flow,
    s.Call: _call,
    s.Range: _range,
    s.Via: _wrapped,
    s.By: _wrapped,
    s.With: _wrapped,
    s.Define: _define,
    s.Param: _param,
}


# -- making a failure small --------------------------------------------------------------------------


def minimised(text: str, fails: Callable[[str], bool], tries: int = 200) -> str:
    """A smaller spec that fails too: parts are left out as long as it does."""
    program = parsed(text)
    if program is None:
        return text
    left, again = tries, True
    while again and left > 0:
        again = False
        for smaller in _smaller(program):
            left -= 1
            try:
                shorter = print_program(smaller)
            except SpecError:
                continue
            if fails(shorter):
                program, text, again = smaller, shorter, True
                break
            if left <= 0:
                break
    return text


def _smaller(program: s.Program) -> Iterator[s.Program]:
    """The program without a declaration, a line, a step of a flow, a part of an expression."""
    for path, node in list(places(program)):
        match node:
            case s.Declaration() | s.Define() | s.State() | s.Group() if path:
                yield put(program, path, None)
            case s.Param(_, default) if default is not None:
                yield put(program, path, None)
            case s.Flow(steps):
                for place in range(len(steps)):
                    rest = (*steps[:place], *steps[place + 1 :])
                    yield put(
                        program, path, rest[0] if len(rest) == 1 else replace(node, steps=rest)
                    )
            case s.Via(subject) | s.By(subject) | s.With(subject):
                yield put(program, path, subject)
            case s.Binary(_, left, right):
                yield put(program, path, left)
                yield put(program, path, right)
            case s.IfElse(then, _, otherwise):
                yield put(program, path, then)
                yield put(program, path, otherwise)
            case s.Unary(_, operand):
                yield put(program, path, operand)
            case s.Call(_, args):
                for place in range(len(args)):
                    yield put(
                        program, path, replace(node, args=(*args[:place], *args[place + 1 :]))
                    )
                yield from (put(program, path, arg.value) for arg in args)
            case s.Number(value) if value not in ("1", "2", "0"):
                yield put(program, path, s.Number("1"))
