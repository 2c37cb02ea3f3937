"""A block as one box of text: a line for each weighted layer, and the equation that joins them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from danetc.compiler.draw.sheet import SMALL, Box, Rows, TextCell, fitted
from danetc.compiler.draw.theme import Role
from danetc.compiler.draw.units import Parts
from danetc.compiler.draw.words import clean, interblock, layer, neurons, sign, tooltip
from danetc.compiler.ir.graph import Block, Graph, Node
from danetc.compiler.ir.ops import OPS

_ARROW, _SUM, _PRODUCT, _ATOM = range(4)  # precedence, lowest first
_BINDS = {"+": _SUM, "−": _SUM, "×": _PRODUCT, "/": _PRODUCT}
_LONGEST = 200  # most characters of a part; a value that is read twice is written twice

Text = tuple[str, int]


class BlockEquations:
    """Equations of a block; ``connection`` is True if a connection wires it."""

    def __init__(self, graph: Graph, block: Block, nodes: Sequence[Node], connection: bool) -> None:
        self.graph = graph
        self.block = block
        self.nodes = {node.id: node for node in nodes}
        self.input = "shortcut" if connection else "in"
        self.inputs = {id for id, _ in block.feeds}
        self.read: dict[tuple[str, ...], dict[int, None]] = {}  # inputs of each scope
        for node in nodes:
            for operand in node.inputs:
                source = self.nodes.get(operand)
                for end in range(len(block.scope) + 1, len(node.scope) + 1):
                    outer = node.scope[:end]
                    if source is None or not _within(source.scope, outer):
                        self.read.setdefault(outer, {})[operand] = None
        self.made: dict[int, Text] = {}
        for node in nodes:
            text, binds = self._equation(node)
            self.made[node.id] = (clean(text, _LONGEST), binds)

    def output(self) -> str:
        """Return the equation of the block's output."""
        return self._operand(self.block.output, self.block.scope)[0]

    def of(self, node: Node) -> str:
        """Return the equation of a node in its scope."""
        return self.made[node.id][0]

    def _equation(self, node: Node) -> Text:
        row = OPS[node.op]
        operands = [self._operand(id, node.scope) for id in row.reads(node.inputs)]
        joined = sign(node)
        if not operands:
            return node.name, _ATOM
        if row.equation is not None:
            return row.equation(node.attrs, _held(operands[0], _PRODUCT))
        if joined in _BINDS:
            binds = _BINDS[joined]
            first, *others = operands
            words = [_held(first, binds), *(_held(other, binds + 1) for other in others)]
            return f" {joined} ".join(words), binds
        if joined or len(operands) > 1:
            return f"{joined or node.op}({', '.join(text for text, _ in operands)})", _ATOM
        return _flow(operands[0], layer(node))

    def _operand(self, id: int, scope: tuple[str, ...]) -> Text:
        """Return a value by its name in a scope, or by its equation if it has none."""
        if id in self.inputs:
            return self.input, _ATOM
        if id not in self.nodes:
            return self.graph[id].path, _ATOM
        node = self.nodes[id]
        if node.scope == scope:
            return self.made[id]
        if _within(scope, node.scope):
            return "in", _ATOM  # the input of a nested block
        common = next(i for i, name in enumerate(node.scope) if scope[i : i + 1] != (name,))
        name = node.scope[common]
        inner = node.scope[: common + 1]
        sources = list(self.read.get(inner, ()))
        if inner[:-1] == scope and len(sources) == 1:
            source = self.nodes.get(sources[0])
            if source is not None and source.scope == scope:  # an unnamed input of a block
                return _flow(self.made[source.id], name)
        return name, _ATOM


