"""Backbones and layers of std that stages and what stands between them are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from danetc.compiler.importing.library import default_of, of_kind, standard
from danetc.compiler.importing.lines import lines
from danetc.compiler.importing.naming import BLOCKS, Naming
from danetc.compiler.importing.spine import SingleStep
from danetc.compiler.importing.stages import Piece, StageOfBlocks
from danetc.compiler.importing.trees import call, constant, flow, shown
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.segment import SegmentError, segment
from danetc.dsl.syntax import tree as s

Items = Sequence[tuple[Piece, s.Expr]]


def named_backbone(
    naming: Naming, graph: Graph, items: Items, first: int, last: int
) -> tuple[int, list[s.Define]]:
    """Stages and what is between them as `stages = ...`, and the last item that is part of it."""
    stages = [piece for piece, _ in items[first : last + 1] if isinstance(piece, StageOfBlocks)]
    wired = {(stage.connection, stage.rule) for stage in stages}
    if len(wired) > 1:
        exprs = [_wired(expr, piece) for piece, expr in items[first : last + 1]]
        return last, [s.Define("stages", None, flow(*exprs))]
    for end in (last, last + 1):
        if end >= len(items):
            continue
        exit = items[end][0]
        if end > last and not (
            isinstance(exit, SingleStep) and OPS[exit.node.op].window is not None
        ):
            continue
        for candidate in _candidates(items[first : end + 1], stages):
            whole = _wired(candidate, stages[0])
            try:
                part = segment(graph, stages[0].entry, {"out": _exit(exit)})
            except SegmentError:
                continue
            if naming.same(whole, part):
                return end, [s.Define("stages", None, whole)]
    between = {expr for piece, expr in items[first:last] if isinstance(piece, SingleStep)}
    if last + 1 < len(items) and items[last + 1][1] in between:
        last += 1  # what stands between stages stands behind the last one too
    exprs = [expr for _, expr in items[first : last + 1]]
    of_stages = {
        expr for piece, expr in items[first : last + 1] if isinstance(piece, StageOfBlocks)
    }

    def wire(value: s.Expr) -> s.Expr:
        steps = value.steps if isinstance(value, s.Flow) else (value,)
        return _wired(value, stages[0]) if of_stages.intersection(steps) else value

    return last, [*lines("stages", exprs, wire)]


def _exit(piece: Piece) -> int:
    return piece.node.id if isinstance(piece, SingleStep) else piece.exit


def _wired(expr: s.Expr, piece: Piece) -> s.Expr:
    if not isinstance(piece, StageOfBlocks):
        return expr
    via = s.Via(expr, s.Name(piece.connection))
    return via if piece.rule == "chain" else s.By(via, s.Name(piece.rule))


def _candidates(items: Items, stages: Sequence[StageOfBlocks]) -> Iterator[s.Expr]:
    """Backbones of std with as many blocks in each stage, with the arguments that they then have.

    The shortest comes first: `resnet50`, not `resnet34(block = bottleneck)`; of these the one whose own
    block has as many layers.
    """
    layers = BLOCKS.get(stages[0].block.name, (0,))[0]
    found = [*_all_candidates(items, stages)]
    found.sort(key=lambda item: (len(shown(item[1])), item[0] != layers))
    yield from (expr for _, expr in found)


def _all_candidates(items: Items, stages: Sequence[StageOfBlocks]) -> Iterator[tuple[int, s.Expr]]:
    shape = [piece.blocks if isinstance(piece, StageOfBlocks) else 0 for piece, _ in items]
    for declaration in of_kind("backbone"):
        if _shape(declaration) != shape:
            continue
        defaults = {param.name: default_of(param) for param in declaration.params}
        block = stages[0].block
        given: dict[str, s.Expr] = {}
        layers = 0
        for param in declaration.params:
            if param.name == "block":
                usual = param.default.id if isinstance(param.default, s.Name) else ""
                layers = BLOCKS.get(usual, (0,))[0]
                if param.default != s.Name(block.name):
                    given["block"] = s.Name(block.name)
            elif param.name == "stride":
                if stages[0].stride != defaults["stride"]:
                    given["stride"] = constant(stages[0].stride)
            elif block.arguments[0][1] != defaults[param.name]:
                given[param.name] = constant(block.arguments[0][1])
        yield layers, call(declaration.name, **given)


def _shape(declaration: s.Declaration) -> list[int] | None:
    """How many blocks each stage of a backbone has, 0 for what is no stage."""
    value = declaration.value
    if not isinstance(value, s.Flow):
        return None
    found = []
    for step in value.steps:
        match step:
            case s.Call(s.Name("stage"), (_, s.Arg(None, s.Number() as count), *_)):
                found.append(int(count.value))
            case _:
                found.append(0)
    return found


def named_layers(naming: Naming, graph: Graph, items: Items) -> list[tuple[Piece, s.Expr]]:
    """Items with blocks of std that wire themselves in place of the steps that they are."""
    result = [*items]
    for declaration in of_kind("block"):
        if declaration.body is None or any(p.default is None for p in declaration.params):
            continue
        named = s.Name(declaration.name)
        place = 0
        while place < len(result):
            size = _matches(naming, graph, result[place:], named)
            if size:
                result[place : place + size] = [(result[place + size - 1][0], named)]
            place += 1
    return result


def _matches(naming: Naming, graph: Graph, items: Items, named: s.Name) -> int:
    """How many steps from here on a block is, or 0."""
    body = standard()[named.id].body
    assert body is not None
    steps = [item for item in body if isinstance(item, s.Define)]
    if len(steps) != 1 or not isinstance(steps[0].value, s.Flow):
        return 0
    size = len(steps[0].value.steps) - 1
    nodes = [piece.node for piece, _ in items[:size] if isinstance(piece, SingleStep)]
    if len(nodes) < size or not _alike(nodes[0].op, steps[0].value.steps[1]):
        return 0
    try:
        part = segment(graph, nodes[0].inputs[0], {"out": nodes[-1].id})
    except SegmentError:
        return 0
    return size if naming.same(named, part) else 0


def _alike(op: str, step: s.Expr) -> bool:
    """Whether a step may be an operation, by its name: what is asked first costs nothing."""
    name = s.called(step)
    if name is None:
        return False
    row = OPS[op]
    return (
        name.id in {op, "spike" if op == "neuron" else op}
        or (row.norm is not None and name.id == "norm")
        or (op.startswith("linear") and name.id == "linear")
    )
