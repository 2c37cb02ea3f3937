"""What a block's connection computes, written as the spec writes it: ``(branch + shortcut) → IF``."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.draw.words import clean, layer, sign
from danetc.compiler.ir.graph import Block, Graph, Node
from danetc.compiler.ir.ops import OPS

_ARROW, _SUM, _PRODUCT, _ATOM = range(4)  # how tight they bind, from the loosest on
_BINDS = {"+": _SUM, "−": _SUM, "×": _PRODUCT, "/": _PRODUCT}
_LONGEST = 200  # characters of a part: a value that is read twice doubles at each step

Text = tuple[str, int]


class BlockEquations:
    """The equations of a block. ``connection`` says whether it is wired by one."""

    def __init__(self, graph: Graph, block: Block, nodes: Sequence[Node], connection: bool) -> None:
        self.graph = graph
        self.block = block
        self.nodes = {node.id: node for node in nodes}
        self.input = "shortcut" if connection else "in"
        self.inputs = {id for id, _ in block.feeds}
        self.read: dict[tuple[str, ...], dict[int, None]] = {}  # what enters each scope
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
        """What the block gives."""
        return self._operand(self.block.output, self.block.scope)[0]

    def of(self, node: Node) -> str:
        """What a node gives, in the words of its scope."""
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
        """A value by its name in a scope, or by its equation where it has none."""
        if id in self.inputs:
            return self.input, _ATOM
        if id not in self.nodes:
            return self.graph[id].path, _ATOM
        node = self.nodes[id]
        if node.scope == scope:
            return self.made[id]
        if _within(scope, node.scope):
            return "in", _ATOM  # of a block that is written within this one
        common = next(i for i, name in enumerate(node.scope) if scope[i : i + 1] != (name,))
        name = node.scope[common]
        inner = node.scope[: common + 1]
        sources = list(self.read.get(inner, ()))
        if inner[:-1] == scope and len(sources) == 1:
            source = self.nodes.get(sources[0])
            if source is not None and source.scope == scope:  # what has no name flows into a block
                return _flow(self.made[source.id], name)
        return name, _ATOM


def _within(scope: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    return scope[: len(outer)] == outer


def _held(text: Text, binds: int) -> str:
    return text[0] if text[1] >= binds else f"({text[0]})"


def _flow(text: Text, layer: str) -> Text:
    return f"{text[0] if text[1] == _ARROW else _held(text, _ATOM)} → {layer}", _ARROW
