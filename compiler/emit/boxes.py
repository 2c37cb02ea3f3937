"""The boxes of a drawing: the layers of a block in the words of a paper's figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from danetc.compiler.graph import Attribute, Block, Graph, Node, Shape, Value

SPIKE, COUNT, ANALOG = "#c2410c", "#7e22ce", "#2563eb"
INTERBLOCK = "#fed7aa"
QUIET = "#6b7280"


def shown(text: str) -> str:
    text = "".join(ch if ch.isprintable() else "\N{REPLACEMENT CHARACTER}" for ch in text)
    return escape(text if len(text) <= 60 else text[:57] + "...")


def _number(value: Attribute) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def size(shape: Shape) -> str:
    return "×".join(map(str, shape))


def layer(node: Node) -> str:
    """A layer in the words of a paper's figure: ``conv 3×3, 64 /2``."""
    a = node.attrs
    words = ""
    match node.op:
        case "conv":
            words = f"conv {a['kernel']}×{a['kernel']}, {a['width']}"
        case "linear":
            words = f"linear {a['width']}"
        case "maxpool" | "avgpool":
            words = f"{node.op} {a['kernel']}×{a['kernel']}"
        case "neuron":
            words = str(a["neuron"])
        case "affine":
            words = f"{_number(a['factor'])} x + {_number(a['offset'])}"
        case "batchnorm":
            words = "norm per step" if a.get("per_step") else "norm"
        case "dropout" | "droppath":
            words = f"{node.op} {_number(a['p'])}"
        case _:
            words = node.op.replace("_", " ")
    if a.get("stride") not in (None, 1):
        words += f" /{a['stride']}"
    if a.get("groups") not in (None, 1):
        words += f", {a['groups']} groups"
    if a.get("dilation") not in (None, 1):
        words += f", dilation {a['dilation']}"
    words = shown(words)
    return f'<FONT COLOR="{SPIKE}">{words}</FONT>' if node.op == "neuron" else words


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a box: whose layers they are, the layers, and a background if they stand out."""

    scope: str
    layers: str
    colour: str = ""

    def __str__(self) -> str:
        back = f' BGCOLOR="{self.colour}"' if self.colour else ""
        scope = f'<FONT COLOR="{QUIET}">{self.scope}</FONT>' if self.scope else ""
        cell = f'<TD ALIGN="LEFT" BALIGN="LEFT"{back}>'
        return f'<TR><TD ALIGN="RIGHT"{back}>{scope}</TD>{cell}{self.layers}</TD></TR>'


def layer_rows(nodes: Iterable[Node], depth: int) -> list[Row]:
    """Lines of layers: one for each weighted layer and what follows it in the same scope."""
    rows: list[tuple[tuple[str, ...], list[str]]] = []
    for node in nodes:
        scope = node.scope[depth:]
        if not rows or rows[-1][0] != scope or node.op in ("conv", "linear"):
            rows.append((scope, []))
        rows[-1][1].append(layer(node))
    lines = []
    named: tuple[str, ...] = ()
    for scope, layers in rows:
        label = shown(".".join(scope)) if scope != named else ""
        lines.append(Row(label, " · ".join(layers)))
        named = scope
    return lines


def table(title: str, rows: Iterable[Row]) -> str:
    head = f'<TR><TD ALIGN="LEFT" COLSPAN="2"><B>{title}</B></TD></TR>' if title else ""
    cells = "".join(map(str, rows))
    return (
        f'<<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="1" CELLSPACING="0">{head}{cells}</TABLE>>'
    )


def line_style(value: Value) -> str:
    colour = {"spike": SPIKE, "count": COUNT}.get(value.kind.name, ANALOG)
    return f'color="{colour}" style={"solid" if value.varies else "dashed"}'


def block_rows(graph: Graph, block: Block, nodes: list[Node]) -> tuple[Row, ...]:
    """The lines of a block's box; the modules between the join and the output stand out."""
    after: list[Node] = []
    at = graph[block.output]
    while at.id != block.join and at.inputs:
        after.insert(0, at)
        at = graph[at.inputs[0]]
    join = graph[block.join]
    sign = {"add": "+", "mul": "×", "sub": "−", "concat": "cat"}.get(join.op)
    apart = {node.id for node in after} | ({join.id} if sign else set())
    rows = layer_rows((node for node in nodes if node.id not in apart), len(block.scope))
    words = [f"<B>{sign}</B>"] if sign else []
    words += map(layer, after)
    if words:
        between = sign is not None and any(node.op == "neuron" for node in after)
        rows.append(Row("", " · ".join(words), INTERBLOCK if between else ""))
    return tuple(rows)
