"""Text of a graph, complete, with one node per line.

    graph 1 danet_c_r18, steps 4
    source 0 "specs/danet_c_r18.danet"
    neuron IF
      | neuron IF
      ; state u = 0.0
      ; ...
    %0  input      : 3x224x224 analog static    = input()  @0 40..52 2:15
    %1  stem.conv  : 64x112x112 analog static   = conv(%0, width=64, kernel=7)  @0 80..90 4:15
    stage stages.0, %4 -> %20, of basic, via origin, by chain, gives out[1]
      block stages.0.blocks.0, %4 -> %12, join %10, after spike, fed by in
    output out = %60
    stem %4

An origin is the number of a source, offsets in it, and its line and column. Names other than plain
words are JSON strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, groupby
from typing import assert_never

from danetc.compiler.ir.graph import Attribute, Block, Graph, Node, Stage, Value
from danetc.compiler.ir.rule_forms import (
    Delayed,
    Form,
    InputOf,
    Join,
    Made,
    OutputOf,
    Scaled,
    ScaledByLearnt,
    Source,
    StageInput,
    folded,
)
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.syntax.source import NOWHERE

VERSION = 1
_WORD = re.compile(r"[A-Za-z0-9_]+\Z")


def write(graph: Graph, *, origins: bool = True) -> str:
    """Return the text of a graph. Without ``origins`` it does not depend on places in the spec."""
    sources: dict[int, int] = {}
    lines = [f"graph {VERSION} {_name(graph.name)}, steps {graph.steps}"]
    if origins:
        spans = chain(
            (node.origin for node in graph.nodes.values()), (stage.origin for stage in graph.stages)
        )
        for span in spans:
            source = span.source
            if source is not NOWHERE.source and id(source) not in sources:
                lines.append(f"source {len(sources)} {_quoted(source.name)}")
                sources[id(source)] = len(sources)
    for key, program in graph.neurons.items():
        lines += ["", f"neuron {_name(key)}", *_program(program)]
    lines.append("")
    for node in graph.nodes.values():
        path = _path((*node.scope, node.name))
        value, call = _value(node.value), _call(node)
        lines.append(f"%{node.id:<5} {path:<32} : {value:<27} = {call}{_origin(node, sources)}")
    for stage in graph.stages:
        lines += [
            "",
            f"stage {_path(stage.scope)}, %{stage.entry} -> %{stage.result}, "
            f"{f'of {_name(stage.block)}, ' if stage.block else ''}"
            f"via {_name(stage.connection)}, by {_name(stage.rule)}, "
            f"gives {_form(stage.result_form)}{_origin(stage, sources)}",
        ]
        lines += [f"  delayed %{id} is {_form(form)}" for id, form in stage.delayed]
        for block in stage.blocks:
            after = " ".join(map(_name, block.after)) or "nothing"
            lines.append(
                f"  block {_path(block.scope)}, %{block.input} -> %{block.output}, "
                f"join %{block.join}, after {after}, fed by {_form(block.feed)}{_shortcut(block)}"
            )
    lines.append("")
    lines += [f"output {_name(name)} = %{id}" for name, id in graph.outputs.items()]
    lines += [f"carry %{id} = %{source}" for id, source in graph.carries.items()]
    lines += [f"share %{id} = %{owner}" for id, owner in graph.shares.items()]
    lines.append(f"stem %{graph.stem_output}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _name(text: str) -> str:
    # the word nothing is for blocks without modules after the join
    return text if _WORD.match(text) and text != "nothing" else _quoted(text)


def _path(parts: tuple[str, ...]) -> str:
    return ".".join(map(_name, parts)) or "-"


def _program(program: NeuronProgram) -> Iterator[str]:
    """Yield a program, one statement per line."""
    for index, statement in enumerate(program.text().split("; ")):
        yield f"  {';' if index else '|'} {json.dumps(statement)[1:-1]}"


def _value(value: Value) -> str:
    size = "x".join(str(extent) for extent in value.shape) or "-"
    return f"{size} {value.kind} {'varying' if value.varies else 'static'}"


def _call(node: Node) -> str:
    arguments = [f"%{id}" for id in node.inputs]
    arguments += [f"{_name(name)}={_attribute(value)}" for name, value in node.attrs.items()]
    return f"{_name(node.op)}({', '.join(arguments)})"


def _attribute(value: Attribute) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return _quoted(value)
    return repr(value)


def _origin(item: Node | Stage, sources: Mapping[int, int]) -> str:
    span = item.origin
    number = sources.get(id(span.source))
    return (
        "" if number is None else f"  @{number} {span.start}..{span.end} {span.line}:{span.column}"
    )


def _shortcut(block: Block) -> str:
    if block.shortcut is None:
        return ""
    id, form = block.shortcut
    return f", shortcut %{id} by {_form(form)}"


def _form(form: Form) -> str:
    """Return the text of a form as an equation."""
    return folded(form, _source, _made)


def _source(source: Source) -> str:
    match source:
        case StageInput():
            return "in"
        case InputOf(block):
            return f"in[{block}]"
        case OutputOf(block):
            return f"out[{block}]"
        case Delayed(steps, value):
            return f"delay({steps}, {_form(value)})"
    assert_never(source)


def _made(form: Made, parts: list[str]) -> str:
    match form:
        case Join(name):
            return f"{name}({', '.join(_ranges(form.parts, parts))})"
        case Scaled(factor):
            return f"scale({factor!r}, {parts[0]})"
        case ScaledByLearnt(name):
            return f"learn({_path((*name.split('.'),))}, {parts[0]})"
    assert_never(form)


def _ranges(parts: Iterable[Form], texts: Iterable[str]) -> Iterator[str]:
    """The texts of parts, with runs of three and more consecutive outputs as ``out[a .. b]``."""

    def run_of(place: int, part: Form) -> tuple[object, ...]:
        return (part.block - place,) if isinstance(part, OutputOf) else (place, "alone")

    numbered = enumerate(zip(parts, texts, strict=True))
    for _, run in groupby(numbered, lambda each: run_of(each[0], each[1][0])):
        items = [item for _, item in run]
        first, last = items[0][0], items[-1][0]
        if len(items) > 2 and isinstance(first, OutputOf) and isinstance(last, OutputOf):
            yield f"out[{first.block} .. {last.block}]"
        else:
            yield from (text for _, text in items)
