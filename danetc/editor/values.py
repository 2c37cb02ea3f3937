"""The values of networks at the places of a file.

A place in a block is reached from each use of the block; one in a file that others use, from the
networks of those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from danetc.compiler.ir.graph import Value
from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.trace import PlacedValue, Trace
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis

MOST = 500
"""Uses of one place that are looked at."""


@dataclass(frozen=True)
class Reached:
    """A value at a place in one network. ``before`` is what flows into the layer there."""

    network: str
    trace: Trace
    id: int
    before_id: int | None

    @property
    def value(self) -> Value:
        return self.trace.nodes[self.id].value

    @property
    def before(self) -> Value | None:
        return None if self.before_id is None else self.trace.nodes[self.before_id].value

    @property
    def scope(self) -> str:
        """Where the node stands in its network: ``stages.0.blocks.1.branch``."""
        return ".".join(self.trace.nodes[self.id].scope)

    def neurons(self) -> tuple[int, int]:
        """How many layers of neurons lie between the input and here, and how many neurons they have."""
        nodes, carries = self.trace.nodes, self.trace.carries
        seen, waiting, layers, units = {self.id}, [self.id], 0, 0
        while waiting:
            node = nodes[waiting.pop()]
            if OPS[node.op].time == "neuron":
                layers += 1
                units += prod(node.value.shape)
            source = carries.get(node.id)
            for id in node.inputs if source is None else (source,):
                if id not in seen:
                    seen.add(id)
                    waiting.append(id)
        return layers, units


class PlaceValues:
    """The values at the places of a file, by the networks of ``analysis`` or of a file that uses it."""

    def __init__(self, analysis: Analysis, others: Sequence[Analysis] = ()) -> None:
        self.source = analysis.source
        self._analyses = (analysis, *(other for other in others if other is not analysis))

    @cached_property
    def _found(self) -> Mapping[tuple[int, int], list[tuple[str, Trace, int]]]:
        """The numbers of notes by places; of the first analysis that has any."""
        found: defaultdict[tuple[int, int], list[tuple[str, Trace, int]]] = defaultdict(list)
        for analysis in self._analyses:
            same: dict[SourceFile, bool] = {}
            for network, trace in analysis.survey.traces.items():
                for number, note in enumerate(trace.notes):
                    source = note.span.source
                    if source not in same:
                        same[source] = _is_same(source, self.source)
                    if same[source]:
                        found[note.span.start, note.span.end].append((network, trace, number))
            if found:
                break
        return found

    def at(self, span: Span) -> tuple[Reached, ...]:
        """The values at a place, those of the first network first; MOST at most."""
        found: list[Reached] = []
        seen: set[tuple[int, int]] = set()

        def add(network: str, trace: Trace, note: PlacedValue) -> None:
            if (id(trace), note.id) not in seen:
                seen.add((id(trace), note.id))
                found.append(Reached(network, trace, note.id, note.before))

        for network, trace, number in self._found.get((span.start, span.end), ()):
            add(network, trace, trace.notes[number])
            for copy in trace.copies:
                if len(found) >= MOST:
                    break
                if number in copy.notes:
                    add(network, trace, copy.moved_value(trace.notes[number]))
        return tuple(found[:MOST])


def _is_same(a: SourceFile, b: SourceFile) -> bool:
    return a is b or (a.name == b.name and a.text == b.text)
