"""Products of attention in pictures: the names of their factors stand on the wires."""

from __future__ import annotations

from danetc.compiler import check_text, graph_of
from danetc.compiler.draw.flow import op_flow
from danetc.compiler.draw.sheet import Box
from danetc.compiler.draw.units import parts

TEXT = """use std
network n {
  input = events(4, 4, 4); steps = 2; neuron = IF; surrogate = atan
  patches = in -> maxpool(2)
  a = scores(in, patches, heads = 2) -> spike
  out = mix(a, patches, like = in)
}
"""


def test_factors_are_named() -> None:
    graph = graph_of(check_text(TEXT))
    nodes = list(graph.nodes.values())
    flow = op_flow(parts(graph), [nodes], "n", "LR", lambda source: Box(source.path), nodes[-1].id)
    boxes = {box.key: " ".join(cell.text for row in box.rows for cell in row) for box in flow.boxes}
    ways = {(boxes[line.tail], boxes[line.head]) for line in flow.lines}
    named = {(tail, name) for tail, name in ways if name in ("q", "k", "a", "v", "like")}
    assert {name for _, name in named} == {"q", "k", "a", "v", "like"}
    assert {
        ("q", "q kᵀ, 2 heads"),
        ("k", "q kᵀ, 2 heads"),
        ("a", "a v"),
        ("v", "a v"),
        ("like", "a v"),
    } <= ways
    assert ("IF", "a") in ways
