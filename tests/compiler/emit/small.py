"""Small residual networks with stages and blocks."""

from __future__ import annotations

from dataclasses import replace

from danetc.compiler import check_text
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.reading import read_program

IF = read_program(
    "neuron IF; state u = 0.0; v = add u x; _1 = sub v 1.0; s = heaviside _1; _2 = sub 1.0 s; "
    "u_next = mul v _2; next u = u_next; out s; surrogate atan; _1 = mul x x; _2 = add 1.0 _1; "
    "_3 = div 1.0 _2; dy _3"
)


def resnet(
    depths: tuple[int, ...] = (2, 2),
    widths: tuple[int, ...] = (4, 8),
    *,
    dense: bool = True,
    bottleneck: bool = False,
) -> Graph:
    """A network of the ``origin`` form, densely additive or a chain."""
    block, rule = "bottleneck" if bottleneck else "basic", "densely_additive" if dense else "chain"
    strides = ["", *[", stride = 2"] * (len(depths) - 1)]
    rows = zip(depths, widths, strides, strict=True)
    stages = " -> ".join(f"stage({block}({width}), {depth}{more})" for depth, width, more in rows)
    text = f"""use std
network small {{
  input = image(3, 8, 8); steps = 3; neuron = IF; surrogate = atan
  stem = conv({widths[0]}) -> norm -> spike -> maxpool(3, stride = 2)
  stages = ({stages}) via origin by {rule}
  head = avgpool -> mean_over_time -> linear(5)
}}"""
    graph = check_text(text, "specs/small.danet").graphs["small"]
    return replace(graph, neurons={"IF": IF})
