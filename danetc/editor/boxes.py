"""Places of a picture's boxes in the text, for clicks on a box and for highlighting at the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from danetc.compiler.draw.members import members
from danetc.compiler.draw.neuron import drawn_equations
from danetc.compiler.frontend.program import Checked
from danetc.compiler.ir.graph import Graph, Node, Stage
from danetc.compiler.lowering.networks import Lowered
from danetc.dsl.loading import is_library
from danetc.dsl.modules import Module, Resolved
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import SourceFile, Span

_WHOLE = ("network", "stage")
"""Levels whose boxes are stages and blocks, which are placed at the call of the stage."""


@dataclass(frozen=True)
class BoxPlaces:
    """Places of a box.

    ``place`` is its place in the file itself, ``written`` its place in another file. The box at the
    cursor is the one with the shortest of its ``spans`` (in the file itself) around the cursor.
    ``named`` is True if ``place`` is just the name of a declaration.
    """

    place: Span | None
    written: Span | None
    spans: tuple[Span, ...]
    named: bool = False


def box_places(checked: Checked, network: str, graph: Graph, level: str) -> Mapping[str, BoxPlaces]:
    """Return the places of the boxes of a network's picture, by the key of the box.

    ``graph`` is that of the network after the passes. Raises DrawError like the level itself.
    """
    finder = _Finder(checked.module, checked.lowered[network], network)
    if level == "neuron":
        found = {
            key: finder.of_equation(graph.neurons[neuron].name, name)
            for key, (neuron, name) in drawn_equations(graph).items()
        }
    else:
        found = {
            key: finder.of_operations(graph, key, ids, level)
            for key, ids in members(graph, level).items()
        }
    return {key: places for key, places in found.items() if places.place or places.written}


class _Finder:
    def __init__(self, module: Module, lowered: Lowered, network: str) -> None:
        self.module = module
        self.source: SourceFile = module.source
        self.lowered = lowered
        self.names = {item.name_span for item in module.own.values()}
        self.lines = _lines(module, network)
        declaration = module.own.get(network)
        self.network = declaration.name_span if declaration is not None else None

    def of_operations(self, graph: Graph, key: str, ids: Iterable[int], level: str) -> BoxPlaces:
        nodes = [graph[id] for id in ids if id in graph.nodes]
        stages = list(dict.fromkeys(self._stage(graph, node) for node in nodes))
        stage = stages[0] if stages else None
        whole = level in _WHOLE and stage is not None
        if whole:
            best: list[Span] = [stage.origin] if stage is not None else []
            around = [span for each in stages if each is not None for span in self._around(each)]
        else:
            best = [span for node in nodes for span in self._of_node(node)]
            around = best + [each.origin for each in stages if each is not None]
        lines = [self.lines[name] for name in self._line_names(nodes) if name in self.lines]
        rest = [] if stage is None else [stage.origin]
        return self._places([*best, *rest, *lines], [*best, *around, *lines])

    def of_equation(self, neuron: str, name: str) -> BoxPlaces:
        """Return the line of a neuron's body that a box shows, or the neuron itself."""
        resolved = self.module.names.get(neuron)
        if resolved is None:
            return BoxPlaces(None, None, ())
        declaration = resolved.declaration
        lines = [
            item.span
            for item in declaration.body or ()
            if isinstance(item, s.Define | s.State) and item.name == name
        ]
        return self._places([*reversed(lines), declaration.span], lines)

    def _places(self, best: list[Span], spans: list[Span]) -> BoxPlaces:
        """Select the places of a box from candidates, the best first."""
        best = [span for span in best if span.start < span.end]
        own = [span for span in best if span.source is self.source]
        called = [span for span in own if span not in self.names]
        elsewhere = next((span for span in best if span.source is not self.source), None)
        place = next(iter(called or own), self.network)
        around = (span for span in spans if span.source is self.source and span not in self.names)
        return BoxPlaces(place, elsewhere, tuple(dict.fromkeys(around)), named=not called)

    def _of_node(self, node: Node) -> Iterator[Span]:
        """Yield the places of an operation: its text, and its use in this file."""
        stands = self.lowered.stands.get(node.id)
        if stands is not None:
            yield stands
        yield node.origin
        used = self.lowered.used.get(node.id)
        if used is not None and not is_library(used.source):
            yield used

    def _stage(self, graph: Graph, node: Node) -> Stage | None:
        return next(
            (stage for stage in graph.stages if node.scope[: len(stage.scope)] == stage.scope), None
        )

    def _around(self, stage: Stage) -> Iterator[Span]:
        """Yield the call of a stage, and its declarations in this file."""
        yield stage.origin
        for name in (stage.block, stage.connection, stage.rule):
            declaration = self.module.own.get(name)
            if declaration is not None:
                yield declaration.span

    def _line_names(self, nodes: Iterable[Node]) -> Iterator[str]:
        """Yield the names of the network's lines that operations belong to."""
        for node in nodes:
            yield node.scope[0] if node.scope else node.name


def _lines(module: Module, network: str) -> Mapping[str, Span]:
    """Return the lines of a network and its bases by name."""
    found: dict[str, Span] = {}
    own = module.own.get(network)
    for level in Resolved(own, module).lineage() if own is not None else ():
        for item in level.declaration.body or ():
            if isinstance(item, s.Define):
                found.setdefault(item.name, item.span)
    return found
