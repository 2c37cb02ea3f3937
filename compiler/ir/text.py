"""Text of a graph, complete, with one node per line.

    graph danet_c_r18, steps 4
    neuron IF
      | neuron IF
      ; state u = 0.0
      ; ...
    %0  input      : 3x224x224 analog static    = input()  @spec.danet:2:15
    %1  stem.conv  : 64x112x112 analog static   = conv(%0, width=64, kernel=7)  @spec.danet:4:15
    stage stages.0, %4 -> %20, of basic, via origin, by chain, gives out[1]
      block stages.0.blocks.0, %4 -> %12, join %10, after spike, fed by in
    output out = %60
    stem %4

The end of a line is its place in the spec: source, line and column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from danetc.compiler.ir.graph import Attribute, Block, Graph, Node, Stage
from danetc.compiler.ir.rule_forms import shown
from danetc.dsl.syntax.source import NOWHERE


def write(graph: Graph) -> str:
    """Return the text of a graph."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield f"graph {graph.name}, steps {graph.steps}"
    for key, program in graph.neurons.items():
        yield from ("", f"neuron {key}")
        for index, statement in enumerate(program.text().split("; ")):
            yield f"  {';' if index else '|'} {statement}"
    yield ""
    for node in graph.nodes.values():
        arguments = [f"%{id}" for id in node.inputs]
        arguments += [f"{name}={_attribute(value)}" for name, value in node.attrs.items()]
        call = f"{node.op}({', '.join(arguments)})"
        yield f"%{node.id:<5} {node.path:<32} : {node.value!s:<27} = {call}{_place(node)}"
    for stage in graph.stages:
        ends = f"stage {'.'.join(stage.scope)}, %{stage.entry} -> %{stage.result}"
        parts = f"of {stage.block}, via {stage.connection or 'nothing'}, by {stage.rule}"
        yield from (
            "",
            f"{ends}, {parts}, gives {shown(stage.result_form, cut=False)}{_place(stage)}",
        )
        yield from map(_block, stage.blocks)
    yield ""
    yield from (f"output {name} = %{id}" for name, id in graph.outputs.items())
    yield from (f"carry %{id} = %{source}" for id, source in graph.carries.items())
    yield from (f"share %{id} = %{owner}" for id, owner in graph.shares.items())
    yield f"stem %{graph.stem_output}"
    for key, layer in graph.weight_layers.items():
        yield from ("", f"weight {key}", *(f"  {line}".rstrip() for line in _lines(layer)))


def _block(block: Block) -> str:
    text = (
        f"  block {'.'.join(block.scope)}, %{block.input} -> %{block.output}, join %{block.join}, "
        f"after {' '.join(block.after) or 'nothing'}, fed by {shown(block.feed, cut=False)}"
    )
    if block.shortcut is None:
        return text
    id, form = block.shortcut
    return f"{text}, shortcut %{id} by {shown(form, cut=False)}"


def _place(item: Node | Stage) -> str:
    return "" if item.origin is NOWHERE else f"  @{item.origin}"


def _attribute(value: Attribute) -> str:
    if isinstance(value, float):
        return repr(value)
    return "none" if value is None else json.dumps(value)