def _within(scope: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    return scope[: len(outer)] == outer


def _held(text: Text, binds: int) -> str:
    return text[0] if text[1] >= binds else f"({text[0]})"


def _flow(text: Text, layer: str) -> Text:
    return f"{text[0] if text[1] == _ARROW else _held(text, _ATOM)} → {layer}", _ARROW


_LONGEST_SCOPE = 16
_LONGEST_EQUATION = 72
_MOST_IN_COLUMNS = 4


class BlockBoxes:
    """Boxes of a network's blocks."""

    def __init__(self, of: Parts) -> None:
        self.of = of
        self.fires = neurons(of.graph)
        self.between = interblock(of.graph)

    def box(self, number: int, index: int) -> Box:
        """Return the box of block ``index`` of stage ``number``."""
        graph = self.of.graph
        stage = graph.stages[number]
        block, nodes = stage.blocks[index], self.of.blocks[number, index]
        equations = BlockEquations(graph, block, nodes, bool(stage.connection))
        own = [node for node in nodes if node.scope == block.scope]
        joined = any(_is_formula(node) for node in own)
        rows: list[tuple[TextCell, ...]] = [(TextCell(f"block {index}", bold=True, wide=True),)]
        listed = [node for node in nodes if not joined or node.scope != block.scope]
        rows += self._layer_rows(listed, len(block.scope), equations)
        if joined:
            kinds = {node.id for node in own}
            fill: Role = (
                "interblock" if kinds & self.between else "neuron" if kinds & self.fires else "none"
            )
            text = clean(equations.output(), _LONGEST_EQUATION)
            rows.append((TextCell(text, fill=fill, wide=True),))
        message = [".".join(block.scope), *map(tooltip, nodes)]
        return fitted(
            Box(f"s{number}b{index}", tuple(rows), shape="round", tooltip="\n".join(message))
        )

    def _layer_rows(self, nodes: Iterable[Node], depth: int, equations: BlockEquations) -> Rows:
        """Return a row for each weighted layer with the layers after it, aligned in columns.

        ``depth`` is the length of the block's scope. Rows of scopes other than the branch's are
        labelled; everything without weights is an equation or a flow of layers.
        """
        lines = _lines(nodes, depth)
        regular = [line for _, line in lines if _is_regular(line)]
        named = any(scope not in ("branch", "") for scope, line in lines if _is_regular(line))
        lead = max(map(_weighted, regular), default=0)
        found: list[tuple[TextCell, ...]] = []
        before = ""
        for scope, line in lines:
            label = _tail(scope) if scope not in (before, "branch") else ""
            before = scope
            if _is_regular(line):
                drawn = [layer_cell(node, node.id in self.fires) for node in line]
                cells = (*[TextCell("")] * (lead - _weighted(line)), *drawn)
                found.append((TextCell(label, ink="quiet", size=SMALL), *cells) if named else cells)
                continue
            if any(map(_is_formula, line)):
                text = (
                    f"{_tail(scope)} = {equations.of(line[-1])}"
                    if scope
                    else equations.of(line[-1])
                )
            else:
                text = " → ".join(map(layer, line))
                text = f"{label}: {text}" if label else text
            found.append((TextCell(clean(text, _LONGEST_EQUATION), wide=True),))
        return tuple(found)


def layer_cell(node: Node, fires: bool, *, wide: bool = False) -> TextCell:
    """Return the cell of a layer, highlighted if it consists of neurons (``fires``)."""
    if fires:
        return TextCell(layer(node), bold=True, fill="neuron", wide=wide)
    return TextCell(layer(node), wide=wide)


def _lines(nodes: Iterable[Node], depth: int) -> list[tuple[str, list[Node]]]:
    """Group layers by scope, with a new line where the first operation of the scope recurs."""
    lines: list[tuple[str, list[Node]]] = []
    first: dict[str, str] = {}
    for node in nodes:
        scope = ".".join(node.scope[depth:])
        again = bool(lines) and lines[-1][0] == scope
        if again and not (
            node.op == first[scope] and any(OPS[n.op].weighted for n in lines[-1][1])
        ):
            lines[-1][1].append(node)
        else:
            first.setdefault(scope, node.op)
            lines.append((scope, [node]))
    return lines


def _is_formula(node: Node) -> bool:
    """True if a node is written with operators instead of as a layer after an arrow."""
    return len(node.inputs) > 1 or OPS[node.op].equation is not None


def _is_regular(line: Sequence[Node]) -> bool:
    """True if a line has one weighted layer, so that it is aligned in columns."""
    return sum(OPS[node.op].weighted for node in line) == 1 and len(line) <= _MOST_IN_COLUMNS


def _weighted(line: Sequence[Node]) -> int:
    """Return the index of a line's weighted layer, by which lines are aligned."""
    return next((i for i, node in enumerate(line) if OPS[node.op].weighted), 0)


def _tail(scope: str) -> str:
    """Return the last names of a scope, which distinguish it."""
    text = clean(scope, 200)
    names = text.split(".")
    while len(text) > _LONGEST_SCOPE and len(names) > 1:
        names = names[1:]
        text = f"…{'.'.join(names)}"
    return clean(text, _LONGEST_SCOPE)
