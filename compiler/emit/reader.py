"""Reads the text form of a graph (text.py). It raises GraphTextError and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

from danetc.compiler.emit.cursor import INDEX, NUMBER, SIZES, GraphTextError, Line
from danetc.compiler.graph import (
    ANALOG,
    SPIKE,
    Attribute,
    Block,
    Form,
    Graph,
    Kind,
    Node,
    Stage,
    Value,
)
from danetc.compiler.ops import OPS
from danetc.dsl.diagnostics import did_you_mean
from danetc.dsl.source import NOWHERE, SourceFile, Span

VERSION = 1
_MAX_EXPANDED = 10_000_000
_MAX_SOURCE = 2**24
_MAX_DEPTH = 100_000

_Place = tuple[int, int, int, int, int]  # source, start, end, line, column


@dataclass
class _Reader:
    """What has been read so far. Origins wait for the end, when every source is known."""

    graph: tuple[str, int] | None = None
    sources: list[str] = field(default_factory=list)
    neurons: dict[str, list[str]] = field(default_factory=dict)
    nodes: dict[int, tuple[Node, _Place | None, int]] = field(default_factory=dict)
    stages: list[tuple[Stage, _Place | None, int]] = field(default_factory=list)
    blocks: list[list[Block]] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    stem: int | None = None
    names: set[tuple[str, ...]] = field(default_factory=set)
    expanded: int = 0
    program: list[str] | None = None


def read(text: str, sources: Mapping[str, SourceFile] | None = None) -> Graph:
    """The graph of a text that ``write`` made.

    Origins point into ``sources`` (by name). A source that is not given is replaced by blanks
    with the lines where they were, so that positions can still be named.

    Raises GraphTextError with the line at fault.
    """
    reader = _Reader()
    last = 1
    for last, content in enumerate(text.split("\n"), 1):
        line = Line(last, content)
        if line.at == len(content):
            continue
        if reader.graph is None and not content.startswith("graph "):
            line.fail(f"a graph's text begins with `graph {VERSION}`")
        _statement(reader, line)
    if reader.graph is None:
        raise GraphTextError(1, f"a graph's text begins with `graph {VERSION}`")
    if not reader.outputs or reader.stem is None:
        missing = "`stem`" if reader.outputs else "`output`"
        raise GraphTextError(last, f"the text ends without {missing}; is it cut off?")
    return _assemble(reader, sources or {})


def _statement(reader: _Reader, line: Line) -> None:
    if line.text.startswith(("|", ";"), line.at):
        _read_program(reader, line)
        return
    reader.program = None
    if line.text.startswith("%"):
        _read_node(reader, line)
    elif line.has("graph"):
        _once(line, reader.graph is None, "`graph`")
        if line.integer() != VERSION:
            line.fail(f"this is not version {VERSION} of the text form")
        name = line.name()
        line.take(",", "steps")
        reader.graph = (name, line.integer())
    elif line.has("source"):
        if line.integer() != len(reader.sources):
            line.fail(f"sources are numbered in order; this is number {len(reader.sources)}")
        reader.sources.append(line.string())
    elif line.has("neuron"):
        key = line.name()
        _once(line, key not in reader.neurons, f"neuron `{key}`")
        reader.program = reader.neurons[key] = []
    elif line.has("output"):
        name = line.name()
        line.take("=")
        _once(line, name not in reader.outputs, f"output `{name}`")
        reader.outputs[name] = _known(reader, line)
    elif line.has("stem"):
        _once(line, reader.stem is None, "`stem`")
        reader.stem = _known(reader, line)
    elif line.has("stage"):
        _read_stage(reader, line)
    elif line.has("block"):
        _read_block(reader, line)
    else:
        line.expected("a statement (%node, graph, source, neuron, stage, block, output or stem)")
    line.end()


def _once(line: Line, first: bool, what: str) -> None:
    if not first:
        line.fail(f"{what} is given twice")


def _known(reader: _Reader, line: Line) -> int:
    id = line.reference()
    if id not in reader.nodes:
        line.fail(f"there is no node %{id} before this line")
    return id


def _read_program(reader: _Reader, line: Line) -> None:
    if reader.program is None:
        line.fail("a line of a program stands outside of a neuron")
    sign, content = line.text[line.at], line.text[line.at + 1 :].removeprefix(" ")
    try:
        decoded = json.loads(f'"{content}"')
    except ValueError:
        line.fail("a program's line is not written as JSON writes it")
    if reader.program:
        decoded = ("\n" if sign == "|" else "; ") + decoded
    reader.program.append(decoded)


def _read_node(reader: _Reader, line: Line) -> None:
    id = line.reference()
    _once(line, id not in reader.nodes, f"node %{id}")
    path = line.path()
    if not path:
        line.fail("a node has a name")
    _once(line, path not in reader.names, f"the name `{'.'.join(path)}`")
    reader.names.add(path)
    line.take(":")
    value = _read_value(line)
    line.take("=")
    op = line.name("an operation")
    if op not in OPS:
        hint = did_you_mean(op, OPS)
        line.fail(f"there is no operation `{op}`" + (f"; {hint}" if hint else ""))
    inputs, attrs = _read_arguments(reader, line)
    node = Node(id, op, inputs, attrs, value, path[:-1], path[-1])
    reader.nodes[id] = (node, _read_origin(reader, line), line.number)


def _read_value(line: Line) -> Value:
    sizes = line.match(SIZES, "a shape such as `64x56x56`")
    line.skip()
    shape = () if sizes == "-" else tuple(map(int, sizes.split("x")))
    if line.has("spike"):
        kind = SPIKE
    elif line.has("analog"):
        kind = ANALOG
    elif line.has("count"):
        line.take("(")
        kind = Kind("count", line.integer())
        line.take(")")
    else:
        line.expected("`spike`, `count(...)` or `analog`")
    if line.has("varying"):
        return Value(shape, kind, True)
    line.take("static")
    return Value(shape, kind, False)


def _read_arguments(reader: _Reader, line: Line) -> tuple[tuple[int, ...], dict[str, Attribute]]:
    inputs: list[int] = []
    attrs: dict[str, Attribute] = {}
    line.take("(")
    if line.has(")"):
        return (), {}
    while True:
        if line.text.startswith("%", line.at):
            if attrs:
                line.fail("operands stand before attributes")
            inputs.append(_known(reader, line))
        else:
            name = line.name("an operand or an attribute")
            line.take("=")
            _once(line, name not in attrs, f"attribute `{name}`")
            attrs[name] = _read_attribute(line)
        if line.has(")"):
            return tuple(inputs), attrs
        line.take(",")


def _read_attribute(line: Line) -> Attribute:
    if line.text.startswith('"', line.at):
        return line.string()
    for word, value in (("true", True), ("false", False), ("none", None)):
        if line.has(word):
            return value
    return _read_number(line, "a value")


def _read_number(line: Line, what: str) -> int | float:
    text = line.match(NUMBER, what)
    line.skip()
    if not text.lstrip("-").isdigit():
        return float(text)
    if len(text) > 400:
        line.fail("the number is too long")
    return int(text)


def _read_origin(reader: _Reader, line: Line) -> _Place | None:
    if not line.has("@"):
        return None
    source = line.integer()
    if source >= len(reader.sources):
        line.fail(f"there is no source {source}")
    start = int(line.match(INDEX, "an offset"))
    line.take("..")
    end = line.integer()
    row = line.integer()
    line.take(":")
    column = line.integer()
    if not (0 < column <= start + 1 and row > 0 and start <= end <= _MAX_SOURCE):
        line.fail("an origin's offsets, line and column do not fit together")
    return source, start, end, row, column


def _read_stage(reader: _Reader, line: Line) -> None:
    scope = line.path()
    line.take(",")
    entry = _known(reader, line)
    line.take("->")
    result = _known(reader, line)
    line.take(",", "via")
    connection = line.name()
    line.take(",", "by")
    rule = line.name()
    line.take(",", "gives")
    form = _read_form(reader, line)
    stage = Stage(scope, connection, rule, entry, (), result, form)
    reader.stages.append((stage, _read_origin(reader, line), line.number))
    reader.blocks.append([])


def _read_block(reader: _Reader, line: Line) -> None:
    if not reader.stages:
        line.fail("a block stands before the first stage")
    scope = line.path()
    line.take(",")
    input = _known(reader, line)
    line.take("->")
    output = _known(reader, line)
    line.take(",", "join")
    join = _known(reader, line)
    line.take(",", "after")
    after: list[str] = []
    if not line.has("nothing"):
        while not line.text.startswith(",", line.at):
            after.append(line.name("an operation"))
    line.take(",", "fed", "by")
    block = Block(scope, input, output, join, tuple(after), _read_form(reader, line))
    reader.blocks[-1].append(block)


def _read_form(reader: _Reader, line: Line) -> Form:
    """A form. Iterative, so that no depth of brackets overflows the interpreter's stack."""
    open: list[list[object]] = [["root"]]
    while True:
        if line.has("in"):
            first, *last = _read_index(line)
            if last:
                line.fail("`in` takes one index")
            open[-1].append(("in", first))
        elif line.has("out"):
            first, *last = _read_index(line)
            end = last[0] if last else first
            reader.expanded += end - first
            if reader.expanded > _MAX_EXPANDED:
                line.fail(f"the forms hold more than {_MAX_EXPANDED:,} references")
            if last and len(open) == 1:
                line.fail("a range stands inside of sum(...), concat(...), max(...) or min(...)")
            open[-1] += [("out", index) for index in range(first, end + 1)]
        else:
            head = next((h for h in ("sum", "concat", "max", "min", "scale") if line.has(h)), None)
            if head is None or len(open) > _MAX_DEPTH:
                line.expected("an equation such as `sum(in[0], out[0 .. 2])`")
            line.take("(")
            open.append([head])
            if head == "scale":
                open[-1].append(_read_number(line, "a factor"))
                line.take(",")
            continue
        while len(open) > 1 and line.has(")"):
            form = tuple(open.pop())
            if form[0] == "scale" and len(form) != 3:
                line.fail("scale(...) takes a factor and one operand")
            open[-1].append(form)
        if len(open) == 1:
            result = open[0][1]
            assert isinstance(result, tuple)
            return result
        line.take(",")


