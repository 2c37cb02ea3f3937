"""Detection of backbones and blocks of the standard library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from danetc.compiler.importing.expressions import call, constant, defaults_of, flow, of_kind
from danetc.compiler.importing.naming import BLOCKS, Naming
from danetc.compiler.importing.stages import Piece, StageOfBlocks, exit_of
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.segment import SegmentError, segment
from danetc.dsl.syntax import tree as s

Items = Sequence[tuple[Piece, str]]
"""Pieces of a network with their texts."""


def named_backbone(
    naming: Naming, graph: Graph, items: Items, first: int, last: int
) -> tuple[int, str]:
    """Write the items from the first to the last stage as a backbone.

    Returns the index of the last item of the backbone, which may be one step more, and the text.
    """
    stages = [piece for piece, _ in items[first : last + 1] if isinstance(piece, StageOfBlocks)]
    if len({(stage.connection, stage.rule) for stage in stages}) > 1:
        each = [piece.wired(text) if isinstance(piece, StageOfBlocks) else text for piece, text in items[first : last + 1]]  # fmt: skip
        return last, flow(*each)
    for end in (last, last + 1):
        if end == len(items):
            continue
        exit = items[end][0]
        if end > last and not (isinstance(exit, Node) and OPS[exit.op].window is not None):
            continue
        for candidate in _candidates(items[first : end + 1], stages):
            whole = stages[0].wired(candidate)
            if _is(naming, graph, whole, stages[0].entry, exit):
                return end, whole
    between = {text for piece, text in items[first:last] if isinstance(piece, Node)}
    if last + 1 < len(items) and items[last + 1][1] in between:
        last += 1  # a step between stages that also follows the last one
    return last, stages[0].wired(flow(*(text for _, text in items[first : last + 1])))


def _is(naming: Naming, graph: Graph, text: str, entry: int, exit: Piece) -> bool:
    try:
        part = segment(graph, entry, {"out": exit_of(exit)})
    except SegmentError:
        return False
    return naming.same(text, part)


def _candidates(items: Items, stages: Sequence[StageOfBlocks]) -> list[str]:
    """Return calls of the backbones of std with the same number of blocks in each stage.

    The shortest comes first: `resnet50`, not `resnet34(block = bottleneck)`. Of calls with the same
    length, those whose default block has the same number of layers come first.
    """
    shape = [piece.blocks if isinstance(piece, StageOfBlocks) else 0 for piece, _ in items]
    block, stride = stages[0].block, stages[0].stride
    layers = BLOCKS.get(block.name, (0,))[0]
    found = []
    for declaration in of_kind("backbone"):
        if _shape(declaration) != shape:
            continue
        defaults = defaults_of(declaration)
        given: dict[str, str] = {}
        usual_layers = 0
        for param in declaration.params:
            if param.name == "block":
                usual = param.default.id if isinstance(param.default, s.Name) else ""
                usual_layers = BLOCKS.get(usual, (0,))[0]
                if usual != block.name:
                    given["block"] = block.name
            else:
                value = stride if param.name == "stride" else block.arguments[0][1]
                if value != defaults[param.name]:
                    given[param.name] = constant(value)
        text = call(declaration.name, **given)
        found.append((len(text), usual_layers != layers, text))
    return [text for _, _, text in sorted(found)]


def _shape(declaration: s.Declaration) -> list[int] | None:
    """Return the number of blocks of each step of a backbone, which is 0 for a layer."""
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


def named_blocks(naming: Naming, graph: Graph, items: Items) -> list[tuple[Piece, str]]:
    """Replace steps that equal a block of std by its name."""
    result = [*items]
    for declaration in of_kind("block"):
        steps = [*_steps(declaration)]
        place = 0
        while steps and place < len(result):
            part = [piece for piece, _ in result[place : place + len(steps)]]
            nodes = [piece for piece in part if isinstance(piece, Node)]
            if (
                len(nodes) == len(steps)
                and _may_be(nodes[0].op, steps[0])
                and _is(naming, graph, declaration.name, nodes[0].inputs[0], nodes[-1])
            ):
                result[place : place + len(steps)] = [(nodes[-1], declaration.name)]
            place += 1
    return result


def _steps(declaration: s.Declaration) -> Iterator[s.Expr]:
    """Return the steps of a block whose body is one flow and that needs no arguments."""
    if declaration.body is None or any(p.default is None for p in declaration.params):
        return
    match [item for item in declaration.body if isinstance(item, s.Define)]:
        case [s.Define(value=s.Flow(steps=steps))]:
            yield from steps[1:]


def _may_be(op: str, step: s.Expr) -> bool:
    """False if the name of a step shows that it is another operation."""
    name = s.called(step)
    if name is None:
        return False
    row = OPS[op]
    return (
        name.id in {op, "spike" if op == "neuron" else op}
        or (row.norm is not None and name.id == "norm")
        or (op.startswith("linear") and name.id == "linear")
    )
