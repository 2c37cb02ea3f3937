"""Texts and styles of pictures: layers as in the figures of papers, sizes, places in the spec."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.draw.sheet import Look
from danetc.compiler.ir.graph import Node, Shape, Value
from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.kinds import SPIKE, Kind
from danetc.dsl.syntax.source import Span

_LONGEST = 48
_LOOKS = {SPIKE: Look("spike", "dashed", 1.3), Kind(-1, 1, 1.0): Look("spike", "dotted", 1.6)}
_COUNT = Look("count", "solid", 2.8)
_SCALED = Look("count", "dashed", 2.8)
_TOKEN = Look("count", "dotted", 2.8)
DETACHED = Look("quiet", "dotted", 1.6)
_ANALOG = Look("analog", "solid", 1.1)
LOOKS = (
    (_LOOKS[SPIKE], "spike (0 or 1)"),
    (_LOOKS[Kind(-1, 1, 1.0)], "signed spike (-1, 0 or 1)"),
    (_COUNT, "count (whole numbers)"),
    (_SCALED, "count (multiples of 1/2, 1/4, ...)"),
    (_TOKEN, "token (index of a vocabulary)"),
    (_ANALOG, "analog (real numbers)"),
    (DETACHED, "detached: no gradient"),
)
"""The style of each kind of wire, with the text of the legend."""


def clean(text: str, longest: int = _LONGEST) -> str:
    """Return a text without invisible characters, cut to a maximum length."""
    text = visible(text[: longest + 1])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def look(value: Value) -> Look:
    """Return the style of a wire that carries a value."""
    known = kind_look(value.kind)
    return known if value.varies else Look(known.colour, known.dash, known.pen, hollow=True)


def kind_look(kind: Kind) -> Look:
    if not kind.is_integer:
        return _ANALOG
    if kind.is_token:
        return _TOKEN
    return _LOOKS.get(kind, _COUNT if kind.unit >= 1 else _SCALED)


def size(shape: Shape) -> str:
    return "×".join(map(str, shape))


def layer(node: Node) -> str:
    """Return a short label: ``conv 3×3, 64 /2`` has 64 channels and stride 2."""
    return " ".join(part for part in layer_parts(node) if part)


def layer_parts(node: Node) -> tuple[str, str]:
    """Return the name of a layer, and its size or ``""``."""
    row = OPS[node.op]
    what, extent = row.label(node.attrs)
    if isinstance(weight := node.attrs.get("weight"), str):
        extent += f" · {weight.partition(' ')[0]}"
    return clean(what or row.sign or node.op.replace("_", " ")), clean(extent)


def origin(span: Span) -> str:
    """Return the origin of a node in the spec: ``imagenet.danet:13``.

    The name of the folder is left out because pictures are shared.
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
    """Return ``block 3``, ``blocks 3 – 5`` or ``blocks 0, 2, 3``."""
    return f"{what}{'s' * (len(indices) > 1)} {numbers(indices)}"


def numbers(indices: Sequence[int]) -> str:
    """Return sorted numbers as text: ``3``, ``3 – 5`` or ``0, 2, 3``."""
    low, high = indices[0], indices[-1]
    if len(indices) > 2 and list(indices) == list(range(low, high + 1)):
        return f"{low} – {high}"
    return ", ".join(map(str, indices))