def _read_index(line: Line) -> list[int]:
    line.take("[")
    indices = [int(line.match(INDEX, "an index"))]
    line.skip()
    if line.has(".."):
        indices.append(line.integer("an index"))
        if indices[1] < indices[0]:
            line.fail("a range runs upwards")
    line.take("]")
    return indices


# -- putting together -----------------------------------------------------------------------------


def _assemble(reader: _Reader, given: Mapping[str, SourceFile]) -> Graph:
    assert reader.graph is not None
    assert reader.stem is not None
    places: list[list[tuple[_Place, int]]] = [[] for _ in reader.sources]
    for _, place, number in chain(reader.nodes.values(), reader.stages):
        if place is not None:
            places[place[0]].append((place, number))
    files = [
        given[name] if name in given else _blank(name, found)
        for name, found in zip(reader.sources, places, strict=True)
    ]

    def origin(place: _Place | None, number: int) -> Span:
        if place is None:
            return NOWHERE
        source, start, end, row, column = place
        if files[source].position(start) != (row, column):
            raise GraphTextError(
                number, f"offset {start} of {files[source].name} is not at {row}:{column} (edited?)"
            )
        return Span(files[source], start, end)

    nodes = {
        id: replace(node, origin=origin(place, number))
        for id, (node, place, number) in reader.nodes.items()
    }
    stages = tuple(
        replace(stage, blocks=tuple(blocks), origin=origin(place, number))
        for (stage, place, number), blocks in zip(reader.stages, reader.blocks, strict=True)
    )
    name, steps = reader.graph
    neurons = {key: "".join(program) for key, program in reader.neurons.items()}
    return Graph(name, steps, nodes, reader.outputs, stages, neurons, reader.stem)


def _blank(name: str, places: Iterable[tuple[_Place, int]]) -> SourceFile:
    """A source of blanks in which every known line begins where it did."""
    begins = {1: 0}
    length = 0
    for (_, start, end, row, column), number in places:
        begin = start - column + 1
        if begins.setdefault(row, begin) != begin:
            raise GraphTextError(number, f"line {row} of {name} begins at two offsets")
        length = max(length, end)
    text = bytearray(b" " * length)
    ordered = sorted(begins.items())
    for (row, begin), (next_row, next_begin) in pairwise(ordered):
        gap = next_row - row
        if gap > next_begin - begin:
            raise GraphTextError(1, f"the lines {row} and {next_row} of {name} overlap")
        text[next_begin - gap : next_begin] = b"\n" * gap
    return SourceFile(name, text.decode("ascii"))
