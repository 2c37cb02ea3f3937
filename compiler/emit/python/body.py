"""The forward method of a scope: statements in a good order, short names, loops over blocks."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

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
from danetc.compiler.emit.scopes import ScopeTree, Unit
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import TorchFunction, TorchModule

_SIGNS: Mapping[str, ast.operator] = {
    "operator.add": ast.Add(),
    "operator.sub": ast.Sub(),
    "operator.mul": ast.Mult(),
    "operator.truediv": ast.Div(),
}
_AFFINE = "danetc.runtime.layers.time.affine"
_MEAN = "torch.ops.danetc.mean_over_time"

Path = tuple[str, ...]
Flow = tuple[list[int], list[int]]


@dataclass(slots=True)
class _Statement:
    """Values made, and the expression that makes them."""

    targets: tuple[int, ...]
    operands: tuple[int, ...]
    write: Callable[[Sequence[ast.expr]], ast.expr]
    name: str
    infix: bool = False
    call: bool = False
    plain: bool = False  # short, reads its operand once, and is no block of a list


@dataclass(slots=True)
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


class Body:
    """Writes the statements of one scope. ``access`` gives what reads a module by its path.

    ``functions`` gives the name of a function of the prelude, and its parameters.
    """

    def __init__(
        self,
        graph: Graph,
        calls: Mapping[int, TorchModule | TorchFunction],
        functions: Callable[[str], tuple[str, tuple[str, ...]]],
        access: Callable[[Path], ast.expr],
        repeated: Callable[[Node], bool],
    ) -> None:
        self.graph = graph
        self.calls = calls
        self.functions = functions
        self.access = access
        self.repeated = repeated
        self.helpers: set[str] = set()  # what the scope calls by a name that is no variable's

    def write(
        self,
        units: Sequence[Unit],
        flows: Mapping[Path, Flow],
        inputs: Sequence[int],
        outputs: Sequence[int],
        lengths: dict[str, int],
    ) -> Forward:
        """The forward method. ``flows`` are what scopes take and give."""
        statements = [self._statement(unit, flows) for unit in units]
        names: dict[int, str] = {}
        for id in inputs:
            base = "x" if len(inputs) == 1 else variable(self.graph[id].name)
            names[id] = free(base, lambda text: text in self.helpers or text in names.values())
        parameters = [names[id] for id in inputs]
        written = self._written(statements, names, outputs)
        return Forward(parameters, written, [names[id] for id in outputs], lengths)

    def _statement(self, unit: Unit, flows: Mapping[Path, Flow]) -> _Statement:
        if isinstance(unit, ScopeTree):
            taken, made = flows[unit.path]
            module = self.access(unit.path)
            return _Statement(
                tuple(made),
                tuple(taken),
                lambda operands: call(module, *operands),
                variable(unit.local),
                call=True,
                plain=not unit.path[-1].isdecimal(),
            )
        target = self.calls[unit.id]
        label = variable(unit.name)
        if isinstance(target, TorchModule):
            module = self.access((*unit.scope, unit.name))
            write = lambda operands: call(module, *operands)  # noqa: E731
            repeated = self.repeated(unit)
            if repeated:
                each = self._per_step(unit)
                write = lambda operands: call(module, template(each, x=operands[0]))  # noqa: E731
            return _Statement((unit.id,), unit.inputs, write, label, call=True, plain=not repeated)
        if not self._is_written_out(unit, target):
            self.helpers.add(self.functions(target.target)[0])
        return _Statement(
            (unit.id,),
            unit.inputs,
            lambda operands: self._function(unit, target, operands),
            label,
            infix=target.target in _SIGNS and len(unit.inputs) == 2,
            plain=target.target not in (_AFFINE, *_SIGNS) and not target.as_list,
        )

    def _per_step(self, node: Node) -> str:
        """A value without time at each time step; a sequence stays as it is."""
        steps, rank = self.graph.steps, len(node.value.shape)
        return f"x if x.dim() == {rank + 2} else x.expand({steps}, *x.shape)"

    def _is_written_out(self, node: Node, function: TorchFunction) -> bool:
        """Whether an operation is written by signs, without a function of the prelude."""
        varies = all(operand.value.varies for operand in self.graph.inputs_of(node))
        return function.target in (_AFFINE, *_SIGNS) or (function.target == _MEAN and varies)

    def _function(
        self, node: Node, function: TorchFunction, operands: Sequence[ast.expr]
    ) -> ast.expr:
        given = [*map(constant, function.before), *operands, *map(constant, function.args)]
        target = function.target
        if target == _AFFINE:
            return template("a * x + b", x=given[0], a=given[1], b=given[2])
        if target in _SIGNS:
            result = given[0]
            for item in given[1:]:
                result = ast.BinOp(result, _SIGNS[target], item)
            return result
        if self._is_written_out(node, function):
            return method(given[0], "mean", constant(0))
        helper, parameters = self.functions(target)
        keywords = {key: constant(value) for key, value in function.kwargs.items()}
        if function.as_list:
            return call(name(helper), ast.List(list(operands), ast.Load()), **keywords)
        if function.fold:
            result = operands[0]
            for item in operands[1:]:
                result = call(name(helper), result, item)
            return result
        labels = parameters[len(operands) : len(given)]
        named = dict(zip(labels, given[len(operands) :], strict=False))
        return call(name(helper), *given[: len(given) - len(named)], **named, **keywords)

    def _written(
        self, statements: Sequence[_Statement], names: dict[int, str], outputs: Sequence[int]
    ) -> list[ast.stmt]:
        """The statements. A variable that is no longer needed gives its name away."""
        last = {id: index for index, item in enumerate(statements) for id in item.operands}
        last.update(dict.fromkeys(outputs, len(statements)))
        live = {id for id in names if id in last}
        within = _inlined(statements, outputs)
        inline: dict[int, ast.expr] = {}
        written: list[ast.stmt] = []
        for index, item in enumerate(statements):
            value = item.write([inline.get(id) or name(names[id]) for id in item.operands])
            if index in within:
                inline[item.targets[0]] = value
                continue
            live = {id for id in live if last[id] > index}
            used = {names[id] for id in live} | self.helpers
            made = [id for id in item.targets if id in last]
            for id in made:
                alone = len(made) == 1 and not live
                base = "x" if alone else item.name
                if not alone and len(item.targets) > 1:
                    base = variable(self.graph[id].name)
                names[id] = free(base, used.__contains__)
                used.add(names[id])
            for id in set(item.targets) - set(made):  # nobody reads it
                names[id] = free("_", used.__contains__)
            live |= set(made)
            written.append(assign([names[id] for id in item.targets], value))
        return written


def _inlined(statements: Sequence[_Statement], outputs: Sequence[int]) -> set[int]:
    """The statements that are written where their value is read, right behind them.

    These are calls between signs, and layers of which one takes what the other gives.
    """
    uses = Counter(id for item in statements for id in item.operands)
    found: set[int] = set()
    run: list[int] = []
    for index, item in enumerate(statements):
        if item.infix:
            operands = [*item.operands]
            for at in reversed(run):  # in the order in which Python computes operands
                target = statements[at].targets[0]
                if target not in operands:
                    break
                operands = operands[: operands.index(target)]
                found.add(at)
        elif run and item.plain and item.operands == statements[run[-1]].targets:
            before = statements[run[-1]]
            if before.plain and index - 2 not in found:
                found.add(index - 1)
        single = len(item.targets) == 1 and item.targets[0] not in outputs
        single = single and uses[item.targets[0]] == 1 and (item.call or item.plain)
        run = [*run, index] if single else []
    return found


# -- loops ----------------------------------------------------------------------------------------


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
        lines.append(loop(block, _slice(holder, first, first + repeats, lengths), replaced))
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
                item,
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
