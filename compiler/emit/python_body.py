"""The forward method of a scope: statements in a good order, short names, loops over blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from danetc.compiler.emit.python_names import free, literal, singular, variable
from danetc.compiler.emit.scopes import ScopeTree, Unit
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import Function, Module

_SIGNS = {
    "operator.add": "+",
    "operator.sub": "-",
    "operator.mul": "*",
    "operator.truediv": "/",
}
_AFFINE = "danetc.runtime.layers.time.affine"
_JOIN = re.compile(r"(\w+) = torch\.cat\(\[([\w, ]+)\], dim=(-\d)\)", re.ASCII)
_CALL = re.compile(r"(\w+) = (self[\w.]*)\[(\d+)\]\((\w+)\)", re.ASCII)
_INDEXED = re.compile(r"(self(?:\.[A-Za-z_][A-Za-z0-9_]*)+)\[(\d+)\]", re.ASCII)


@dataclass(slots=True)
class _Statement:
    """Values made, and the expression that makes them."""

    targets: tuple[int, ...]
    operands: tuple[int, ...]
    write: Callable[[Sequence[str]], str]
    name: str
    infix: bool = False
    call: bool = False


class Body:
    """Writes the statements of one scope.

    ``access`` gives the text that reads a module by its path.
    """

    def __init__(
        self,
        graph: Graph,
        calls: Mapping[int, Module | Function],
        functions: Callable[[str], tuple[str, tuple[str, ...]]],
        access: Callable[[tuple[str, ...]], str],
        lengths: Mapping[str, int],
    ) -> None:
        self.graph = graph
        self.calls = calls
        self.functions = functions
        self.access = access
        self.lengths = lengths
        self.helpers: set[str] = set()  # what the scope calls by a name that is no variable's

    def write(
        self,
        units: Sequence[Unit],
        flows: Mapping[tuple[str, ...], tuple[list[int], list[int]]],
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> tuple[list[str], list[str]]:
        """The parameters of forward and its lines. ``flows`` are what scopes take and give."""
        statements = [self._statement(unit, flows) for unit in units]
        names: dict[int, str] = {}
        for id in inputs:
            base = "x" if len(inputs) == 1 else variable(self.graph[id].name)
            names[id] = free(base, lambda name: name in self.helpers or name in names.values())
        parameters = [names[id] for id in inputs]
        texts = self._texts(statements, names, outputs)
        lines = _rolled(_gathered(texts, self.lengths), self.lengths)
        result = ", ".join(names[id] for id in outputs)
        if lines and lines[-1].startswith(f"{result} = ") and len(outputs) == 1:
            lines[-1] = f"return {lines[-1].removeprefix(f'{result} = ')}"
        else:
            lines.append(f"return {result}" if outputs else "return None")
        return parameters, lines

    def _statement(
        self, unit: Unit, flows: Mapping[tuple[str, ...], tuple[list[int], list[int]]]
    ) -> _Statement:
        if isinstance(unit, ScopeTree):
            taken, made = flows[unit.path]
            target = self.access(unit.path)
            return _Statement(
                tuple(made),
                tuple(taken),
                lambda operands: f"{target}({', '.join(operands)})",
                variable(unit.local),
                call=True,
            )
        call = self.calls[unit.id]
        name = variable(unit.name)
        if isinstance(call, Module):
            path = self.access((*unit.scope, unit.name))
            return _Statement(
                (unit.id,),
                unit.inputs,
                lambda operands: f"{path}({', '.join(operands)})",
                name,
                call=True,
            )
        function = call
        if not _is_written_out(function):
            self.helpers.add(self.functions(function.target)[0])
        return _Statement(
            (unit.id,),
            unit.inputs,
            lambda operands: self._function(function, operands),
            name,
            infix=function.target in _SIGNS and len(unit.inputs) == 2,
        )

    def _function(self, call: Function, operands: Sequence[str]) -> str:
        given = [*map(literal, call.before), *operands, *map(literal, call.args)]
        if call.target == _AFFINE:
            return f"{given[1]} * {given[0]} + {given[2]}"
        if (sign := _SIGNS.get(call.target)) is not None:
            return f" {sign} ".join(given)
        name, parameters = self.functions(call.target)
        for at, label in enumerate(parameters[len(operands) : len(given)], len(operands)):
            given[at] = f"{label}={given[at]}"
        keywords = [f"{key}={literal(value)}" for key, value in call.kwargs.items()]
        if call.as_list:
            together = f"[{', '.join(operands)}]"
            return f"{name}({', '.join([together, *keywords])})"
        if not call.fold:
            return f"{name}({', '.join([*given, *keywords])})"
        text = operands[0]
        for operand in operands[1:]:
            text = f"{name}({text}, {operand})"
        return text

    def _texts(
        self, statements: Sequence[_Statement], names: dict[int, str], outputs: Sequence[int]
    ) -> list[str]:
        """The statements as text. A variable that is no longer needed gives its name away."""
        last = {id: index for index, item in enumerate(statements) for id in item.operands}
        uses: dict[int, int] = {}
        for item in statements:
            for id in item.operands:
                uses[id] = uses.get(id, 0) + 1
        last.update(dict.fromkeys(outputs, len(statements)))
        live = {id for id in names if id in last}
        inline: dict[int, str] = {}
        texts: list[str] = []
        for index, item in enumerate(statements):
            text = item.write([inline.get(id) or names[id] for id in item.operands])
            live = {id for id in live if last[id] > index}
            following = statements[index + 1] if index + 1 < len(statements) else None
            if (
                item.call
                and following is not None
                and following.infix
                and len(item.targets) == 1
                and item.targets[0] in following.operands
                and uses[item.targets[0]] == 1
                and item.targets[0] not in outputs
            ):
                inline[item.targets[0]] = text
                continue
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
            targets = ", ".join(names[id] for id in item.targets)
            texts.append(f"{targets} = {text}" if targets else text)
        return texts


def _is_written_out(call: Function) -> bool:
    """Whether an operation is written by signs, without a call."""
    return call.target == _AFFINE or call.target in _SIGNS


def _gathered(texts: Sequence[str], lengths: Mapping[str, int]) -> list[str]:
    """The texts, with blocks that read all values before them, side by side, as one loop."""
    for start, text in enumerate(texts):
        first = _JOIN.fullmatch(text)
        if first is None:
            continue
        values, end, block = first[2].split(", "), start, None
        while end + 1 < len(texts):
            join, call = _JOIN.fullmatch(texts[end]), _CALL.fullmatch(texts[end + 1])
            if join is None or call is None or (join[2].split(", "), join[3]) != (values, first[3]):
                break
            number = int(call[3])
            if call[4] != join[1] or block not in (None, (call[2], number - 1)):
                break
            block = call[2], number
            values.append(call[1])
            end += 2
        repeats = (end - start) // 2
        joined = f"torch.cat([{', '.join(values)}], dim={first[3]})"
        inner = {*values, *(text.partition(" = ")[0] for text in texts[start:end])}
        rest = [text.replace(joined, "") for text in texts[end:]]
        if repeats < 3 or block is None or _reads(rest, inner):
            continue
        holder, last = block
        used = set(re.findall(r"\w+", " ".join(texts)))
        features = free("features", used.__contains__)
        item = free(singular(holder.rpartition(".")[2]), used.__contains__)
        part = _slice(holder, last - repeats + 1, last + 1, lengths)
        cat = f"torch.cat({features}, dim={first[3]})"
        return [
            *texts[:start],
            f"{features} = [{first[2]}]",
            f"for {item} in {part}:",
            f"    {features}.append({item}({cat}))",
            *_gathered([text.replace(joined, cat) for text in texts[end:]], lengths),
        ]
    return list(texts)


def _reads(texts: Sequence[str], names: set[str]) -> bool:
    """Whether one of the variables is read before it is set anew."""
    left = set(names)
    for text in texts:
        targets, _, expression = text.partition(" = ")
        if left & set(re.findall(r"(?<![\w.])\w+", expression)):
            return True
        left -= set(targets.split(", "))
    return False


def _slice(holder: str, low: int, high: int, lengths: Mapping[str, int]) -> str:
    """``self.blocks[1:]``: a part of a list, or the list where it is all of it."""
    start, end = str(low or ""), str(high if high != lengths[holder] else "")
    return f"{holder}[{start}:{end}]" if start or end else holder


def _rolled(texts: Sequence[str], lengths: Mapping[str, int]) -> list[str]:
    """The texts, with runs that differ only in the number of a block as loops."""
    lines: list[str] = []
    index = 0
    while index < len(texts):
        found = max(
            ((_repeats(texts, index, period), period) for period in (1, 2, 3)),
            key=lambda item: item[0] * item[1],
        )
        repeats, period = found
        if repeats < 2:
            lines.append(texts[index])
            index += 1
            continue
        body = texts[index : index + period]
        match = _INDEXED.search("\n".join(body))
        assert match is not None
        holder, first = match[1], int(match[2])
        attribute = singular(holder.rpartition(".")[2])
        used = set(re.findall(r"\w+", " ".join(body).replace(match[0], "")))
        item = free(attribute, used.__contains__)
        part = _slice(holder, first, first + repeats, lengths)
        lines.append(f"for {item} in {part}:")
        lines += [f"    {line.replace(match[0], item)}" for line in body]
        index += repeats * period
    return lines


def _repeats(texts: Sequence[str], start: int, period: int) -> int:
    """How often ``period`` statements come in a row, each time with the next block."""
    places = [_INDEXED.findall(text) for text in texts[start : start + period]]
    found = {place for part in places for place in part}
    if len(found) != 1:
        return 0
    ((holder, first),) = found
    count = 1
    while True:
        here = start + count * period
        block = texts[here : here + period]
        before, now = f"{holder}[{first}]", f"{holder}[{int(first) + count}]"
        same = [text.replace(before, now) for text in texts[start : start + period]]
        if len(block) < period or list(block) != same:
            return count
        count += 1
