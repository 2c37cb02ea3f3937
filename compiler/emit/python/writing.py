"""Constructor calls of a standalone model as expressions, lists of blocks as comprehensions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Union

from danetc.compiler.emit.python.forms import (
    CHANNELS,
    Argument,
    Fixed,
    Many,
    New,
    Numeric,
    Optional,
    Repeated,
    SizeArgument,
)
from danetc.compiler.emit.python.trees import call, constant, name, template

LATER = "\0"  # begins the name of a class that has none yet: its number follows
Column = tuple[Union[Numeric, None], ...]


def first_of(column: Column) -> Numeric | None:
    """The first number of a column, where scopes that do not ask for it have none."""
    return next((value for value in column if value is not None), None)


class Writer:
    """Writes arguments as expressions; numbers come in their order."""

    def __init__(self, values: Iterable[tuple[SizeArgument, Column, ast.expr | None]]) -> None:
        self.values = iter(values)

    def number(self) -> tuple[ast.expr, bool]:
        """The next number, and whether it can be left out."""
        number, column, expression = next(self.values)
        if expression is not None:
            return expression, False
        value = first_of(column)
        return constant(value), number.default is not None and value == number.default

    def write(self, item: Argument) -> ast.expr:
        match item:
            case SizeArgument():
                return self.number()[0]
            case Fixed():
                return constant(item.value)
            case New():
                return self.new(item)
            case Many():
                runs = [self.run(run) for run in item.runs]
                return _list(runs)
            case Optional():
                given, _ = self.number()
                module = self.new(item.item)
                if isinstance(given, ast.Constant):
                    return module
                return ast.IfExp(given, module, template("nn.Identity()"))

    def new(self, item: New) -> ast.Call:
        target = name(item.target if isinstance(item.target, str) else f"{LATER}{item.target}")
        result = ast.Call(target, [], [])
        for label, part in item.args:
            value, omitted = (
                self.number() if isinstance(part, SizeArgument) else (self.write(part), False)
            )
            if omitted:
                continue
            positional = not label or label in CHANNELS
            if positional and not result.keywords:
                result.args.append(value)
            else:
                result.keywords.append(ast.keyword(label, value))
        return result

    def run(self, run: Repeated) -> _Run:
        item = self.new(run.item)
        end, _ = self.number()
        if run.grows is None:
            return _Run(item, end, run.count.less)
        labels = [key for key, _ in run.item.args]
        count = _less(end, run.count.less)
        return _Run(_growing(item, labels, labels[run.grows], run.step, count), end, 0)


class _Run(NamedTuple):
    """One item, how many there are up to its last one, and how many of these are before it; or all
    items that grow, as a generator."""

    item: ast.Call | ast.GeneratorExp
    end: ast.expr
    less: int


def _list(runs: Sequence[_Run]) -> ast.expr:
    """``[Block(64, 128), *(Block(128, 128) for _ in range(blocks - 1))]``."""
    parts: list[ast.expr] = []
    before = ""
    for item, end, less in runs:
        text = ast.dump(item)
        if text == before:  # the first block is as those after it: all are one run
            parts.pop()
            less = 0
        before, count = text, _less(end, less)
        if isinstance(item, ast.GeneratorExp):
            parts.append(ast.Starred(item, ast.Load()))
        elif isinstance(count, ast.Constant) and _whole(count) <= 2:
            parts += [item] * _whole(count)
        else:
            generator = _generator(item, "_", call(name("range"), count))
            parts.append(ast.Starred(generator, ast.Load()))
    match parts:
        case [ast.Starred(value=only)]:
            return only
    return ast.List(parts, ast.Load())


def _less(end: ast.expr, less: int) -> ast.expr:
    if isinstance(end, ast.Constant):
        return constant(_whole(end) - less)
    return ast.BinOp(end, ast.Sub(), constant(less)) if less else end


def _generator(item: ast.expr, target: str, over: ast.expr) -> ast.GeneratorExp:
    return ast.GeneratorExp(item, [ast.comprehension(ast.Name(target, ast.Store()), over, [], 0)])


def _growing(
    item: ast.Call, labels: Sequence[str], label: str, step: int, count: ast.expr
) -> ast.GeneratorExp:
    """``(Block(channels) for channels in range(64, 256, 32))``."""
    keywords = {keyword.arg: keyword for keyword in item.keywords}
    place = sum(1 for other in labels[: labels.index(label)] if other not in keywords)
    start = keywords[label].value if label in keywords else item.args[place]
    size = label if isinstance(start, ast.Constant) else "size"
    if label in keywords:
        keywords[label].value = name(size)
    else:
        item.args[place] = name(size)
    if isinstance(start, ast.Constant) and isinstance(count, ast.Constant):
        end: ast.expr = constant(_whole(start) + step * _whole(count))
    else:
        end = ast.BinOp(start, ast.Add(), ast.BinOp(constant(step), ast.Mult(), count))
    return _generator(item, size, call(name("range"), start, end, constant(step)))


def _whole(node: ast.Constant) -> int:
    assert isinstance(node.value, int)
    return node.value
