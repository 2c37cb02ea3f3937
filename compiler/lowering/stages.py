"""Backbones to nodes: stages, the rules between their blocks, and the blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from danetc.compiler.ir.graph import Block, Form, Stage
from danetc.compiler.ir.ops import OPS
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
    inputs: list[Wire] = []
    outputs: list[Wire] = []
    blocks: list[Block] = []
    for i in range(stage.blocks):
        with builder.site(place):
            form: Form = reader.feed_of(i) if reader else (("out", i - 1) if i else ("in", 0))
            second = reader.shortcut_of(i) if reader else None
            shortcut: Wire | Invalid | None = None
            with builder.within("blocks"):
                feed = _build_form(lowering, form, wire, inputs, outputs, place, reader)
                if second is not None:
                    shortcut = _build_form(lowering, second, wire, inputs, outputs, place, reader)
        if isinstance(feed, Invalid) or isinstance(shortcut, Invalid):
            return INVALID
        if i == 2:  # the first two tell how large the stage will be
            builder.foresee((len(builder.nodes) - first) // 2 * (stage.blocks - 2), stage.span)
        inputs.append(feed)
        with builder.within("blocks", str(i)), builder.site(stage.span):
            block_scope = builder.scope
            make = partial(_build_block, lowering, stage, feed, i, shortcut)
            joined = repeats.block(feed, i, make) if shortcut is None else make()
        if isinstance(joined.output, Invalid) or isinstance(joined.join, Invalid):
            return INVALID
        outputs.append(joined.output)
        blocks.append(
            Block(
                block_scope,
                feed.id,
                joined.output.id,
                joined.join.id,
                joined.after,
                form,
                None if shortcut is None else shortcut.id,
                second or (),
            )
        )
    with builder.site(place):
        result_form = reader.result_form() if reader else ("out", stage.blocks - 1)
        with builder.within("blocks"):
            result = _build_form(lowering, result_form, wire, inputs, outputs, place, reader)
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


def _build_form(
    lowering: Lowering,
    form: Form,
    entry: Wire,
    inputs: list[Wire],
    outputs: list[Wire],
    span: Span,
    reader: RuleReader | None,
) -> Wire | Invalid:
    """The nodes of a rule's form, which ``reader`` has read."""

    def build(part: object) -> Wire | Invalid:
        return _build_form(lowering, part, entry, inputs, outputs, span, reader)  # type: ignore[arg-type]

    match form:
        case ("in" | "out", int()):
            return _port(form, entry, inputs, outputs)
        case ("scale", factor, inner):
            wire = build(inner)
            return lowering.builder.add("affine", (wire,), {"factor": factor, "offset": 0.0}, span)  # type: ignore[dict-item]
        case ("learn", str(name), inner):
            wire = build(inner)
            if isinstance(wire, Invalid) or reader is None:
                return INVALID
            *place, leaf = name.split(".")
            scope = (*lowering.builder.scope[:-1], *place)
            numbers = met(
                lowering, replace(reader.learnt[name], name=leaf, scope=scope), wire, span
            )
            assert isinstance(numbers, (Wire, Invalid))
            return lowering.builder.add("mul", (numbers, wire), {}, span)
        case (join, *parts):
            ops: dict[object, str] = {
                row.rule: row.name for row in OPS.values() if row.rule is not None
            }
            wires = tuple(
                [
                    _port(part, entry, inputs, outputs)  # type: ignore[arg-type]
                    if part[0] in ("in", "out")  # type: ignore[index]
                    else build(part)
                    for part in parts
                ]
            )
            return lowering.builder.add(ops[str(join)], wires, {}, span)
    raise AssertionError(form)


def _port(form: Form, entry: Wire, inputs: list[Wire], outputs: list[Wire]) -> Wire:
    """What stands at ``in[j]`` or ``out[j]``. Most of a large stage's forms are these."""
    port, j = form
    assert isinstance(j, int)
    if port == "out":
        return outputs[j]
    return inputs[j] if j else entry


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
