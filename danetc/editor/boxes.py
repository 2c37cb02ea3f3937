"""Where the boxes of a picture stand in the text: a click leads there, and the cursor leads back."""

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
"""Levels whose boxes are stages and blocks: these stand where a stage is called, not where its
operations do."""


@dataclass(frozen=True)
class BoxPlaces:
    """Places of a box.

    ``place`` is where it stands in the file itself, ``written`` in another file that it comes from;
    at the cursor is what has the shortest of its ``spans`` (in the file itself) around it. ``named``
    says that ``place`` is a declaration's name, since the file has nothing else of the box.
    """

    place: Span | None
    written: Span | None
    spans: tuple[Span, ...]
    named: bool = False


def box_places(checked: Checked, network: str, graph: Graph, level: str) -> Mapping[str, BoxPlaces]:
    """The places of each box of a network's picture that has any, by the key of the box.

    ``graph`` is that of the network after the passes. Raises DrawError as the level itself does.
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
        """The line of a neuron's body that a box shows; the neuron itself where it shows no line."""
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
        """Of places, the best first, those that count here."""
        best = [span for span in best if span.start < span.end]
        own = [span for span in best if span.source is self.source]
        called = [span for span in own if span not in self.names]
        elsewhere = next((span for span in best if span.source is not self.source), None)
        place = next(iter(called or own), self.network)
        around = (span for span in spans if span.source is self.source and span not in self.names)
        return BoxPlaces(place, elsewhere, tuple(dict.fromkeys(around)), named=not called)

    def _of_node(self, node: Node) -> Iterator[Span]:
        """The places of an operation: where it is written, and in this file what led there."""
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
        """What a stage is made of: its call, and what of its declarations this file has."""
        yield stage.origin
        for name in (stage.block, stage.connection, stage.rule):
            declaration = self.module.own.get(name)
            if declaration is not None:
                yield declaration.span

    def _line_names(self, nodes: Iterable[Node]) -> Iterator[str]:
        """The lines of the network that operations belong to, by the names of their modules."""
        for node in nodes:
            yield node.scope[0] if node.scope else node.name


def _lines(module: Module, network: str) -> Mapping[str, Span]:
    """The lines of a network by name, and of those that it is a variant of."""
    found: dict[str, Span] = {}
    own = module.own.get(network)
    for level in Resolved(own, module).lineage() if own is not None else ():
        for item in level.declaration.body or ():
            if isinstance(item, s.Define):
                found.setdefault(item.name, item.span)
    return found
