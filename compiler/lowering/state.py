"""The state of one network's lowering."""

from __future__ import annotations

from itertools import takewhile

from danetc.compiler.ir.graph import Attribute, Stage, Value
from danetc.compiler.lowering.builder import Builder, Built
from danetc.compiler.lowering.evaluator import Evaluator, Mark, Shared
from danetc.compiler.lowering.trace import Trace
from danetc.compiler.lowering.values import (
    Given,
    Invalid,
    Joined,
    OnceMade,
    OpLayer,
    Wire,
)
from danetc.dsl.kinds import ANALOG, Kind, count
from danetc.dsl.loading import is_library
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span


@record
class Known:
    """A block that was lowered: its nodes, its input, and the uses that led to it.

    ``settings`` are those it was built with; they are kept so that no others get their ids.
    """

    built: Built
    feed: Wire
    joined: Joined
    use_sites: tuple[Span, ...]
    settings: tuple[object, ...]
    kind: Kind | None = None  # of its input, if another might change what its loops carry
    notes: range = range(0)  # what the trace has of it


class Lowering(Evaluator):
    """What is known of one network while it is lowered."""

    def __init__(
        self, builder: Builder, shared: Shared | None = None, trace: Trace | None = None
    ) -> None:
        super().__init__(builder, shared, trace)
        self.stages: list[Stage] = []
        self.stage_numbers: dict[tuple[str, ...], int] = {}  # how many stages a scope has so far
        self.programs: dict[object, str] = {}  # the builder's keys of the neurons needed so far
        self.block_layers: list[OpLayer] = []  # what `conv` in a connection means, innermost last
        self.inside: list[s.Declaration] = []  # the blocks that wire themselves, being wired
        self.known_blocks: dict[object, Known] = {}  # see ``Repeats``
        self.made_once: dict[
            OnceMade, tuple[int, ...]
        ] = {}  # what has weights where it stands first
        self.stands: dict[int, Span] = {}  # where `spike` and `norm` stand, by their nodes
        self.resets: dict[int, tuple[Given, ...]] = {}  # see ``Lowered``

    def mark(self) -> Mark:
        noted = (0, 0) if self.trace is None else self.trace.mark()
        return Mark(self.builder.mark(), len(self.stages), dict(self.stage_numbers), noted)

    def take_back(self, mark: Mark) -> None:
        first = self.builder.take_back(mark.built)
        if self.trace is not None:
            self.trace.take_back(mark.trace)
        del self.stages[mark.stages :]
        self.stage_numbers = dict(mark.stage_numbers)
        for known in (self.stands, self.resets):
            for id in list(takewhile(lambda id: id >= first, reversed(known))):
                del known[id]
        for part in [
            part for part, made in self.made_once.items() if max(made, default=-1) >= first
        ]:
            del self.made_once[part]
        for key in [
            key for key, item in self.known_blocks.items() if item.built.nodes.stop > first
        ]:
            del self.known_blocks[key]

    def note_place(self, made: Wire | Invalid, at: Span | None) -> None:
        """Keep where `spike` or `norm` stands that made a node, in text of the user's own."""
        if at is not None and isinstance(made, Wire):
            site = self.builder.own_site() if is_library(at.source) else None
            self.stands[made.id] = site or at

    def encode(
        self, name: str, shape: tuple[int, ...], bound: int | None, span: Span
    ) -> Wire | Invalid:
        """An input of the network; a static image is repeated at each step (passes undo it)."""
        kind = count(bound) if bound is not None else ANALOG
        events, own = name == "events", self.input_name
        known = (node for node in self.builder.nodes.values() if node.op == "input")
        if any(node.attrs.get("name", "") == own for node in known):
            raise self.builder.fail(
                "E0502",
                f"`{own}` holds two inputs" if own else "a network has one input",
                span,
                hint="several have names: `input = inputs(a = image(C, H, W), b = ...)`",
            )
        attrs: dict[str, Attribute] = {"events": events}
        if own:
            attrs["name"] = own
        wire = self.builder.add(
            "input", (), attrs, span, own or None, value=Value(shape, kind, events)
        )
        return self.at_each_step(wire, span)

    def at_each_step(self, wire: Wire | Invalid, span: Span) -> Wire | Invalid:
        """A value that varies: a static one is repeated."""
        if isinstance(wire, Invalid) or self.builder.value(wire).varies:
            return wire
        return self.builder.add("repeat", (wire,), {}, span)
