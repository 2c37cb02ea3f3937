"""Networks of an earlier check of a file that an edit left alone: they need no lowering again.

A network is made of its declaration and of all that its names lead to. Where each of these reads as
before, so does the network; only its places have moved.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from danetc.compiler.ir.graph import Node
from danetc.compiler.lowering.builder import PlacedValue, Trace
from danetc.compiler.lowering.networks import Lowered
from danetc.dsl.diagnostics.diagnostic import Diagnostic
from danetc.dsl.loading import is_library
from danetc.dsl.modules import Module
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

Move = Callable[[Span], Span]


@record(slots=False)
class Earlier:
    """What an earlier check had: a file, the networks without an error, and what was wrong."""

    module: Module
    lowered: Mapping[str, Lowered]
    traces: Mapping[str, Trace]
    errors: Sequence[Diagnostic]


class Reuse:
    """The networks of an earlier check, as a file has them now."""

    def __init__(self, earlier: Earlier, module: Module) -> None:
        self.earlier = earlier
        self.module = module
        self._names: dict[int, frozenset[str]] = {}  # in declarations, by their identity

    def network(self, name: str) -> tuple[Lowered, Trace] | None:
        """A network and its trace, with the places of now; None where it may be another one."""
        before, lowered = self.earlier.module, self.earlier.lowered.get(name)
        if lowered is None or name not in self.earlier.traces:
            return None
        old, outside = self._reached(before, name)
        new, outside_now = self._reached(self.module, name)
        if old.keys() != new.keys() or outside != outside_now:
            return None
        if not all(_reads_alike(item, new[key]) for key, item in old.items()):
            return None
        if not all(self._same(each) for each in outside):
            return None
        spans = [item.span for item in old.values()]
        if any(span.start <= error.span.start < span.end for error in self.earlier.errors
               for span in spans if error.span.source is before.source):  # fmt: skip
            return None  # it may have been reported there for another network
        moved = _move(before, self.module, [(item, new[key]) for key, item in old.items()])
        return _moved(lowered, self.earlier.traces[name], moved)

    def _reached(
        self, module: Module, name: str
    ) -> tuple[Mapping[str, s.Declaration], frozenset[str]]:
        """The declarations of a file that one leads to, and the names that are none of its own."""
        found: dict[str, s.Declaration] = {}
        outside: set[str] = set()
        waiting = [name]
        while waiting:
            name = waiting.pop()
            declaration = module.own.get(name)
            if declaration is None:
                outside.add(name)
            elif name not in found:
                found[name] = declaration
                waiting += self._names_in(declaration)
        return found, frozenset(outside)

    def _names_in(self, declaration: s.Declaration) -> frozenset[str]:
        known = self._names.get(id(declaration))
        if known is None:
            known = frozenset(node.id for node in s.walk(declaration) if isinstance(node, s.Name))
            self._names[id(declaration)] = known
        return known

    def _same(self, name: str) -> bool:
        """Whether a name of no declaration of the file means what it meant: nothing that a file has,
        or a declaration of the library."""
        before, now = self.earlier.module.names.get(name), self.module.names.get(name)
        if before is None or now is None:
            return before is now
        return before.declaration is now.declaration and is_library(before.module.source)


def _reads_alike(a: s.Declaration, b: s.Declaration) -> bool:
    return a.span.text == b.span.text and a == b


def _move(before: Module, now: Module, pairs: list[tuple[s.Declaration, s.Declaration]]) -> Move:
    """From the places of some declarations to those where they stand now."""
    pairs.sort(key=lambda pair: pair[0].span.start)
    starts = [old.span.start for old, _ in pairs]
    shifts = [new.span.start - old.span.start for old, new in pairs]

    def move(span: Span) -> Span:
        if span.source is not before.source:
            return span
        number = max(bisect_right(starts, span.start) - 1, 0)
        return Span(now.source, span.start + shifts[number], span.end + shifts[number])

    return move


def _moved(lowered: Lowered, trace: Trace, move: Move) -> tuple[Lowered, Trace]:
    graph = lowered.graph
    nodes = {
        id: Node(
            id, node.op, node.inputs, node.attrs, node.value, node.scope, node.name,
            move(node.origin),
        )
        for id, node in graph.nodes.items()
    }  # fmt: skip
    stages = tuple(replace(stage, origin=move(stage.origin)) for stage in graph.stages)
    resets = {
        id: tuple(replace(given, span=move(given.span)) for given in found)
        for id, found in lowered.resets.items()
    }
    again = replace(
        lowered,
        graph=replace(graph, nodes=nodes, stages=stages),
        used={id: move(span) for id, span in lowered.used.items()},
        stands={id: move(span) for id, span in lowered.stands.items()},
        resets=resets,
        says={name: move(span) for name, span in lowered.says.items()},
    )
    notes = [PlacedValue(move(note.span), note.id, note.before) for note in trace.notes]
    return again, Trace(trace.nodes, trace.carries, notes, trace.copies)
