"""A graph as text, for people and for tests: one node a line, nothing of the graph left out.

    graph 1 danet_c_r18, steps 4
    source 0 "specs/danet_c_r18.danet"
    neuron IF
      | neuron IF
      ; state u = 0.0
      ; ...
    %0  input      : 3x224x224 analog static    = input()  @0 40..52 2:15
    %1  stem.conv  : 64x112x112 analog static   = conv(%0, width=64, kernel=7)  @0 80..90 4:15
    stage stages.0, %4 -> %20, of basic, via origin, by chain, gives out[1]
      block stages.0.blocks.0, %4 -> %12, join %10, after spike, fed by in[0]
    output out = %60
    stem %4

An origin is a source's number, the offsets in it, and its line and column. Names that are not
plain words stand in quotes, written as JSON strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from danetc.compiler.ir.graph import Attribute, Block, Form, Graph, Node, Stage, Value
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.syntax.source import NOWHERE

VERSION = 1
_WORD = re.compile(r"[A-Za-z0-9_]+\Z")


def write(graph: Graph, *, origins: bool = True) -> str:
    """The graph as text. Without ``origins`` the text does not change when the spec moves."""
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
    # "nothing" says that a block has no modules after its join, so as a name it needs its quotes
    return text if _WORD.match(text) and text != "nothing" else _quoted(text)


def _path(parts: tuple[str, ...]) -> str:
    return ".".join(map(_name, parts)) or "-"


def _program(program: NeuronProgram) -> Iterator[str]:
    """A program, one statement a line."""
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
    return repr(value)  # the shortest digits that give the same number


def _origin(item: Node | Stage, sources: Mapping[int, int]) -> str:
    span = item.origin
    number = sources.get(id(span.source))
    return (
        "" if number is None else f"  @{number} {span.start}..{span.end} {span.line}:{span.column}"
    )


def _shortcut(block: Block) -> str:
    if block.shortcut is None:
        return ""
    feed = _form(block.shortcut_feed) if block.shortcut_feed else "nothing"
    return f", shortcut %{block.shortcut} by {feed}"


def _form(form: Form) -> str:
    """A form as an equation's text. Iterative: a form may be as deep as a stage is long."""
    pieces: list[str] = []
    todo: list[Form | str] = [form]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            pieces.append(item)
            continue
        head, *operands = item
        if head in ("in", "out"):
            pieces.append(f"{head}[{operands[0]}]")
            continue
        pieces.append(f"{head}(")
        todo.append(")")
        parts: list[Form | str] = []
        if head == "scale":
            parts += [repr(operands.pop(0)), ", "]
        if head == "learn":
            parts += [_path((*str(operands.pop(0)).split("."),)), ", "]
        parts += chain.from_iterable((part, ", ") for part in _ranges(operands))
        todo.extend(reversed(parts[:-1]))
    return "".join(pieces)


def _ranges(operands: Iterable[object]) -> Iterator[Form | str]:
    """The operands, with runs of three and more consecutive outputs as ``out[a .. b]``."""
    run: list[int] = []

    def flush() -> Iterator[Form | str]:
        if len(run) > 2:
            yield f"out[{run[0]} .. {run[-1]}]"
        else:
            yield from (("out", index) for index in run)
        run.clear()

    for operand in operands:
        assert isinstance(operand, tuple)
        if operand[0] == "out":
            if run and operand[1] != run[-1] + 1:
                yield from flush()
            run.append(operand[1])
        else:
            yield from flush()
            yield operand
    yield from flush()
