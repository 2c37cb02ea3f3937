"""Backbones to nodes: stages, the rules between their blocks, and the blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import assert_never

from danetc.compiler.ir.graph import Block, Stage
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rule_forms import (
    Entry,
    Form,
    Input,
    Join,
    Learnt,
    Made,
    Output,
    Port,
    Scaled,
    folded,
)
from danetc.compiler.lowering.arguments import complete, follow_alias
from danetc.compiler.lowering.blocks import self_wired
from danetc.compiler.lowering.connections import connected, no_shortcut
from danetc.compiler.lowering.environment import Env
from danetc.compiler.lowering.learnt import met
from danetc.compiler.lowering.repeats import Repeats
from danetc.compiler.lowering.rules import RuleReader
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.values import (
    INVALID,
    Backbone,
    Bound,
    Invalid,
    Joined,
    LearntValue,
    StageOf,
    Value,
    Wire,
    describe,
)
from danetc.dsl.diagnostics.fixes import Edit, Fix, Hint
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

_JOINS: Mapping[str, str] = {row.rule: row.name for row in OPS.values() if row.rule is not None}


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
    """A stage: what its rule feeds each block, the blocks, and what the rule makes of them."""
    if isinstance(wire, Invalid):
        return INVALID
    builder = lowering.builder
    place = stage.rule.span if stage.rule is not None else stage.span
    rule = follow_alias(lowering, stage.rule) if stage.rule is not None else None
    reader: RuleReader | None = None
    if rule is not None:
        rule_env = complete(lowering, rule)
        with builder.site(place):
            reader = rule_reader(lowering, rule, rule_env, stage.blocks)
    repeats = Repeats(lowering, stage)
    scope = builder.scope
    first = len(builder.nodes)
    feeds = _Feeds(lowering, wire, place, reader)
    blocks: list[Block] = []
    for i in range(stage.blocks):
        with builder.site(place):
            chained = Output(i - 1) if i else Entry()
            form = reader.feed_of(i) if reader else chained
            second = reader.shortcut_of(i) if reader else None
            shortcut: Wire | Invalid | None = None
            with builder.within("blocks"):
                feed = feeds.built(form)
                if second is not None:
                    shortcut = feeds.built(second)
        if isinstance(feed, Invalid) or isinstance(shortcut, Invalid):
            return INVALID
        if i == 2:  # the first two tell how large the stage will be
            builder.foresee((len(builder.nodes) - first) // 2 * (stage.blocks - 2), stage.span)
        feeds.inputs.append(feed)
        with builder.within("blocks", str(i)), builder.site(stage.span):
            block_scope = builder.scope
            make = partial(_build_block, lowering, stage, feed, i, shortcut)
            joined = repeats.block(feed, i, make) if shortcut is None else make()
        if isinstance(joined.output, Invalid) or isinstance(joined.join, Invalid):
            return INVALID
        feeds.outputs.append(joined.output)
        blocks.append(
            Block(
                block_scope,
                feed.id,
                joined.output.id,
                joined.join.id,
                joined.after,
                form,
                None if shortcut is None or second is None else (shortcut.id, second),
            )
        )
    with builder.site(place):
        result_form = reader.result_form() if reader else Output(stage.blocks - 1)
        with builder.within("blocks"):
            result = feeds.built(result_form)
    if isinstance(result, Invalid):
        return INVALID
    lowering.stages.append(
        Stage(
            scope,
            stage.connection.name if stage.connection else "",
            rule.name if rule else "chain",
            wire.id,
            tuple(blocks),
            result.id,
            result_form,
            stage.span,
            follow_alias(lowering, stage.block).name,
        )
    )
    return result


def rule_reader(lowering: Lowering, rule: Bound, env: Env, blocks: int) -> RuleReader:
    """A reader of a rule's equations, with the rule's parameters in ``env``."""

    def constant(expr: s.Expr, values: dict[str, int]) -> Value:
        inner = Env(env.module, "rule", {**env.values, **values}, given=env.given)
        return lowering.evaluate(expr, inner)

    return RuleReader(rule.declaration, blocks, constant, lowering.builder.fail)


class _Feeds:
    """The values of a rule's forms, as the blocks of its stage are built."""

    def __init__(
        self, lowering: Lowering, entry: Wire, span: Span, reader: RuleReader | None
    ) -> None:
        self.lowering = lowering
        self.builder = lowering.builder
        self.entry = entry
        self.span = span
        self.learnt = reader.learnt if reader is not None else {}
        self.inputs: list[Wire] = []
        self.outputs: list[Wire] = []

    def built(self, form: Form) -> Wire | Invalid:
        """The nodes of a form, in the builder's scope."""
        return folded(form, self._port, self._made)

    def _port(self, port: Port) -> Wire | Invalid:
        match port:
            case Output(block):
                return self.outputs[block]
            case Input(block):
                return self.inputs[block]
            case Entry():
                return self.entry
        assert_never(port)

    def _made(self, form: Made, parts: list[Wire | Invalid]) -> Wire | Invalid:
        match form:
            case Join(name):
                return self.builder.add(_JOINS[name], tuple(parts), {}, self.span)
            case Scaled(factor):
                attrs = {"factor": factor, "offset": 0.0}
                return self.builder.add("affine", tuple(parts), attrs, self.span)
            case Learnt(name):
                return self._product(self.learnt[name], name, parts[0])
        assert_never(form)

    def _product(self, learnt: LearntValue, name: str, wire: Wire | Invalid) -> Wire | Invalid:
        """Learnt numbers, by their path below the stage, times a value."""
        if isinstance(wire, Invalid):
            return INVALID
        *place, leaf = name.split(".")
        scope = (*self.builder.scope[:-1], *place)
        numbers = met(self.lowering, replace(learnt, name=leaf, scope=scope), wire, self.span)
        assert isinstance(numbers, (Wire, Invalid))
        return self.builder.add("mul", (numbers, wire), {}, self.span)


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
