"""Residual networks with stages, blocks and places in a source, built by hand."""

from __future__ import annotations

from dataclasses import replace

from danetc.compiler.ir.graph import Block, Graph, Stage
from danetc.compiler.ir.rule_forms import Form, Join, OutputOf, StageInput
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax.source import SourceFile, Span
from tests.compiler.emit.graphs import Net

SOURCE = SourceFile("specs/small.danet", "network small {\n  head = avgpool\n}\n")
HERE = Span(SOURCE, 18, 32)
IF = read_program(
    "neuron IF; state u = 0.0; v = add u x; _1 = sub v 1.0; s = heaviside _1; _2 = sub 1.0 s; "
    "u_next = mul v _2; next u = u_next; out s; surrogate atan; _1 = mul x x; _2 = add 1.0 _1; "
    "_3 = div 1.0 _2; dy _3"
)


def resnet(
    depths: tuple[int, ...] = (2, 2),
    widths: tuple[int, ...] = (4, 8),
    *,
    size: int = 8,
    steps: int = 3,
    classes: int = 5,
    dense: bool = True,
    bottleneck: bool = False,
    name: str = "small",
) -> Graph:
    """A residual network of the ``origin`` form, densely additive or a chain."""
    net = Net((3, size, size), steps, programs={"IF": IF}, origin=HERE)
    with net.within("stem"):
        x = net("batchnorm", net("conv", 0, name="conv", width=widths[0]), name="norm")
        x = stem = net("maxpool", net.spike(x))
    stages = []
    for s, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        stages.append(_stage(net, s, x, depth, width, 1 + (s > 0), dense, bottleneck))
        x = stages[-1].result
    with net.within("head"):
        x = net("flatten", net("global_avgpool", x, name="avgpool"))
        x = net("linear", net("mean_over_time", x), width=classes, bias=True)
    return replace(net.finish(x, name=name, stages=tuple(stages)), stem_output=stem)


def _stage(
    net: Net, s: int, x: int, depth: int, width: int, stride: int, dense: bool, bottleneck: bool
) -> Stage:
    entry, outs, blocks = x, [], []
    for i in range(depth):
        feed: Form = StageInput()
        if i and dense:
            feed = Join("sum", tuple(map(OutputOf, range(i)))) if i > 1 else OutputOf(0)
            with net.within("stages", str(s)):
                x = net("add", *outs, name=f"sum{i}") if i > 1 else outs[0]
        elif i:
            feed, x = OutputOf(i - 1), outs[-1]
        with net.within("stages", str(s), "blocks", str(i)):
            join, out = _block(net, x, width, 1 if i else stride, bottleneck)
            blocks.append(Block(net.scope, x, out, join, ("neuron",), feed))
        outs.append(out)
    rule = "densely_additive" if dense else "chain"
    form = OutputOf(depth - 1)
    scope = ("stages", str(s))
    return Stage(scope, "origin", rule, entry, tuple(blocks), outs[-1], form, HERE)


def _block(net: Net, x: int, width: int, stride: int, bottleneck: bool) -> tuple[int, int]:
    convs = [(width, 3, stride), (width, 3, 1)]
    if bottleneck:
        convs = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
    y = short = x
    with net.within("branch"):
        for k, (w, kernel, step) in enumerate(convs, 1):
            y = net.spike(y, f"spike{k - 1}") if k > 1 else y
            y = net("conv", y, name=f"conv{k}", width=w, kernel=kernel, stride=step)
            y = net("batchnorm", y, name=f"norm{k}")
    if net.nodes[x].value.shape != net.nodes[y].value.shape:
        with net.within("shortcut"):
            short = net("conv", x, name="conv", width=convs[-1][0], kernel=1, stride=stride)
            short = net("batchnorm", short, name="norm")
    join = net("add", y, short)
    return join, net.spike(join)
