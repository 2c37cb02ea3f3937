"""The forward method of a scope: statements in a good order, under short names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from danetc.compiler.emit.python.loops import Forward
from danetc.compiler.emit.python.names import free, variable
from danetc.compiler.emit.python.trees import (
    assign,
    call,
    constant,
    method,
    name,
    template,
)
from danetc.compiler.emit.scopes import LoopUnit, ScopeTree, Unit
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import TorchFunction, TorchModule
from danetc.dsl.record import record

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


@record(frozen=False)
class _Statement:
    """Values made, and the expression that makes them."""

    targets: tuple[int, ...]
    operands: tuple[int, ...]
    write: Callable[[Sequence[ast.expr]], ast.expr]
    name: str
    infix: bool = False
    call: bool = False
    plain: bool = False  # short, reads its operand once, and is no block of a list


class Body:
    """Writes the statements of one scope. ``access`` gives what reads a module by its path.

    ``functions`` gives the name of a function of the prelude, and its parameters. ``reserved`` are
    the names of the whole file, which no variable may have.
    """

    def __init__(
        self,
        graph: Graph,
        calls: Mapping[int, TorchModule | TorchFunction],
        functions: Callable[[str], tuple[str, tuple[str, ...]]],
        access: Callable[[Path], ast.expr],
        repeated: Callable[[Node], bool],
        reserved: Collection[str],
    ) -> None:
        self.graph = graph
        self.calls = calls
        self.functions = functions
        self.access = access
        self.repeated = repeated
        self.reserved = reserved

    def write(
        self,
        units: Sequence[Unit],
        flows: Mapping[object, Flow],
        inputs: Sequence[int],
        outputs: Sequence[int],
        lengths: dict[str, int],
    ) -> Forward:
        """The forward method. ``flows`` are what scopes take and give."""
        statements = [self.statement(unit, flows) for unit in units]
        names: dict[int, str] = {}
        for id in inputs:
            base = "x" if len(inputs) == 1 else variable(self.graph[id].name)
            names[id] = free(base, lambda text: text in self.reserved or text in names.values())
        parameters = [names[id] for id in inputs]
        written = self._written(statements, names, outputs)
        return Forward(parameters, written, [names[id] for id in outputs], lengths)

    def statement(self, unit: Unit, flows: Mapping[object, Flow]) -> _Statement:
        """What a unit of the scope makes."""
        if isinstance(unit, LoopUnit):
            taken, made = flows[unit.path, unit.name]
            run = name(f"self.{unit.name}")
            return _Statement(
                tuple(made),
                tuple(taken),
                lambda operands: call(run, *operands),
                variable(unit.name if len(made) > 1 else self.graph[made[0]].name),
                call=True,
            )
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
        several = bool(self.graph.program(node).inputs)  # in a last dimension
        rank = len(node.value.shape) + several
        return f"x if x.dim() == {rank + 2} else x.expand({self.graph.steps}, *x.shape)"

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
            used = {names[id] for id in live}.union(self.reserved)
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
