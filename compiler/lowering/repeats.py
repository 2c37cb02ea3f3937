"""Blocks that are like an earlier one: copied node by node, not lowered again.

A stage of 10,000 blocks is said in one line, and all but its first blocks come out alike.
"""

from __future__ import annotations

from collections.abc import Callable

from danetc.compiler.lowering.declared import follow_alias
from danetc.compiler.lowering.state import Known, Lowering
from danetc.compiler.lowering.trace import CopiedNotes
from danetc.compiler.lowering.values import Bound, Joined, StageOf, Wire


class Repeats:
    """The blocks of a stage, built from those of the network that are like them.

    A block comes out alike where its declaration, its connection, their arguments, the settings,
    the shape of the value that feeds it and its stride are the same; kinds are inferred anew. One
    that reads its index, or that is given more than numbers, is lowered each time.
    """

    def __init__(self, lowering: Lowering, stage: StageOf) -> None:
        self.lowering = lowering
        self.stage = stage
        used = [bound for bound in (stage.block, stage.connection) if bound is not None]
        self._parts: tuple[object, ...] | None = None
        if not any(_differs(lowering, bound) for bound in used):
            self._parts = (stage.blocks, *(_part(bound) for bound in used))

    def block(self, feed: Wire, i: int, make: Callable[[], Joined]) -> Joined:
        """Block i in the builder's scope: a copy, or what ``make`` makes."""
        if self._parts is None:
            return make()
        lowering, builder = self.lowering, self.lowering.builder
        settings = tuple(lowering.settings.values())
        stride = self.stage.stride if i == 0 else 1
        value = builder.value(feed)
        key = (self._parts, tuple(map(id, settings)), value.shape, value.varies, stride)
        known = lowering.known_blocks.get(key)
        alike = known is not None and known.kind in (None, value.kind)
        if known is not None and alike and len(known.use_sites) == len(builder.use_sites):
            return self._copied(known, feed)
        stages, errors = len(lowering.stages), builder.reporter.met
        trace = lowering.trace
        noted = 0 if trace is None else len(trace.notes)
        once = len(lowering.made_once), len(builder.shares)
        with builder.building() as built:
            joined = make()
        inner = len(lowering.stages) > stages  # stages inside of a block are not copied
        inner = inner or once != (
            len(lowering.made_once),
            len(builder.shares),
        )  # nor what is shared
        if not inner and errors == builder.reporter.met:
            kind = None if builder.carries.keys().isdisjoint(built.nodes) else value.kind
            notes = range(noted, noted if trace is None else len(trace.notes))
            lowering.known_blocks[key] = Known(
                built, feed, joined, tuple(builder.use_sites), settings, kind, notes
            )
        return joined

    def _copied(self, known: Known, feed: Wire) -> Joined:
        lowering, nodes = self.lowering, known.built.nodes
        use_sites = dict(zip(known.use_sites, lowering.builder.use_sites, strict=True))
        shift = lowering.builder.copy(known.built, known.feed, feed, use_sites)
        if lowering.trace is not None and known.notes:
            copy = CopiedNotes(known.notes, nodes, shift, known.feed.id, feed.id)
            lowering.trace.copies.append(copy)
        for id in nodes:
            if id in lowering.stands:
                place = lowering.stands[id]
                lowering.stands[id + shift] = use_sites.get(place, place)
            if id in lowering.resets:
                lowering.resets[id + shift] = lowering.resets[id]

        def moved(wire: object) -> Wire:
            assert isinstance(wire, Wire)
            if wire == known.feed:
                return feed
            return Wire(wire.id + shift) if wire.id in nodes else wire

        joined = known.joined
        return Joined(moved(joined.output), moved(joined.join), joined.after)


def _part(bound: Bound) -> tuple[object, ...]:
    """What a block or a connection depends on (`1` is not `true`)."""
    args = sorted((name, type(value).__name__, value) for name, value in bound.args.items())
    return id(bound.declaration), *args


def _differs(lowering: Lowering, bound: Bound) -> bool:
    """Whether a block or connection may come out otherwise from one block of a stage to the next."""
    declarations = bound.declaration, follow_alias(lowering, bound).declaration
    reads_index = any("i" in lowering.names_in(declaration) for declaration in declarations)
    return reads_index or any(
        not isinstance(value, (bool, int, float, str)) for value in bound.args.values()
    )
