"""A network's topology as a drawing, through Graphviz.

Stages are frames, blocks are boxes in them, read from left to right; what a rule says of a stage's
blocks (``Block.feed``) is drawn as edges and junctions. Long runs of equal blocks are drawn as
one. Every text in the drawing is escaped; the names of its nodes are our own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from danetc.compiler.emit.boxes import (
    ANALOG,
    COUNT,
    INTERBLOCK,
    QUIET,
    SPIKE,
    Row,
    block_rows,
    layer_rows,
    line_style,
    shown,
    size,
    table,
)
from danetc.compiler.graph import Form, Graph, Node, Stage, Value

_SIGNS = {"sum": "+", "concat": "cat", "max": "max", "min": "min"}
_MOST_WHOLE = 6  # a stage of up to so many blocks is drawn whole
_MOST_NESTED = 4
_MOST_SHOWN = 12  # and no stage shows more blocks than this
_DECIMALS = re.compile(r"\b\d\.\d[\de.-]*")
_TIMEOUT = 60.0  # seconds for the layout


class DrawError(RuntimeError):
    """Graphviz is missing or failed."""


def to_svg(graph: Graph) -> str:
    """The drawing as SVG. Raises DrawError if Graphviz fails."""
    return _layout(to_dot(graph), "svg").decode("utf-8")


def to_png(graph: Graph) -> bytes:
    """The drawing as a PNG image. Raises DrawError if Graphviz fails."""
    return _layout(to_dot(graph), "png")


def _layout(text: str, kind: str) -> bytes:
    command = [_program(), "-Kdot", f"-T{kind}"]
    try:
        done = subprocess.run(
            command, input=text.encode("utf-8"), capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrawError(f"{command[0]}: {error}") from error
    if done.returncode != 0 or not done.stdout:
        raise DrawError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _program() -> str:
    """``dot`` where there is one, else the program that the package graphviz-pure installs."""
    beside = [Path(sysconfig.get_path("scripts")), Path(sys.executable).parent]
    found = shutil.which("dot") or shutil.which("graphviz-pure")
    for folder in () if found else beside:
        found = found or shutil.which("graphviz-pure", path=str(folder))
    if found is None:
        raise DrawError(
            "neither `dot` nor `graphviz-pure` is installed (pip install graphviz-pure)"
        )
    return found


def to_dot(graph: Graph) -> str:
    """The drawing in Graphviz's language."""
    drawing = _Drawing(graph)
    drawing.draw()
    return "\n".join(drawing.lines) + "\n"


# -- stages ---------------------------------------------------------------------------------------


@dataclass
class _Frame:
    """A stage as drawn: which of its blocks are shown, and under what name each can be met."""

    stage: Stage
    number: int
    boxes: list[list[Node]]
    rows: list[tuple[Row, ...]] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    box_of: list[str] = field(default_factory=list)
    outputs: set[int] = field(default_factory=set)

    def arrange(self, graph: Graph) -> None:
        stage = self.stage
        self.rows = [
            block_rows(graph, block, nodes)
            for block, nodes in zip(stage.blocks, self.boxes, strict=True)
        ]
        self.shown = _kept(self.rows)
        self.outputs = {block.output for block in stage.blocks}
        visible = set(self.shown)
        last = -1
        for index in range(len(stage.blocks)):
            last = index if index in visible else last
            name = f"b{index}" if index in visible else f"more{last + 1}"
            self.box_of.append(f"s{self.number}{name}")

    @property
    def entry(self) -> str:
        return f"s{self.number}in"


def _kept(rows: list[tuple[Row, ...]]) -> list[int]:
    """Which blocks to draw: all of a short stage, the ends of runs of equal blocks of others.

    Blocks are equal here if they differ in decimals alone: drop-path grows with depth.
    """
    n = len(rows)
    kinds = [_DECIMALS.sub("", "".join(map(str, block))) for block in rows]
    if n <= _MOST_WHOLE:
        return list(range(n))
    shown = {0, 1, n - 1}
    start = 0
    for index in range(1, n + 1):
        if index == n or kinds[index] != kinds[start]:
            run = range(start, index)
            shown |= set(run) if len(run) <= 3 else {run[0], run[-1]}
            start = index
    return sorted(shown if len(shown) <= _MOST_SHOWN else {0, 1, n - 1})


def _leaves(form: Form) -> list[tuple[str, int]]:
    """All values a form reads."""
    found: list[tuple[str, int]] = []
    todo: list[object] = [form]
    while todo:
        item = todo.pop()
        if isinstance(item, tuple):
            if item[0] in ("in", "out"):
                found.append((str(item[0]), int(item[1])))
            else:
                todo.extend(item[1:])
    return found


# -- the whole ------------------------------------------------------------------------------------


