"""What a picture says of a network: layers in the words of a paper's figure, sizes, places."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.analysis.summary import is_neuron
from danetc.compiler.draw.sheet import Look
from danetc.compiler.ir.graph import Graph, Node, Shape, Stage, Value
from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.kinds import SPIKE, Kind
from danetc.dsl.syntax.source import Span

_LONGEST = 48
_LOOKS = {SPIKE: Look("spike", "dashed", 1.3), Kind(-1, 1, 1.0): Look("spike", "dotted", 1.6)}
_COUNT = Look("count", "solid", 2.8)
_SCALED = Look("count", "dashed", 2.8)
_ANALOG = Look("analog", "solid", 1.1)
LOOKS = (
    (_LOOKS[SPIKE], "spike (0 or 1)"),
    (_LOOKS[Kind(-1, 1, 1.0)], "signed spike (-1, 0 or 1)"),
    (_COUNT, "count (whole numbers)"),
    (_SCALED, "count (multiples of 1/2, 1/4, ...)"),
    (_ANALOG, "analog (real numbers)"),
)
"""How kinds look, and what they are called."""


def clean(text: str, longest: int = _LONGEST) -> str:
    """Text without hidden characters, cut where it is too long to be read in a picture."""
    text = visible(text[: longest + 1])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def tooltip_lines(tooltip: str) -> str:
    """A tooltip of any text, line by line."""
    return "\n".join(clean(line, 200) for line in tooltip.split("\n"))


def look(value: Value) -> Look:
    """How a wire that carries a value looks."""
    known = kind_look(value.kind)
    return known if value.varies else Look(known.colour, known.dash, known.pen, hollow=True)


def kind_look(kind: Kind) -> Look:
    if not kind.is_integer:
        return _ANALOG
    return _LOOKS.get(kind, _COUNT if kind.unit >= 1 else _SCALED)


def size(shape: Shape) -> str:
    return "×".join(map(str, shape))


def sign(node: Node) -> str | None:
    """The sign of an operation that joins values: drawn as a circle."""
    return OPS[node.op].sign or None


def layer(node: Node) -> str:
    """A layer in short: ``conv 3×3, 64 /2`` is one of 64 channels and stride 2."""
    return " ".join(part for part in layer_parts(node) if part)


def layer_parts(node: Node) -> tuple[str, str]:
    """What a layer is, and its size where it has one."""
    row = OPS[node.op]
    what, extent = row.label(node.attrs)
    return clean(what or row.sign or node.op.replace("_", " ")), clean(extent)


def origin(span: Span) -> str:
    """Where in the text something comes from: ``imagenet.danet:13``.

    Folders are left out, for a picture is passed on to others.
    """
    name = span.source.name.replace("\\", "/")
    if span.start == span.end:
        return ""
    return f"{name if name.startswith('std/') else name.rpartition('/')[2]}:{span.line}"


def value_words(value: Value) -> str:
    return f"{size(value.shape)}, {value.kind}{'' if value.varies else ', the same at each step'}"


def tooltip(node: Node) -> str:
    parts = (node.path, layer(node), value_words(node.value), origin(node.origin))
    return " · ".join(clean(part, 120) for part in parts if part)


def wire_tooltip(source: str, value: Value) -> str:
    return f"{source}: {value_words(value)}"


def span_words(indices: Sequence[int], what: str = "block") -> str:
    """``block 3``, ``blocks 3 – 5``, ``blocks 0, 2, 3``."""
    return f"{what}{'s' * (len(indices) > 1)} {numbers(indices)}"


def numbers(indices: Sequence[int]) -> str:
    """Numbers in order: ``3``, ``3 – 5``, ``0, 2, 3``."""
    low, high = indices[0], indices[-1]
    if len(indices) > 2 and list(indices) == list(range(low, high + 1)):
        return f"{low} – {high}"
    return ", ".join(map(str, indices))


def neurons(graph: Graph) -> set[int]:
    """The layers of neurons; activation functions are drawn as other layers are."""
    return {node.id for node in graph.nodes.values() if is_neuron(graph, node)}


def interblock(graph: Graph) -> set[int]:
    """The neurons that stand between a block's addition and its end, in any stage."""
    found: set[int] = set()
    for stage in graph.stages:
        for block in stage.blocks:
            at = graph[block.output]
            if sign(graph[block.join]) is None:
                continue  # nothing is joined
            while at.id != block.join and at.inputs:
                if is_neuron(graph, at):
                    found.add(at.id)
                at = graph[at.inputs[0]]
    return found


def layers_tooltip(stage: Stage) -> str:
    """How many blocks a stage has, and where it is written."""
    return f"{len(stage.blocks)} blocks, {origin(stage.origin)}".rstrip(", ")
