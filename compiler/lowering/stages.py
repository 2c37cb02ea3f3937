"""Backbones to nodes: stages, the rules between their blocks, and the blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from danetc.compiler.ir.graph import Block, Stage
from danetc.compiler.ir.rule_forms import Form, OutputOf, StageInput
from danetc.compiler.lowering.blocks import self_wired
from danetc.compiler.lowering.connections import connected, no_shortcut
from danetc.compiler.lowering.declared import complete, follow_alias
from danetc.compiler.lowering.environment import Env, Loops
from danetc.compiler.lowering.feeds import Feeds
from danetc.compiler.lowering.loops import settled
from danetc.compiler.lowering.repeats import Repeats
from danetc.compiler.lowering.rules import RuleReader
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.values import (
    INVALID,
    Backbone,
    Bound,
    Invalid,
    Joined,
    StageOf,
    Value,
    Wire,
    describe,
)
from danetc.dsl.diagnostics.fixes import Edit, Fix, Hint
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span


def apply_backbone(lowering: Lowering, backbone: Backbone, wire: Wire | Invalid) -> Wire | Invalid:
    """A backbone as a layer: its stages and the layers between them, in order."""
    if not lowering.builder.scope:
        with lowering.builder.within(lowering.builder.fresh("stages")):
            return apply_backbone(lowering, backbone, wire)
    _check_wired(lowering, backbone)
    if backbone.stages:  # each block makes two operations or more
        blocks = sum(stage.blocks for stage in backbone.stages)
        lowering.builder.foresee(2 * blocks, backbone.stages[0].span)
    scope = lowering.builder.scope
    use_sites = backbone.stages[0].use_sites if backbone.stages else ()
    for item in backbone.items:
        if isinstance(item, StageOf):
            number = lowering.stage_numbers.get(scope, 0)
            lowering.stage_numbers[scope] = number + 1
            use_sites = item.use_sites
            with (
                lowering.builder.within(str(number)),
                _with_settings(lowering, item.settings),
                lowering.builder.site(*use_sites),
            ):
                before, wire = wire, _build_stage(lowering, item, wire)
                if lowering.trace is not None and isinstance(wire, Wire):
                    assert isinstance(before, Wire)
                    lowering.trace.note(item.span, wire.id, before.id)
        else:
            with lowering.builder.site(*use_sites):
                wire = lowering.apply(item, wire, backbone.span)
    return wire


def _check_wired(lowering: Lowering, backbone: Backbone) -> None:
    """Each stage has a connection, unless its blocks wire themselves."""
    for stage in backbone.stages:
        if stage.connection is not None:
            continue
        with lowering.builder.site(*stage.use_sites):
            block = follow_alias(lowering, stage.block)
            if block.declaration.body is not None:
                continue
            hint = "add `via CONNECTION` to the backbone"
            if any(other.connection is not None for other in backbone.stages):
                hint = Hint(
                    "`via` applies to what is right before it: put the whole flow in "
                    "parentheses, `(stage(...) -> stage(...)) via CONNECTION`",
                    *_in_parentheses(backbone),
                )
            raise lowering.builder.fail(
                "E0605",
                f"block `{block.name}` has no connection",
                stage.span,
                label="these blocks do not wire themselves",
                hint=hint,
            )


def _in_parentheses(backbone: Backbone) -> tuple[Fix, ...]:
    """Parentheses around a flow whose last stage alone has a connection, where `via` is seen."""
    first, last = backbone.stages[0].span, backbone.stages[-1]
    if last.connection is None or any(each.connection for each in backbone.stages[:-1]):
        return ()
    start, end, source = first.start, last.span.end, first.source
    via = last.connection.span
    written = via.source is source is last.span.source
    if not written or source.text[end : via.start].strip() != "via":
        return ()
    edits = Edit(Span(source, start, start), "("), Edit(Span(source, end, end), ")")
    return (Fix("put the whole flow in parentheses", edits),)


@contextmanager
def _with_settings(lowering: Lowering, settings: Mapping[str, Value]) -> Iterator[None]:
    outer = lowering.settings
    lowering.settings = {**outer, **settings}
    try:
        yield
    finally:
        lowering.settings = outer


def _build_stage(lowering: Lowering, stage: StageOf, wire: Wire | Invalid) -> Wire | Invalid:
    """A stage: what its rule feeds each block, the blocks, and what the rule makes of them.

    Where the rule reads values of earlier steps it is a loop over time, and read as one.
    """
    if isinstance(wire, Invalid):
        return INVALID
    if stage.rule is None:
        blocks = _Blocks(lowering, stage, wire, stage.span)
        result: Value = blocks.build()
    else:
        place = stage.rule.span
        rule = follow_alias(lowering, stage.rule)
        env = complete(lowering, rule)
        with lowering.builder.site(place):
            reader = rule_reader(lowering, rule, env, stage.blocks)

        def read() -> Value:
            nonlocal blocks
            blocks = _Blocks(lowering, stage, wire, place, reader, env.loops)
            return blocks.build()

        result = settled(lowering, env, read)
    if not isinstance(result, Wire):
        return INVALID
    lowering.stages.append(blocks.stage(result))
    return result


class _Blocks:
    """The blocks of a stage in the making, one after the other."""

    def __init__(
        self,
        lowering: Lowering,
        stage: StageOf,
        entry: Wire,
        place: Span,
        reader: RuleReader | None = None,
        loops: Loops | None = None,
    ) -> None:
        self.lowering = lowering
        self.builder = lowering.builder
        self.stage_of = stage
        self.place = place
        self.reader = reader
        self.scope = lowering.builder.scope
        learnt = reader.learnt if reader is not None else {}
        self.feeds = Feeds(lowering, entry, place, learnt, stage.blocks, loops)
        self.repeats = Repeats(lowering, stage)
        self.blocks: list[Block] = []

    def build(self) -> Wire | Invalid:
        """All blocks. Gives what the stage gives."""
        first = len(self.builder.nodes)
        for i in range(self.stage_of.blocks):
            if i == 2:  # the first two tell how large the stage will be
                nodes = (len(self.builder.nodes) - first) // 2
                self.builder.foresee(nodes * (self.stage_of.blocks - 2), self.stage_of.span)
            if not self._block(i):
                return INVALID
        with self.builder.site(self.place), self.builder.within("blocks"):
            return self.feeds.built(self._result_form())

    def _result_form(self) -> Form:
        return self.reader.result_form() if self.reader else OutputOf(self.stage_of.blocks - 1)

    def _fed(self, i: int) -> tuple[Form, Form | None]:
        """What the rule says of block i and of its shortcut; without one each follows the last."""
        if self.reader is None:
            return OutputOf(i - 1) if i else StageInput(), None
        return self.reader.feed_of(i), self.reader.shortcut_of(i)

    def _block(self, i: int) -> bool:
        """Block i; whether there is one, without an error."""
        with self.builder.site(self.place):
            form, second = self._fed(i)
            with self.builder.within("blocks"):
                feed = self.feeds.built(form)
                start = None if second is None else self.feeds.built(second)
        if isinstance(feed, Invalid) or isinstance(start, Invalid):
            return False
        self.feeds.inputs.append(feed)
        with self.builder.within("blocks", str(i)), self.builder.site(self.stage_of.span):
            scope = self.builder.scope
            make = partial(_build_block, self.lowering, self.stage_of, feed, i, start)
            joined = self.repeats.block(feed, i, make) if start is None else make()
        if isinstance(joined.output, Invalid) or isinstance(joined.join, Invalid):
            return False
        self.feeds.outputs.append(joined.output)
        shortcut = None if start is None or second is None else (start.id, second)
        self.blocks.append(
            Block(scope, feed.id, joined.output.id, joined.join.id, joined.after, form, shortcut)
        )
        return True

    def stage(self, result: Wire) -> Stage:
        """The stage that was built, and gives ``result``."""
        stage = self.stage_of
        return Stage(
            self.scope,
            stage.connection.name if stage.connection else "",
            self.reader.rule.name if self.reader else "chain",
            self.feeds.entry.id,
            tuple(self.blocks),
            result.id,
            self._result_form(),
            stage.span,
            follow_alias(self.lowering, stage.block).name,
            tuple((wire.id, form) for form, wire in self.feeds.delayed.items()),
        )


def rule_reader(lowering: Lowering, rule: Bound, env: Env, blocks: int) -> RuleReader:
    """A reader of a rule's equations, with the rule's parameters in ``env``."""

    def constant(expr: s.Expr, values: dict[str, int]) -> Value:
        inner = Env(env.module, "rule", {**env.values, **values}, given=env.given)
        return lowering.evaluate(expr, inner)

    return RuleReader(rule.declaration, blocks, constant, lowering.builder.fail)


def _build_block(
    lowering: Lowering, stage: StageOf, wire: Wire, i: int, shortcut: Wire | None
) -> Joined:
    """Block i of a stage, wired by its connection; the rule may say what its shortcut starts from."""
    stride = stage.stride if i == 0 else 1
    names = [param.name for param in stage.block.declaration.params]
    if stride != 1 and "stride" not in names and "stride" not in stage.block.args:
        raise lowering.builder.fail(
            "E0307",
            f"the stage has stride {stride}, but block `{stage.block.name}` has no parameter `stride`",
            stage.span,
            hint="give the block a parameter `stride = 1`, or the stage no stride",
        )
    block = stage.block
    if "stride" in names and "stride" not in block.args:
        block = replace(block, args={**block.args, "stride": stride})
    given = block.args.get("stride", stride)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise lowering.builder.fail(
            "E0304",
            f"`stride` of block `{block.name}` must be a number, not {describe(given)}",
            block.given["stride"].span if "stride" in block.given else block.span,
        )
    stride = int(given)
    block = follow_alias(lowering, block)
    if stage.connection is None:
        if shortcut is not None:
            raise no_shortcut(lowering, stage, f"block `{block.name}`, which wires itself,")
        output = self_wired(lowering, block, wire, {"i": i, "n": stage.blocks})
        return Joined(output, output, ())
    with lowering.builder.site(stage.connection.span):
        return connected(
            lowering,
            stage,
            block,
            follow_alias(lowering, stage.connection),
            wire,
            i,
            stride,
            shortcut,
        )
