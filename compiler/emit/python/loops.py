"""Statements of a forward method as loops, where they differ in the number of a block alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

from danetc.compiler.emit.python.names import free, singular, variable
from danetc.compiler.emit.python.trees import (
    assign,
    call,
    constant,
    loop,
    method,
    name,
    sequence,
    template,
)
from danetc.dsl.record import record


@record(frozen=False)
class Forward:
    """Statements before they are rolled into loops, and the lists of modules that they index."""

    parameters: list[str]
    statements: list[ast.stmt]
    results: list[str]
    lengths: dict[str, int]

    def loops(self) -> set[str]:
        """What stands in the loops that do not begin with the first block."""
        found: set[str] = set()
        _rolled(self.statements, self.lengths, frozenset(), found)
        return found

    def body(self, known: frozenset[str]) -> list[ast.stmt]:
        """The statements, those in a row as loops; what is ``known`` is one even if alone."""
        statements = _gathered(self.statements, self.lengths)
        lines = [
            _from_the_end(item, self.lengths) for item in _rolled(statements, self.lengths, known)
        ]
        match lines:
            case [*_, ast.Assign(targets=[ast.Name(id=target)], value=value)] if self.results == [
                target
            ]:
                lines[-1] = ast.Return(value)
            case _:
                value = (
                    sequence([name(item) for item in self.results])
                    if self.results
                    else constant(None)
                )
                lines.append(ast.Return(value))
        return lines


def _indexed(node: ast.AST) -> set[tuple[str, int]]:
    """The blocks that an expression reads by number: the list as text, and the number."""
    return {
        (ast.unparse(part.value), part.slice.value)
        for part in ast.walk(node)
        if isinstance(part, ast.Subscript)
        and isinstance(part.slice, ast.Constant)
        and isinstance(part.slice.value, int)
    }


class _Indexed(ast.NodeTransformer):
    """Another expression for each block that is read by number."""

    def __init__(self, change: Callable[[ast.Subscript, str, int], ast.expr]) -> None:
        self.change = change

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
            return self.change(node, ast.unparse(node.value), node.slice.value)
        return node


def _copy(node: ast.stmt, change: Callable[[ast.Subscript, str, int], ast.expr]) -> ast.stmt:
    return _Indexed(change).visit(deepcopy(node))  # type: ignore[no-any-return]


def _always(node: ast.expr) -> Callable[[ast.Subscript, str, int], ast.expr]:
    return lambda part, holder, number: node


def _from_the_end(statement: ast.stmt, lengths: Mapping[str, int]) -> ast.stmt:
    """The last block of a list as number -1: stages of several lengths have one text then."""

    def change(node: ast.Subscript, holder: str, number: int) -> ast.expr:
        last = number > 0 and number == lengths.get(holder, 0) - 1
        return ast.Subscript(node.value, constant(-1), ast.Load()) if last else node

    return _copy(statement, change)


def _slice(holder: str, low: int, high: int, lengths: Mapping[str, int]) -> ast.expr:
    """``self.blocks[1:-1]``: a part of a list, or the list where it is all of it."""
    start = constant(low) if low else None
    end = constant(high - lengths[holder]) if high != lengths[holder] else None
    base = ast.parse(holder, mode="eval").body
    if start is None and end is None:
        return base
    return ast.Subscript(base, ast.Slice(start, end), ast.Load())


def _names(nodes: Sequence[ast.stmt]) -> set[str]:
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _item_of(holder: str) -> str:
    """A name for one block of a list: ``block`` of ``self.blocks``."""
    return variable(singular(holder.rpartition(".")[2]))


def _rolled(
    statements: Sequence[ast.stmt],
    lengths: Mapping[str, int],
    known: frozenset[str],
    found: set[str] | None = None,
) -> list[ast.stmt]:
    """The statements, with runs that differ only in the number of a block as loops."""
    lines: list[ast.stmt] = []
    index = 0
    while index < len(statements):
        repeats, period = max(
            ((_repeats(statements, index, period, lengths, known), period) for period in (1, 2, 3)),
            key=lambda item: item[0] * item[1],
        )
        if not repeats:
            lines.append(statements[index])
            index += 1
            continue
        body = statements[index : index + period]
        ((holder, first),) = set().union(*map(_indexed, body))
        if found is not None and first:
            found.add(_pattern(body)[0])
        block = free(_item_of(holder), _names(body).__contains__)
        each = name(block)
        replaced = [_copy(line, _always(each)) for line in body]
        lines.append(loop([block], _slice(holder, first, first + repeats, lengths), replaced))
        index += repeats * period
    return lines


def _pattern(body: Sequence[ast.stmt]) -> tuple[str, str, int]:
    """Statements with a hole for the one block that they read by number, the list, the number."""
    places = set().union(*map(_indexed, body)) if body else set()
    if len(places) != 1:
        return "", "", 0
    ((holder, number),) = places
    holed = [_copy(line, lambda node, holder, number: name(f"{holder}[...]")) for line in body]
    return "\n".join(map(ast.unparse, holed)), holder, number


def _repeats(
    statements: Sequence[ast.stmt],
    start: int,
    period: int,
    lengths: Mapping[str, int],
    known: frozenset[str],
) -> int:
    """How often ``period`` statements come in a row, each time with the next block."""
    pattern, holder, first = _pattern(statements[start : start + period])
    if not pattern or holder not in lengths:
        return 0
    count = 1
    while True:
        here = start + count * period
        block = statements[here : here + period]
        if len(block) < period or _pattern(block) != (pattern, holder, first + count):
            break
        count += 1
    return count if count > 1 or pattern in known else 0


def _gathered(statements: Sequence[ast.stmt], lengths: Mapping[str, int]) -> list[ast.stmt]:
    """The statements, with blocks that read all values before them, side by side, as one loop."""
    for start in range(len(statements)):
        first = _join(statements[start])
        if first is None:
            continue
        _, values, dim = first
        values, end, block = [*values], start, None
        while end + 1 < len(statements):
            join, step = _join(statements[end]), _step(statements[end + 1])
            if join is None or step is None or join[1:] != (values, dim):
                break
            target, holder, number, operand = step
            if operand != join[0] or block not in (None, (holder, number - 1)):
                break
            block = holder, number
            values = [*values, target]
            end += 2
        repeats = (end - start) // 2
        if repeats < 3 or block is None or block[0] not in lengths:
            continue
        holder, last = block
        joined = ast.unparse(_cat(ast.List([name(item) for item in values], ast.Load()), dim))
        used = _names(statements)
        features = free("features", used.__contains__)
        item = free(_item_of(holder), used.__contains__)
        together = _cat(name(features), dim)
        rest = [_Joined(joined, together).visit(line) for line in map(_same, statements[end:])]
        made = {*values, *(text for line in statements[start:end] for text in _targets(line))}
        if _reads(rest, made):
            continue
        return [
            *statements[:start],
            assign([features], ast.List([name(text) for text in first[1]], ast.Load())),
            loop(
                [item],
                _slice(holder, last - repeats + 1, last + 1, lengths),
                [ast.Expr(method(name(features), "append", call(name(item), together)))],
            ),
            *_gathered(rest, lengths),
        ]
    return list(statements)


def _same(node: ast.stmt) -> ast.stmt:
    return _copy(node, lambda part, holder, number: part)


class _Joined(ast.NodeTransformer):
    def __init__(self, text: str, other: ast.expr) -> None:
        self.text, self.other = text, other

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        return self.other if ast.unparse(node) == self.text else node


def _cat(values: ast.expr, dim: str) -> ast.expr:
    return template(f"torch.cat(values, dim={dim})", values=values)


def _join(statement: ast.stmt) -> tuple[str, list[str], str] | None:
    """The target, operands and dimension of ``x = torch.cat([a, b], dim=-3)``."""
    match statement:
        case ast.Assign(
            targets=[ast.Name(id=target)],
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id="torch"), attr="cat"),
                args=[ast.List(elts=items)],
                keywords=[ast.keyword(value=dim)],
            ),
        ) if all(isinstance(item, ast.Name) for item in items):
            return target, [ast.unparse(item) for item in items], ast.unparse(dim)
    return None


def _step(statement: ast.stmt) -> tuple[str, str, int, str] | None:
    """The target, list, number and operand of ``y = self.blocks[3](x)``."""
    match statement:
        case ast.Assign(
            targets=[ast.Name(id=target)],
            value=ast.Call(
                func=ast.Subscript(value=holder, slice=ast.Constant(value=int(number))),
                args=[ast.Name(id=operand)],
                keywords=[],
            ),
        ):
            return target, ast.unparse(holder), number, operand
    return None


def _targets(statement: ast.stmt) -> set[str]:
    return {
        part.id
        for part in ast.walk(statement)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


def _reads(statements: Sequence[ast.stmt], names: set[str]) -> bool:
    """Whether one of the variables is read before it is set anew."""
    left = set(names)
    for line in statements:
        made = _targets(line)
        if left & {
            part.id
            for part in ast.walk(line)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
        }:
            return True
        left -= made
    return False
