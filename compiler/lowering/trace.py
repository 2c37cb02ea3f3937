"""Which value stands at which place of the text: noted while a network is lowered, for editors.

A place is the span of an expression that is a value, or of a layer that a value flows into. A place
in a block is reached once for each use of the block, so that it has several values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from danetc.compiler.ir.graph import Node
from danetc.dsl.loading import is_library
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span


@record
class PlacedValue:
    """At a place stands the value of a node. ``before`` is the node that flows into a layer there."""

    span: Span
    id: int
    before: int | None = None


@record
class CopiedNotes:
    """Notes that hold once more, of nodes that were copied: ``feed`` became ``new_feed``, and the ids
    of ``nodes`` are greater by ``shift``."""

    notes: range
    nodes: range
    shift: int
    feed: int
    new_feed: int

    def moved(self, id: int) -> int:
        """The node that stands for one of the first block in this copy."""
        return self.new_feed if id == self.feed else id + self.shift if id in self.nodes else id

    def moved_value(self, note: PlacedValue) -> PlacedValue:
        """What a note of the first block says of this copy."""
        before = None if note.before is None else self.moved(note.before)
        return PlacedValue(note.span, self.moved(note.id), before)


@record(frozen=False)
class Trace:
    """The notes of one network, with its nodes; it holds those made before an error, too."""

    nodes: Mapping[int, Node]
    carries: Mapping[int, int]
    notes: list[PlacedValue] = field(default_factory=list)
    copies: list[CopiedNotes] = field(default_factory=list)

    def note(self, span: Span, id: int, before: int | None = None) -> None:
        """Keep what stands at a place of the user's own text."""
        if not is_library(span.source):
            self.notes.append(PlacedValue(span, id, before))