class _Drawing:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lines: list[str] = []
        self.frames: list[_Frame] = []
        self.where: dict[int, str] = {}  # node -> the box that shows it
        self.edges: dict[tuple[str, str, str], None] = {}
        self.users = graph.users()
        self.junctions = 0
        self.rule_nodes: set[int] = set()  # what a rule added between the blocks of a stage
        self.results = {
            stage.result: f"s{number}result"
            for number, stage in enumerate(graph.stages)
            if stage.result_form != ("out", len(stage.blocks) - 1)
        }

    def draw(self) -> None:
        self.lines += [
            "digraph topology {",
            f"  graph [rankdir=TB newrank=false compound=true nodesep=0.3 ranksep=0.75 "
            f'fontname="Helvetica" fontsize=11 labelloc=t label={self._title()}]',
            '  node [fontname="Helvetica" fontsize=10 shape=box style="rounded,filled" '
            'fillcolor=white color="#9ca3af" margin="0.08,0.04"]',
            '  edge [fontname="Helvetica" fontsize=9 arrowsize=0.6 penwidth=1.3]',
        ]
        self._assign()
        self._glue()
        for frame in self.frames:
            self._stage(frame)
        self._connect()
        self.lines += [f"  {a} -> {b} [{attrs}]" for a, b, attrs in self.edges]
        self.lines.append("}")

    def _title(self) -> str:
        graph = self.graph

        def key(colour: str, line: str, text: str) -> str:
            return f'<TD><FONT COLOR="{colour}"><B>{line}</B></FONT> {text}</TD>'

        value = graph.input.value
        facts = f"T = {graph.steps} · input {size(value.shape)}"
        legend = (
            key(SPIKE, "——", "spike (0 or 1)")
            + key(COUNT, "——", "count (whole numbers)")
            + key(ANALOG, "——", "analog")
            + key(QUIET, "- - -", "static: the same at each step")
            + f'<TD BGCOLOR="{INTERBLOCK}">interblock neuron</TD>'
        )
        return (
            '<<TABLE BORDER="0" CELLPADDING="4" CELLSPACING="4"><TR><TD COLSPAN="5">'
            f'<FONT POINT-SIZE="16"><B>{shown(graph.name)}</B></FONT>  {facts}</TD></TR>'
            f"<TR>{legend}</TR></TABLE>>"
        )

    def _assign(self) -> None:
        """Give every node of a block to its block; what is left of a stage is drawn by its rule."""
        owner: dict[tuple[str, ...], tuple[int, int]] = {}
        for number, stage in enumerate(self.graph.stages):
            owner[stage.scope] = (number, -1)
            for index, block in enumerate(stage.blocks):
                owner[block.scope] = (number, index)
            self.frames.append(_Frame(stage, number, [[] for _ in stage.blocks]))
        places: dict[int, tuple[int, int]] = {}
        for node in self.graph.nodes.values():
            ends = range(len(node.scope), 0, -1)
            place = next((owner[node.scope[:e]] for e in ends if node.scope[:e] in owner), None)
            if place is None:
                continue
            places[node.id] = place
            if place[1] < 0:
                self.rule_nodes.add(node.id)
            else:
                self.frames[place[0]].boxes[place[1]].append(node)
        for frame in self.frames:
            frame.arrange(self.graph)
        for id, (number, index) in places.items():
            if index >= 0:
                self.where[id] = self.frames[number].box_of[index]

    def _glue(self) -> None:
        """What stands outside of the stages: chains of layers of one scope share a box."""
        groups: dict[str, list[Node]] = {}
        for node in self.graph.nodes.values():
            if node.id in self.where or node.id in self.rule_nodes:
                continue
            before = self.graph[node.inputs[0]] if len(node.inputs) == 1 else None
            if (
                before is not None
                and before.op != "input"
                and before.scope == node.scope
                and len(self.users[before.id]) == 1
                and self.where.get(before.id) in groups
            ):
                self.where[node.id] = self.where[before.id]
            else:
                self.where[node.id] = f"g{node.id}"
                groups[f"g{node.id}"] = []
            groups[self.where[node.id]].append(node)
        for name, nodes in groups.items():
            scope = nodes[0].scope
            title = shown(".".join(scope))
            if nodes[0].op == "input":
                title = "input"
                rows = [Row("", size(nodes[0].value.shape))]
            else:
                rows = layer_rows(nodes, len(scope))
            self.lines.append(f'  {name} [fillcolor="#f3f4f6" label={table(title, rows)}]')
        for index, (output, id) in enumerate(self.graph.outputs.items()):
            name = f"out{index}"
            shape = size(self.graph[id].value.shape)
            self.lines.append(f'  {name} [shape=plain style="" label=<{shown(output)}  {shape}>]')
            self._edge(self._shown_at(id), name, self.graph[id].value)

    def _shown_at(self, id: int) -> str:
        """The box or junction that gives a node's value to the world outside of its stage."""
        while id not in self.where:
            if id in self.results:
                return self.results[id]
            id = self.graph[id].inputs[-1]  # a sum of the rule's: met through its last operand
        return self.where[id]

    def _edge(self, a: str, b: str, value: Value, label: str = "", more: str = "") -> None:
        text = f" label=<&#160;{label}>" if label else ""
        self.edges[(a, b, f"{line_style(value)}{text}{more}")] = None

    def _stage(self, frame: _Frame) -> None:
        stage, graph = frame.stage, self.graph
        result = graph[stage.result].value
        title = (
            f"<B>{shown('.'.join(stage.scope))}</B>   {len(stage.blocks)} blocks · "
            f"via {shown(stage.connection)} · by {shown(stage.rule)} · "
            f"gives {size(result.shape)} {result.kind}"
        )
        self.lines += [
            f"  subgraph cluster_{frame.number} {{",
            f'    label=<{title}> labeljust=l labelloc=b style="rounded,filled" '
            'color="#d1d5db" fillcolor="#f9fafb"',
            "    { rank=same",
            f'      {frame.entry} [shape=point width=0.09 style=filled fillcolor="{QUIET}"]',
        ]
        order = [frame.entry]
        previous = -1
        for index in frame.shown:
            if index > previous + 1:
                name, hidden = frame.box_of[previous + 1], index - previous - 1
                self.lines.append(
                    f'      {name} [style="rounded,dashed" label=<… {hidden} more …>]'
                )
                self._feed_hidden(frame, previous + 1, index)
                order.append(name)
            block = stage.blocks[index]
            target = frame.box_of[index]
            junction = self._feed(frame, block.feed, graph[block.input].value, target)
            self.lines.append(
                f"      {target} [label={table(f'block {index}', frame.rows[index])}]"
            )
            order += [*junction, target]
            previous = index
        if name := self.results.get(stage.result, ""):
            self.lines.append(f'      {name} [shape=point width=0.09 fillcolor="{QUIET}"]')
            order += [*self._feed(frame, stage.result_form, result, name), name]
        self.lines.append("    }")
        self.lines += [f"    {a} -> {b} [style=invis weight=50]" for a, b in pairwise(order)]
        self.lines.append("  }")

    def _source(self, frame: _Frame, leaf: tuple[str, int]) -> tuple[str, Value]:
        kind, index = leaf
        if kind == "in":
            return frame.entry, self.graph[frame.stage.entry].value
        return frame.box_of[index], self.graph[frame.stage.blocks[index].output].value

    def _feed(
        self, frame: _Frame, form: Form, value: Value, target: str, depth: int = 0
    ) -> list[str]:
        """Draw what a form says of ``target``; gives the junctions that were made on the way."""
        if form[0] in ("in", "out"):
            source, given = self._source(frame, _leaves(form)[0])
            self._edge(source, target, given)
            return []
        head = form[0]
        sign = f"×{form[1]}" if head == "scale" else _SIGNS[str(head)]
        name = f"j{self.junctions}"
        self.junctions += 1
        self.lines.append(
            f'      {name} [shape=circle fixedsize=true width=0.28 fillcolor="#fef9c3" '
            f"fontsize=9 margin=0 label=<{shown(sign)}>]"
        )
        made: list[str] = []
        read: dict[str, tuple[Value, list[int]]] = {}
        todo = [part for part in reversed(form[1:]) if isinstance(part, tuple)]
        while todo:
            part = todo.pop()
            if part[0] in ("in", "out") or depth > _MOST_NESTED:
                for leaf in _leaves(part):
                    source, given = self._source(frame, leaf)
                    read.setdefault(source, (given, []))[1].append(leaf[1])
            elif part[0] == head != "scale":  # a sum of sums is a sum
                todo += reversed(part[1:])
            else:
                made += self._feed(frame, part, value, name, depth + 1)
        for source, (given, indices) in read.items():
            low, high = min(indices), max(indices)
            label = f"{low} … {high}" if low < high else str(low)
            self._edge(source, name, given, label if "more" in source else "")
        self._edge(name, target, value)
        return [*made, name]

    def _feed_hidden(self, frame: _Frame, start: int, end: int) -> None:
        name = frame.box_of[start]
        seen: dict[str, Value] = {}
        for block in frame.stage.blocks[start:end]:
            for leaf in _leaves(block.feed):
                source, given = self._source(frame, leaf)
                seen.setdefault(source, given)
        for source, given in seen.items():
            if source != name:
                self._edge(source, name, given)

    def _connect(self) -> None:
        """Edges between boxes: into stages, and whatever is read across."""
        graph = self.graph
        inside = {box: frame for frame in self.frames for box in frame.box_of}
        for one, other in pairwise(self.frames):
            self.lines.append(f"  {one.entry} -> {other.entry} [style=invis weight=100]")
        for frame in self.frames:
            value = graph[frame.stage.entry].value
            source = self._shown_at(frame.stage.entry)
            weight = " weight=50" if source.startswith("g") else " weight=0"
            self._edge(source, frame.entry, value, size(value.shape), weight)
        for node in graph.nodes.values():
            target = self.where.get(node.id)
            if target is None:
                continue
            own = inside.get(target)
            for operand in node.inputs:
                source = self._shown_at(operand)
                if source == target or (own is not None and self._by_rule(own, operand)):
                    continue
                value = graph[operand].value
                weight = " weight=0" if source.startswith("s") else ""
                self._edge(source, target, value, size(value.shape), weight)

    def _by_rule(self, frame: _Frame, id: int) -> bool:
        """Whether a value reaches a stage's blocks by its rule: then its form has drawn it."""
        return id == frame.stage.entry or id in self.rule_nodes or id in frame.outputs
