"""A block as one box of text: a line for each weighted layer, and the equation that joins them."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.draw.sheet import SMALL, Box, TextCell, fitted
from danetc.compiler.draw.theme import Role
from danetc.compiler.draw.units import Parts
from danetc.compiler.draw.words import clean, layer, tooltip
from danetc.compiler.ir.graph import Block, Graph, Node
from danetc.compiler.ir.ops import OPS

_ARROW, _SUM, _PRODUCT, _ATOM = range(4)  # precedence, lowest first
_BINDS = {"+": _SUM, "−": _SUM, "×": _PRODUCT, "/": _PRODUCT}
_LONGEST = 200  # maximum length of a term, since a value that is used twice is written twice
_LONGEST_SCOPE = 16
_LONGEST_EQUATION = 72
_MOST_IN_COLUMNS = 4

Text = tuple[str, int]
"""The text of a value and its precedence."""


class BlockEquations:
    """Equations of a block; ``connection`` is True if a connection wires it."""

    def __init__(self, graph: Graph, block: Block, nodes: Sequence[Node], connection: bool) -> None:
        self.graph = graph
        self.nodes = {node.id: node for node in nodes}
        self.input = "shortcut" if connection else "in"
        self.inputs = {id for id, _ in block.feeds}
        self.made: dict[int, Text] = {}
        for node in nodes:
            text, binds = self._equation(node)
            self.made[node.id] = (clean(text, _LONGEST), binds)
        self.output = self._operand(block.output, block.scope)[0]

    def _equation(self, node: Node) -> Text:
        row = OPS[node.op]
        operands = [self._operand(id, node.scope) for id in row.reads(node.inputs)]
        if not operands:
            return node.name, _ATOM
        if row.equation is not None:
            return row.equation(node.attrs, _held(operands[0], _PRODUCT))
        if row.sign in _BINDS:
            binds = _BINDS[row.sign]
            first, *others = operands
            words = [_held(first, binds), *(_held(other, binds + 1) for other in others)]
            return f" {row.sign} ".join(words), binds
        if row.sign or len(operands) > 1:
            return f"{row.sign or node.op}({', '.join(text for text, _ in operands)})", _ATOM
        return _arrow(operands[0], layer(node))

    def _operand(self, id: int, scope: tuple[str, ...]) -> Text:
        """Return a value by its name in a scope, or by its equation if it has none."""
        if id in self.inputs:
            return self.input, _ATOM
        if id not in self.nodes:
            return self.graph[id].path, _ATOM
        node = self.nodes[id]
        if node.scope == scope:
            return self.made[id]
        if node.scope == scope[: len(node.scope)]:
            return "in", _ATOM  # the input of a nested block
        common = next(i for i, name in enumerate(node.scope) if scope[i : i + 1] != (name,))
        inner = node.scope[: common + 1]
        read = self._read(inner)
        source = self.nodes.get(read.pop()) if len(read) == 1 and inner[:-1] == scope else None
        if source is not None and source.scope == scope:  # the input of the inner block has no name
            return _arrow(self.made[source.id], inner[-1])
        return inner[-1], _ATOM

    def _read(self, scope: tuple[str, ...]) -> set[int]:
        """Return the values that the nodes of a scope read from outside of it."""
        own = {id for id, node in self.nodes.items() if node.scope[: len(scope)] == scope}
        return {operand for id in own for operand in self.nodes[id].inputs} - own


def _held(text: Text, binds: int) -> str:
    return text[0] if text[1] >= binds else f"({text[0]})"


def _arrow(text: Text, layer: str) -> Text:
    return f"{text[0] if text[1] == _ARROW else _held(text, _ATOM)} → {layer}", _ARROW


def block_box(of: Parts, number: int, index: int) -> Box:
    """Return the box of block ``index`` of stage ``number``."""
    stage = of.graph.stages[number]
    block, nodes = stage.blocks[index], of.blocks[number, index]
    equations = BlockEquations(of.graph, block, nodes, bool(stage.connection))
    own = [node for node in nodes if node.scope == block.scope]
    joined = any(map(_is_formula, own))
    rows: list[tuple[TextCell, ...]] = [(TextCell(f"block {index}", bold=True, wide=True),)]
    listed = [node for node in nodes if not joined or node.scope != block.scope]
    rows += _layer_rows(of, listed, len(block.scope), equations)
    if joined:
        ids = {node.id for node in own}
        fill: Role = "interblock" if ids & of.between else "neuron" if ids & of.fires else "none"
        rows.append((TextCell(clean(equations.output, _LONGEST_EQUATION), fill=fill, wide=True),))
    message = "\n".join([".".join(block.scope), *map(tooltip, nodes)])
    ids_of = tuple(node.id for node in nodes)
    box = Box(f"s{number}b{index}", tuple(rows), shape="round", tooltip=message, nodes=ids_of)
    return fitted(box)


def _layer_rows(
    of: Parts, nodes: Sequence[Node], depth: int, equations: BlockEquations
) -> list[tuple[TextCell, ...]]:
    """Return the rows of the box. A row is a layer with weights and the layers that follow it.

    ``depth`` is the length of the block's scope. Rows of scopes other than the branch's are
    labelled; everything without weights is an equation or a flow of layers.
    """
    lines = _lines(nodes, depth)
    regular = [(scope, line) for scope, line in lines if _is_regular(line)]
    named = any(scope not in ("branch", "") for scope, _ in regular)
    lead = max((_weighted(line) for _, line in regular), default=0)
    found: list[tuple[TextCell, ...]] = []
    before = ""
    for scope, line in lines:
        label = _tail(scope) if scope not in (before, "branch") else ""
        before = scope
        if _is_regular(line):
            cells = [TextCell("")] * (lead - _weighted(line))
            cells += [layer_cell(of, node) for node in line]
            found.append((*[TextCell(label, ink="quiet", size=SMALL)] * named, *cells))
            continue
        if any(map(_is_formula, line)):
            text = equations.made[line[-1].id][0]
            text = f"{_tail(scope)} = {text}" if scope else text
        else:
            text = " → ".join(map(layer, line))
            text = f"{label}: {text}" if label else text
        found.append((TextCell(clean(text, _LONGEST_EQUATION), wide=True),))
    return found


def layer_cell(of: Parts, node: Node, *, wide: bool = False) -> TextCell:
    """Return the cell of a layer, highlighted if it consists of neurons."""
    fires = node.id in of.fires
    return TextCell(layer(node), bold=fires, fill="neuron" if fires else "none", wide=wide)


def _lines(nodes: Sequence[Node], depth: int) -> list[tuple[str, list[Node]]]:
    """Return lines of consecutive layers in the same scope. A repeated first operation starts a new line."""
    lines: list[tuple[str, list[Node]]] = []
    first: dict[str, str] = {}
    for node in nodes:
        scope = ".".join(node.scope[depth:])
        again = bool(lines) and lines[-1][0] == scope
        recurs = node.op == first.setdefault(scope, node.op)
        if again and not (recurs and any(OPS[n.op].weighted for n in lines[-1][1])):
            lines[-1][1].append(node)
        else:
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
    return next(i for i, node in enumerate(line) if OPS[node.op].weighted)


def _tail(scope: str) -> str:
    """Return the last names of a scope, which distinguish it."""
    text = clean(scope, 200)
    names = text.split(".")
    while len(text) > _LONGEST_SCOPE and len(names) > 1:
        names = names[1:]
        text = f"…{'.'.join(names)}"
    return clean(text, _LONGEST_SCOPE)
