"""Forward methods of a standalone model, with short variable names and loops over blocks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest

from danetc.compiler.emit.names import free, singular, variable
from danetc.compiler.emit.python.text import child, constant, indented, method, sequence, signature
from danetc.compiler.emit.scopes import LoopUnit, Path, Step
from danetc.compiler.ir.at_node import same_for_all
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import TorchFunction, TorchModule
from danetc.dsl.record import record

_SIGNS: Mapping[str, str] = {
    "operator.add": "+",
    "operator.sub": "-",
    "operator.mul": "*",
    "operator.truediv": "/",
}
_AFFINE = "danetc.runtime.layers.time.affine"
_MEAN = "torch.ops.danetc.mean_over_time"
_BLOCK = re.compile(r"\b(self(?:\.\w+)*)\[(\d+)\]")
_NAME = re.compile(r"[A-Za-z_]\w*")

Write = Callable[[Sequence[str]], str]


@record
class Statement:
    """Values and the expression that makes them, written for the texts of its operands."""

    targets: tuple[int, ...]
    operands: tuple[int, ...]
    write: Write
    name: str
    infix: bool = False
    call: bool = False
    plain: bool = False  # short, reads its operand once, and is not a block of a list
    joined: int | None = None  # the dimension of a concatenation


@record(eq=False)
class ForwardWriter:
    """Writes the statements of scopes.

    ``functions`` gives the name of a function of the file and its parameters. ``reserved`` are
    names of the file that no variable may have. ``repeats`` is True for a neuron that varies and
    whose input does not.
    """

    graph: Graph
    calls: Mapping[int, TorchModule | TorchFunction]
    functions: Callable[[str], tuple[str, tuple[str, ...]]]
    repeats: Callable[[Node], bool]
    reserved: Collection[str]

    def write(
        self,
        steps: Sequence[Step],
        depth: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        lengths: Mapping[str, int],
    ) -> tuple[list[str], list[str]]:
        """Return the parameters and the lines of the forward method of a scope.

        The path of the scope has ``depth`` names. ``lengths`` are those of its lists of blocks, by
        the expressions that read them.
        """
        names: dict[int, str] = {}
        for id in inputs:
            base = "x" if len(inputs) == 1 else variable(self.graph[id].name)
            names[id] = free(base, lambda text: text in self.reserved or text in names.values())
        parameters = [names[id] for id in inputs]
        statements = _accumulated([self._statement(step, depth) for step in steps])

        def from_end(block: re.Match[str]) -> str:
            is_last = 0 < int(block[2]) == lengths.get(block[1], 0) - 1
            return f"{block[1]}[-1]" if is_last else block[0]

        lines = _rolled(self._lines(statements, names, outputs), lengths)
        lines = [_BLOCK.sub(from_end, line) for line in lines]
        result = sequence(names[id] for id in outputs) or "None"
        if lines and lines[-1].startswith(f"{result} = ") and len(outputs) == 1:
            lines[-1] = f"return {lines[-1].removeprefix(f'{result} = ')}"
            return parameters, lines
        return parameters, [*lines, f"return {result}"]

    def _statement(self, step: Step, depth: int) -> Statement:
        unit, taken, made = step
        statement = partial(Statement, tuple(made), tuple(taken))
        if isinstance(unit, Node):
            label = variable(unit.name)
            target = self.calls[unit.id]
            if isinstance(target, TorchFunction):
                return statement(
                    self._function(unit, target),
                    label,
                    infix=target.target in _SIGNS and len(taken) == 2,
                    plain=target.target not in (_AFFINE, *_SIGNS) and not target.as_list,
                    joined=int(str(target.kwargs["dim"])) if target.target == "torch.cat" else None,
                )
            module = access((*unit.scope, unit.name), depth)
            if not self.repeats(unit):
                return statement(_call(module), label, call=True, plain=True)
            steps = self.graph.steps
            rank = len(unit.value.shape) + bool(self.graph.program(unit).inputs)
            return statement(
                lambda x: (
                    f"{module}({x[0]} if {x[0]}.dim() == {rank + 2} "
                    f"else {x[0]}.expand({steps}, *{x[0]}.shape))"
                ),
                label,
                call=True,
            )
        if isinstance(unit, LoopUnit):
            label = unit.name if len(made) > 1 else self.graph[made[0]].name
            return statement(_call(f"self.{unit.name}"), variable(label), call=True)
        plain = not unit.path[-1].isdecimal()
        write = _call(access(unit.path, depth))
        return statement(write, variable(unit.local), call=True, plain=plain)

    def _function(self, node: Node, function: TorchFunction) -> Write:
        target = function.target
        before, after = map(constant, function.before), map(constant, function.args)
        given = [*before, *(f"\0{place}\0" for place in range(len(node.inputs))), *after]
        keywords = [f"{key}={constant(value)}" for key, value in function.kwargs.items()]
        if target == _AFFINE:
            form = f"{given[1]} * {given[0]} + {given[2]}"
        elif target in _SIGNS:
            form = f" {_SIGNS[target]} ".join(given)
        elif target == _MEAN and all(item.value.varies for item in self.graph.inputs_of(node)):
            form = f"{given[0]}.mean(0)"
        else:
            helper, parameters = self.functions(target)
            if function.as_list:
                operands = sequence(given[len(function.before) :][: len(node.inputs)])
                form = f"{helper}({sequence([f'[{operands}]', *keywords])})"
            elif function.fold:
                form = given[0]
                for item in given[1:]:
                    form = f"{helper}({form}, {item})"
            else:
                count = len(node.inputs)
                labels = [f"{label}=" if i >= count else "" for i, label in enumerate(parameters)]
                pairs = zip_longest(labels[: len(given)], given, fillvalue="")
                form = f"{helper}({sequence([*(a + b for a, b in pairs), *keywords])})"
        return lambda operands: re.sub(r"\0(\d+)\0", lambda hole: operands[int(hole[1])], form)

    def expression(self, node: Node, operands: Sequence[str], depth: int) -> str:
        """The value of a node, for the texts of its operands."""
        return self._statement((node, node.inputs, (node.id,)), depth).write(operands)

    def _lines(
        self, statements: Sequence[Statement], names: dict[int, str], outputs: Sequence[int]
    ) -> list[str]:
        """Return the statements as text. Names of variables that are no longer needed are reused."""
        last = {id: index for index, item in enumerate(statements) for id in item.operands}
        last.update(dict.fromkeys(outputs, len(statements)))
        live = {id for id in names if id in last}
        uses = Counter(id for item in statements for id in item.operands)
        within = _inlined(statements, uses, outputs)
        inline: dict[int, str] = {}
        lines: list[str] = []
        for index, item in enumerate(statements):
            value = item.write([inline.get(id) or names[id] for id in item.operands])
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
            targets = sequence(names[id] for id in item.targets)
            lines.append(f"{targets} = {value}" if targets else value)
        return lines


def access(path: Path, depth: int) -> str:
    """Return the expression that reads a module in a scope with a path of ``depth`` names."""
    result = "self"
    for part in path[depth:]:
        result = child(result, part)
    return result


def _call(function: str) -> Write:
    return lambda operands: f"{function}({sequence(operands)})"


def _cat(dim: int) -> Write:
    return lambda operands: f"torch.cat([{sequence(operands)}], dim={dim})"


def _inlined(
    statements: Sequence[Statement], uses: Mapping[int, int], outputs: Sequence[int]
) -> set[int]:
    """The statements that are written where their value is read, in the next statement.

    These are calls in an infix expression, and layers that take what the layer before gives.
    """
    found: set[int] = set()
    run: list[int] = []
    for index, item in enumerate(statements):
        if item.infix:
            operands = [*item.operands]
            for at in reversed(run):  # in the order in which Python evaluates operands
                target = statements[at].targets[0]
                if target not in operands:
                    break
                operands = operands[: operands.index(target)]
                found.add(at)
        elif run and item.plain and item.operands == (before := statements[run[-1]]).targets:
            found |= {index - 1} if before.plain and index - 2 not in found else set()
        single = len(item.targets) == 1 and item.targets[0] not in outputs
        single = single and uses[item.targets[0]] == 1 and (item.call or item.plain)
        run = [*run, index] if single else []
    return found


def _accumulated(statements: Sequence[Statement]) -> list[Statement]:
    """Write a concatenation that extends an earlier one as a concatenation of that and the rest.

    In a dense stage each block reads the concatenation of all values before it.
    """
    found: list[Statement] = []
    earlier: dict[object, int] = {}
    for item in statements:
        if item.joined is not None:
            keys = {end: (item.joined, item.operands[:end]) for end in range(2, len(item.operands))}
            end = max((end for end, key in keys.items() if key in earlier), default=0)
            earlier[item.joined, item.operands] = item.targets[0]
            if end:
                operands = (earlier[keys[end]], *item.operands[end:])
                item = replace(item, operands=operands, write=_cat(item.joined), infix=True)
        found.append(item)
    return found


# -- loops over blocks ----------------------------------------------------------------------------


def _rolled(statements: Sequence[str], lengths: Mapping[str, int]) -> list[str]:
    """The statements, with runs that differ only in the number of a block as loops."""
    lines: list[str] = []
    names = {name for line in statements for name in _NAME.findall(line)}
    index = 0
    while index < len(statements):
        repeats, period = max(
            ((_repeats(statements[index:], period, lengths), period) for period in (1, 2, 3)),
            key=lambda item: item[0] * item[1],
        )
        if not repeats:
            lines.append(statements[index])
            index += 1
            continue
        body = statements[index : index + period]
        _, holder, first = _pattern(body)
        item = free(variable(singular(holder.rpartition(".")[2])), names.__contains__)
        end = first + repeats - lengths[holder]
        part = f"{holder}[{first or ''}:{end or ''}]" if first or end else holder
        lines.append(f"for {item} in {part}:")
        lines += indented(_BLOCK.sub(item, line) for line in body)
        index += repeats * period
    return lines


def _pattern(body: Sequence[str]) -> tuple[str, str, int]:
    """Statements with a hole for the one block that they index, its list and its number."""
    text = "\n".join(body)
    places = {*_BLOCK.findall(text)}
    if len(places) != 1:
        return "", "", 0
    ((holder, number),) = places
    return _BLOCK.sub(r"\1[...]", text), holder, int(number)


def _repeats(statements: Sequence[str], period: int, lengths: Mapping[str, int]) -> int:
    """The number of times that ``period`` statements repeat, each time with the next block."""
    pattern, holder, first = _pattern(statements[:period])
    if not pattern or holder not in lengths:
        return 0
    count = 1
    while _pattern(statements[count * period :][:period]) == (pattern, holder, first + count):
        count += 1
    # the middle of three blocks is a loop, as in longer stages, which then share the class
    is_middle = (period, first, lengths[holder]) == (1, 1, 3)
    return count if count > 1 or is_middle else 0


# -- loops over time ------------------------------------------------------------------------------


def loop_method(
    writer: ForwardWriter, step: Step, stepping: Callable[[int], bool], depth: int
) -> list[str]:
    """Write the method of a loop over time, which takes and returns values [T, N, ...].

    ``stepping`` is True for the nodes whose layers carry a state.
    """
    graph = writer.graph
    unit, taken, made = step
    assert isinstance(unit, LoopUnit)
    members = unit.members
    used = {*writer.reserved, "self", "torch", "nn", "t", "steps"}

    def claim(base: str) -> str:
        used.add(found := free(variable(base), used.__contains__))
        return found

    inputs = {id: claim("x" if len(taken) == 1 else graph[id].name) for id in taken}
    names = {id: claim(graph[id].name) for id in members}
    outputs = {id: claim(f"{names[id]}_seq") for id in made}
    carries = [id for id in members if id in graph.carries]
    states = {id: claim(f"{names[id]}_state") for id in members if stepping(id)}
    queues = {id: claim(f"{names[id]}s") for id in carries if graph[id].attrs["steps"] != 1}

    texts = dict(names)  # of values within a step
    for id, label in inputs.items():
        static = f" if {label}.dim() == {len(graph[id].value.shape) + 2} else {label}"
        texts[id] = f"{label}[t]{'' if graph[id].value.varies else static}"
    shared = same_for_all(graph)
    first = next(id for id in taken if id not in shared)
    rank, x = len(graph[first].value.shape), inputs[first]
    steps = f"len({x}) if {x}.dim() == {rank + 2} else {graph.steps}"
    varying = [label for id, label in inputs.items() if graph[id].value.varies]
    if varying:
        steps = f"len({varying[0]})"
    lines = []
    for id in carries:
        shape = [f"{x}.shape[{-rank - 1}]", *map(str, graph[id].value.shape)]
        zeros = f"{x}.new_zeros({sequence(shape)})"
        count = graph[id].attrs["steps"]
        lines.append(
            f"{queues[id]} = [{zeros}] * {count}" if id in queues else f"{names[id]} = {zeros}"
        )
    lines += [f"{label} = None" for label in states.values()]
    lines += [f"{label} = []" for label in outputs.values()]
    lines.append(f"for t in range({steps}):")
    body = [f"{names[id]} = {label}.pop(0)" for id, label in queues.items()]
    for id in members:
        if id in graph.carries:
            continue
        node = graph[id]
        operands = [texts[i] for i in node.inputs]
        if isinstance(writer.calls[id], TorchFunction):
            operands = [f"({text})" if " if " in text else text for text in operands]
        if id in states:
            layer, values = access((*node.scope, node.name), depth), sequence(operands)
            call = f"step({values}" if node.op == "neuron" else f"advance([{values}]"
            body.append(f"{names[id]}, {states[id]} = {layer}.{call}, {states[id]})")
        else:
            body.append(f"{names[id]} = {writer.expression(node, operands, depth)}")
    body += [f"{label}.append({names[id]})" for id, label in outputs.items()]
    now = [id for id in carries if id not in queues]
    if now:
        sources = sequence(names[graph.carries[id]] for id in now)
        body.append(f"{sequence(names[id] for id in now)} = {sources}")
    body += [f"{label}.append({names[graph.carries[id]]})" for id, label in queues.items()]
    lines += indented(body)
    lines.append(f"return {sequence(f'torch.stack({label})' for label in outputs.values())}")
    result = "Tensor" if len(made) == 1 else f"tuple[{sequence(['Tensor'] * len(made))}]"
    head = signature(unit.name, [f"{label}: Tensor" for label in inputs.values()], result)
    doc = '"""A loop over time, for values that depend on their own earlier values."""'
    return method(head, [doc, *lines])
