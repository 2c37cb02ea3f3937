"""A block as one box of text: a line for each weighted layer, and the equation that joins them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from danetc.compiler.draw.block_equations import BlockEquations
from danetc.compiler.draw.sheet import SMALL, Box, Rows, TextCell, fitted
from danetc.compiler.draw.theme import Role
from danetc.compiler.draw.units import Parts
from danetc.compiler.draw.words import clean, interblock, layer, neurons, tooltip
from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.ops import OPS

_LONGEST_SCOPE = 16
_LONGEST_EQUATION = 72
_MOST_IN_COLUMNS = 4


class BlockBoxes:
    """The boxes of a network's blocks."""

    def __init__(self, of: Parts) -> None:
        self.of = of
        self.fires = neurons(of.graph)
        self.between = interblock(of.graph)

    def box(self, number: int, index: int) -> Box:
        """Block ``index`` of stage ``number``."""
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
        """A line for each weighted layer with what follows it; layers of one place in columns.

        ``depth`` is the length of the block's scope. Lines of other scopes than the branch's say
        theirs; what is no layer with weights is an equation, or a flow of layers.
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
    """A layer in a line; one of neurons (``fires``) is marked."""
    if fires:
        return TextCell(layer(node), bold=True, fill="neuron", wide=wide)
    return TextCell(layer(node), wide=wide)


def _lines(nodes: Iterable[Node], depth: int) -> list[tuple[str, list[Node]]]:
    """Layers by scope. A scope's line starts again where its first operation comes again."""
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
    """Whether it is written with signs, not as a layer behind an arrow."""
    return len(node.inputs) > 1 or OPS[node.op].equation is not None


def _is_regular(line: Sequence[Node]) -> bool:
    """Whether a line is that of one weighted layer; only such lines stand in columns."""
    return sum(OPS[node.op].weighted for node in line) == 1 and len(line) <= _MOST_IN_COLUMNS


def _weighted(line: Sequence[Node]) -> int:
    """Where a line's weighted layer stands: these are put under each other."""
    return next((i for i, node in enumerate(line) if OPS[node.op].weighted), 0)


def _tail(scope: str) -> str:
    """The last names of a scope, which tell it from others."""
    text = clean(scope, 200)
    names = text.split(".")
    while len(text) > _LONGEST_SCOPE and len(names) > 1:
        names = names[1:]
        text = f"…{'.'.join(names)}"
    return clean(text, _LONGEST_SCOPE)
