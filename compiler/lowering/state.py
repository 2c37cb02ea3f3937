"""The state of one network's lowering, and what each kind of layer makes of a value."""

from __future__ import annotations

from danetc.compiler.ir.builder import Builder
from danetc.compiler.ir.graph import Stage, Value
from danetc.compiler.lowering.blocks import apply_block
from danetc.compiler.lowering.evaluator import Evaluator, Shared
from danetc.compiler.lowering.layers import apply_neuron, apply_operation
from danetc.compiler.lowering.repeats import Known
from danetc.compiler.lowering.stages import apply_backbone
from danetc.compiler.lowering.values import (
    POISON,
    Backbone,
    BlockConv,
    Bound,
    Given,
    Identity,
    Layer,
    Named,
    OpLayer,
    Poison,
    Sequence,
    Wire,
    describe,
)
from danetc.dsl.kinds import ANALOG, count
from danetc.dsl.modules import is_library
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span


class Lowering(Evaluator):
    """Lowers one network. Use ``lower``."""

    def __init__(self, builder: Builder, shared: Shared | None = None) -> None:
        super().__init__(builder, shared)
        self.stages: list[Stage] = []
        self.stage_numbers: dict[tuple[str, ...], int] = {}  # how many stages a scope has so far
        self.programs: dict[object, str] = {}  # the builder's keys of the neurons needed so far
        self.block_layers: list[OpLayer] = []  # what `conv` in a connection means, innermost last
        self.inside: list[s.Declaration] = []  # the blocks that wire themselves, being wired
        self.known_blocks: dict[object, Known] = {}  # see ``Repeats``
        self.stands: dict[int, Span] = {}  # where `spike` and `norm` stand, by their nodes
        self.resets: dict[int, tuple[Given, ...]] = {}  # see ``Lowered``

    def note_place(self, made: Wire | Poison, at: Span | None) -> None:
        """Keep where `spike` or `norm` stands that made a node, in text of the user's own."""
        if at is not None and isinstance(made, Wire):
            site = self.builder.own_site() if is_library(at.source) else None
            self.stands[made.id] = site or at

    def apply(self, layer: Layer, wire: Wire | Poison, span: Span) -> Wire | Poison:
        """What a layer makes of a value; new nodes stand in the builder's scope."""
        if isinstance(wire, Poison):
            return POISON
        self.builder.count_layer(span)
        match layer:
            case Identity():
                return wire
            case Sequence(steps):
                for step in steps:
                    wire = self.apply(step, wire, span)
                return wire
            case Named(name, inner):
                with self.builder.within(self.builder.fresh(name)):
                    return self.apply(inner, wire, span)
            case OpLayer():
                return apply_operation(self, layer, wire)
            case BlockConv(changes):
                return apply_operation(self, self.block_layers[-1].having(**changes), wire)
            case Backbone():
                return apply_backbone(self, layer, wire)
            case Bound(kind="neuron"):
                return apply_neuron(self, layer, wire)
            case Bound(kind="block"):
                return apply_block(self, layer, wire)
        raise self.builder.fail("E0401", f"{describe(layer)} is not a layer", span)

    def encode(
        self, name: str, shape: tuple[int, ...], bound: int | None, span: Span
    ) -> Wire | Poison:
        """The network's input; a static image is repeated at each step (passes undo it)."""
        kind = count(bound) if bound is not None else ANALOG
        events = name == "events"
        if any(node.op == "input" for node in self.builder.nodes.values()):
            raise self.builder.fail("E0502", "a network has one input", span)
        wire = self.builder.add(
            "input", (), {"events": events}, span, value=Value(shape, kind, events)
        )
        return wire if events else self.builder.add("repeat", (wire,), {}, span)
