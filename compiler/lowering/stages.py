"""Stages: their blocks, one after the other, and what a rule feeds them.

A stage of 10,000 blocks is one line of text, and all but its first blocks are alike: these are copied
node by node, not lowered again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from operator import add, sub
from typing import assert_never

from danetc.compiler.ir.graph import Block, Node, Stage
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rule_forms import (
    Delayed,
    Form,
    InputOf,
    Join,
    OutputOf,
    Scaled,
    StageInput,
)
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.blocks import Connections
from danetc.compiler.lowering.environment import RecurrentState
from danetc.compiler.lowering.rules import RuleReader
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span

_JOINS: Mapping[str, str] = {row.rule: row.name for row in OPS.values() if row.rule is not None}
_SHAPE_HINT = "join it with a value of this step: `out[i-1] + (out[n-1] -> delay(1))`"
COPY = 8
"""Steps of work for a copied operation."""


class Stages(Connections):
    """Application of backbones."""

    def apply_backbone(self, backbone: v.Backbone, wire: v.Wire) -> v.Wire:
        """Apply the stages of a backbone and the layers between them, in order."""
        if not self.scope:
            with self.within(self.fresh("stages")):
                return self.apply_backbone(backbone, wire)
        stages, scope = backbone.stages, self.scope
        for stage in stages:
            self._check_wired(stage, backbone)
        blocks = sum(stage.blocks for stage in stages)
        self.check_bounds(stages[0].span, 2 * blocks)  # each block has at least two operations
        use_sites = stages[0].use_sites
        for item in backbone.items:
            if not isinstance(item, v.StageOf):
                with self.site(*use_sites):
                    wire = self.apply(item, wire, backbone.span)
                continue
            number = self.stage_numbers.get(scope, 0)
            self.stage_numbers[scope] = number + 1
            use_sites, settings = item.use_sites, {**self.settings, **item.settings}
            with (
                self.changed(scope=(*scope, str(number)), settings=settings),
                self.site(*use_sites),
            ):
                before, wire = wire, self._build_stage(item, wire)
                self.note(item.span, wire.id, before.id)
        return wire

    def _check_wired(self, stage: v.StageOf, backbone: v.Backbone) -> None:
        """Report a stage without a connection if its block has no body (E0605)."""
        if stage.connection is not None:
            return
        with self.site(*stage.use_sites):
            block = self.follow_alias(stage.block)
            if block.declaration.body is not None or block.env is not None:
                return
            hint = "add `via CONNECTION` to the backbone"
            if any(other.connection is not None for other in backbone.stages):
                hint = (
                    "`via` applies only to the expression before it: put the whole flow in "
                    "parentheses, `(stage(...) -> stage(...)) via CONNECTION`"
                )
            raise self.error(
                "E0605",
                f"block `{block.name}` has no connection",
                stage.span,
                label="these blocks have no body",
                hint=hint,
            )

    def _build_stage(self, stage: v.StageOf, wire: v.Wire) -> v.Wire:
        """Apply a stage; if its rule reads values of earlier steps, it is a loop over time."""
        reader, place = None, stage.span
        if stage.rule is not None:
            place, rule = stage.rule.span, self.follow_alias(stage.rule)
            env = self.complete(rule)
            with self.site(place):
                reader = RuleReader(self, rule.declaration, env, stage.blocks)
        builder = StageBuilder(self, stage, wire, place, reader)
        result = builder.build() if reader is None else self.converged(reader.env, builder.build)
        self.stages.append(builder.finish(result))
        return result

    def build_block(
        self, stage: v.StageOf, wire: v.Wire, i: int, shortcut: v.Wire | None
    ) -> v.Joined:
        """Apply block i; the rule may say what its shortcut begins at."""
        block, stride = stage.block, stage.stride if i == 0 else 1
        names = [param.name for param in block.declaration.params]
        if stride != 1 and "stride" not in names:
            what = f"block `{block.name}`" if block.env is None else "a flow"
            message = f"the stage has stride {stride}, but {what} has no parameter `stride`"
            hint = "give the block a parameter `stride = 1`, or the stage no stride"
            raise self.error("E0307", message, stage.span, hint=hint)
        if "stride" in names and "stride" not in block.args:
            block = replace(block, args={**block.args, "stride": stride})
        given = block.args.get("stride", stride)
        if not v.is_number(given):
            place = block.given["stride"].span if "stride" in block.given else block.span
            message = f"`stride` of block `{block.name}` must be a number, not {v.describe(given)}"
            raise self.error("E0304", message, place)
        block = self.follow_alias(block)
        if stage.connection is None:
            if shortcut is not None:
                raise self.no_shortcut(stage, f"block `{block.name}`, which has a body,")
            if block.env is not None and (flow := block.declaration.value) is not None:
                output = self.apply(self.layer_of(flow, block.env), wire, stage.span)
            else:
                output = self.self_wired(block, wire, {"i": i, "n": stage.blocks})
            return v.Joined(output, output, ())
        with self.site(stage.connection.span):
            connection = self.follow_alias(stage.connection)
            return self.connected(stage, block, connection, wire, i, int(given), shortcut)


@record(frozen=False, eq=False)
class StageBuilder:
    """Builds the blocks of one stage in order, and the forms of its rule.

    A block is a copy of an earlier one of the network if its declaration, its connection, their
    arguments, the settings, its stride and the shape of its input are the same; kinds are inferred
    anew. Blocks that read their index or take more than numbers are lowered each time.
    """

    lowering: Stages
    stage: v.StageOf
    entry: v.Wire
    place: Span  # of the rule
    reader: RuleReader | None = None
    blocks: list[Block] = field(default_factory=list)
    parts: tuple[object, ...] | None = None  # part of the key of copied blocks; None: no copies

    def build(self) -> v.Wire:
        """Build all blocks; return the result of the stage."""
        lowering, stage = self.lowering, self.stage
        self.blocks = []
        used = [bound for bound in (stage.block, stage.connection) if bound is not None]
        parts = [self._part(bound) for bound in used]
        self.parts = None if None in parts else (stage.blocks, *parts)
        first = len(lowering.nodes)
        for i in range(stage.blocks):
            if i == 2:  # the first two blocks tell the size of the stage
                nodes = (len(lowering.nodes) - first) // 2
                lowering.check_bounds(stage.span, nodes * (stage.blocks - 2))
            self._block(i)
        with lowering.site(self.place), lowering.within("blocks"):
            return self._emit(self._result())

    def finish(self, result: v.Wire) -> Stage:
        """Return the stage that was built."""
        stage = self.stage
        return Stage(
            self.lowering.scope,
            stage.connection.name if stage.connection else "",
            self.reader.rule.name if self.reader else "chain",
            self.entry.id,
            tuple(self.blocks),
            result.id,
            self._result(),
            stage.span,
            self.lowering.follow_alias(stage.block).name,
        )

    def _result(self) -> Form:
        form = self.reader.form_of("result") if self.reader else None
        return form or OutputOf(self.stage.blocks - 1)

    def _block(self, i: int) -> None:
        lowering = self.lowering
        with lowering.site(self.place):
            form = self.reader.form_of("in", i) if self.reader else None
            second = self.reader.form_of("shortcut", i) if self.reader else None
            form = form or (OutputOf(i - 1) if i else StageInput())
            with lowering.within("blocks"):
                feed = self._emit(form)
                start = None if second is None else self._emit(second)
        with lowering.within("blocks", str(i)), lowering.site(self.stage.span):
            scope = lowering.scope
            joined = self._joined(feed, i, start)
        shortcut = None if start is None or second is None else (start.id, second)
        self.blocks.append(
            Block(scope, feed.id, joined.output.id, joined.join.id, joined.after, form, shortcut)
        )

    # -- copies -----------------------------------------------------------------------------------

    def _part(self, bound: v.Bound) -> tuple[object, ...] | None:
        """Return the key of a block or connection with its arguments (`1` is not `true`).

        It is None if it may differ from one block of the stage to the next.
        """
        if bound.env is not None:
            return (bound,)  # by identity
        lowering = self.lowering
        declarations = bound.declaration, lowering.follow_alias(bound).declaration
        constant = all(isinstance(it, (bool, int, float, str)) for it in bound.args.values())
        if not constant or any("i" in lowering.names_in(each) for each in declarations):
            return None
        args = sorted((name, type(value).__name__, value) for name, value in bound.args.items())
        return id(bound.declaration), *args

    def _joined(self, feed: v.Wire, i: int, start: v.Wire | None) -> v.Joined:
        """Build block i in the current scope, or copy one like it."""
        lowering = self.lowering
        if self.parts is None or start is not None:
            return lowering.build_block(self.stage, feed, i, start)
        settings = tuple(lowering.settings.values())
        stride = self.stage.stride if i == 0 else 1
        value = lowering.value(feed)
        key = (self.parts, tuple(map(id, settings)), value.shape, value.varies, stride)
        known = lowering.known_blocks.get(key)
        if known is not None and len(known.use_sites) == len(lowering.use_sites):
            return self._copied(known, feed)
        before, first, totals = self._made(), len(lowering.nodes), lowering.totals
        notes = [] if lowering.trace is None else lowering.trace.notes
        noted = len(notes)
        joined = lowering.build_block(self.stage, feed, i, None)
        if before == self._made():
            lowering.known_blocks[key] = v.LoweredBlock(
                lowering.scope,
                range(first, len(lowering.nodes)),
                tuple(map(sub, lowering.totals, totals)),
                feed,
                joined,
                lowering.use_sites,
                settings,
                tuple(notes[noted:]),
            )
        return joined

    def _made(self) -> tuple[int, ...]:
        """Return counts that change if a block has stages, loops, shared layers or errors."""
        it = self.lowering
        tables = it.stages, it.carries, it.shared_nodes, it.shares
        return *map(len, tables), it.reporter.met

    def _copied(self, known: v.LoweredBlock, feed: v.Wire) -> v.Joined:
        """Copy the nodes of a block into this scope, with another input of the same shape."""
        lowering, nodes = self.lowering, self.lowering.nodes
        use_sites = dict(zip(known.use_sites, lowering.use_sites, strict=True))
        first, depth = known.nodes.start, len(known.scope)
        shift = len(nodes) - first
        lowering.work.spend(COPY * len(known.nodes), self.stage.span)
        scopes: dict[tuple[str, ...], tuple[str, ...]] = {}

        def moved(id: int) -> int:
            return id + shift if id >= first else feed.id if id == known.feed.id else id

        for id in known.nodes:
            old = nodes[id]
            inputs = tuple([moved(i) for i in old.inputs])
            value = lowering.inference.value(old.op, old.attrs, inputs) if inputs else old.value
            scope = scopes.setdefault(old.scope, (*lowering.scope, *old.scope[depth:]))
            nodes[id + shift] = Node(
                id + shift, old.op, inputs, old.attrs, value, scope, old.name, old.origin
            )
            for places in (lowering.used, lowering.written_at):
                if (place := places.get(id)) is not None:
                    places[id + shift] = use_sites.get(place, place)
            if id in lowering.resets:
                lowering.resets[id + shift] = lowering.resets[id]
        if lowering.trace is not None:
            lowering.trace.notes += [
                (span, moved(node), None if read is None else moved(read))
                for span, node, read in known.notes
            ]
        operands, weights, activations = map(add, lowering.totals, known.totals)
        lowering.totals = operands, weights, activations
        lowering.check_bounds(self.stage.span)
        output, join = (v.Wire(moved(wire.id)) for wire in (known.joined.output, known.joined.join))
        return v.Joined(output, join, known.joined.after)

    # -- forms of the rule ------------------------------------------------------------------------

    def _emit(self, form: Form) -> v.Wire:
        """Add the nodes of a form in the current scope."""
        lowering = self.lowering
        match form:
            case OutputOf(block) if block < len(self.blocks):
                return v.Wire(self.blocks[block].output)
            case InputOf(block) if block < len(self.blocks):
                return v.Wire(self.blocks[block].input)
            case OutputOf() | InputOf():  # an error, which was reported, came before it
                raise v.Failed
            case StageInput():
                return self.entry
            case Delayed(steps, value):
                assert self.reader is not None
                earlier = RecurrentState(
                    form, steps, lambda: self._emit(value), self.place, _SHAPE_HINT
                )
                return lowering.carry(self.reader.env.loops, earlier)
            case Join(name, parts):
                wires = tuple([self._emit(part) for part in parts])
                return lowering.add(_JOINS[name], wires, {}, self.place)
            case Scaled(str(name), value):
                wire = self._emit(value)
                assert self.reader is not None
                *place, leaf = name.split(".")  # path of the numbers, relative to the stage
                scope = (*lowering.scope[:-1], *place)
                learnt = replace(self.reader.learnt[name], name=leaf, scope=scope)
                numbers = lowering.parameter(learnt, wire, self.place)
                return lowering.add("mul", (numbers, wire), {}, self.place)
            case Scaled(factor, value):
                attrs = {"factor": factor, "offset": 0.0}
                return lowering.add("affine", (self._emit(value),), attrs, self.place)
        assert_never(form)
