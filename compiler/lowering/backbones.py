"""Flows of layers, and backbones: unfolded, wired, changed and cut."""

from __future__ import annotations

from dataclasses import replace

from danetc.compiler.ir.ops import OPS, norm_names
from danetc.compiler.lowering.axes import slice_of
from danetc.compiler.lowering.declared import MAX_DEPTH, complete, too_deep
from danetc.compiler.lowering.environment import LAYER_SETTINGS, Env, is_op
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.loops import carried, cut_of
from danetc.compiler.lowering.operations import drawn, operation
from danetc.compiler.lowering.values import (
    Backbone,
    Bound,
    Choice,
    Drawn,
    Failed,
    Identity,
    Invalid,
    Layer,
    Named,
    OpLayer,
    Sequence,
    StageOf,
    Value,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.fixes import Hint, replacing, using_std
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

MAX_ITEMS = 2_000
UNFOLDING = 40  # steps of work for each use of a backbone
ITEM = 3  # steps of work for each stage or layer of a backbone that is changed or passed on


def unfold(evaluator: Evaluator, bound: Bound, span: Span) -> Backbone:
    """A declared backbone with its arguments, unfolded."""
    evaluator.unfolding.append(bound.declaration)
    try:
        if len(evaluator.unfolding) > MAX_DEPTH:
            raise too_deep(evaluator, bound, evaluator.unfolding[:-1])
        if bound.declaration.value is None or bound.declaration.body is not None:
            raise evaluator.builder.fail(
                "E0408",
                f"backbone `{bound.name}` has no flow of stages",
                bound.declaration.name_span,
                hint="write `backbone NAME = stage(...) -> stage(...)`",
            )
        with evaluator.builder.site(span):
            env = complete(evaluator, replace(bound, span=span))
            value = evaluator.evaluate(bound.declaration.value, env, "backbone")
        if isinstance(value, Invalid):
            raise Failed
        if not isinstance(value, Backbone):
            raise evaluator.builder.fail(
                "E0403",
                f"backbone `{bound.name}` is {describe(value)}, not stages",
                bound.declaration.value.span,
            )
        evaluator.work.spend(UNFOLDING + ITEM * len(value.items), span)
        items = tuple(
            replace(item, use_sites=(span, *item.use_sites)) if isinstance(item, StageOf) else item
            for item in value.items
        )
        return Backbone(items, span)
    finally:
        evaluator.unfolding.pop()


def flow_value(evaluator: Evaluator, flow: s.Flow, env: Env) -> Value:
    """What `a -> b` is: a value that layers are applied to, a flow, or a backbone."""
    cut = cut_of(evaluator, flow, env)
    if cut is not None:
        first: Value = carried(evaluator, flow, cut, env)
    else:
        first = evaluator.evaluate(flow.steps[0], env, "layer")
    if isinstance(first, (Wire, Invalid)):
        wire: Wire | Invalid = first
        for step in flow.steps[1 if cut is None else cut + 1 :]:
            wire = evaluator.apply(layer_of(evaluator, step, env), wire, step.span)
        return wire
    steps = [_as_layer(evaluator, first, flow.steps[0].span)]
    steps += [layer_of(evaluator, step, env) for step in flow.steps[1:]]
    if any(isinstance(step, Backbone) for step in steps):
        items: list[StageOf | Layer] = []
        for layer in steps:
            items.extend(layer.items if isinstance(layer, Backbone) else (layer,))
        if len(items) > MAX_ITEMS:
            raise evaluator.builder.fail(
                "E0903", f"a backbone of more than {MAX_ITEMS:,} stages and layers", flow.span
            )
        return Backbone(tuple(items), flow.span)
    return Sequence(tuple(steps), flow.span)


def layer_of(evaluator: Evaluator, step: s.Expr, env: Env) -> Layer:
    """An expression that must be a layer (E0401)."""
    return _as_layer(evaluator, evaluator.evaluate(step, env, "layer"), step.span)


def _as_layer(evaluator: Evaluator, value: Value, span: Span) -> Layer:
    if isinstance(value, Invalid):
        raise Failed
    if isinstance(value, Bound) and is_op(value.name, value.kind, "layer") and not value.args:
        return operation(evaluator, value.name, (), Env(value.module, "flow"), span)
    if not is_layer(value):
        hint = None
        match value:
            case Wire():
                hint = "only layers can follow `->`; join values by `+` or `concat` first"
            case Bound(kind="connection"):
                hint = f"a connection wires a backbone: `BACKBONE via {value.name}`"
            case Bound(kind="rule"):
                hint = f"a rule feeds a backbone's blocks: `BACKBONE by {value.name}`"
        raise evaluator.builder.fail("E0401", f"{describe(value)} is not a layer", span, hint=hint)
    return value


def _backbone_of(evaluator: Evaluator, subject: s.Expr, env: Env, word: str) -> Backbone:
    value = evaluator.evaluate(subject, env, "backbone")
    return _as_backbone(evaluator, value, subject, word)


def _as_backbone(evaluator: Evaluator, value: Value, subject: s.Expr, word: str) -> Backbone:
    if isinstance(value, Invalid):
        raise Failed
    if isinstance(value, Named):
        value = value.layer
    if isinstance(value, Bound) and value.kind == "block":
        raise evaluator.builder.fail(
            "E0403",
            f"`{word}` wires the blocks of a backbone, and `{value.name}` is a block",
            subject.span,
            hint=f"write `stage({value.name}(...), 1) {word} ...`",
        )
    if not isinstance(value, Backbone):
        raise evaluator.builder.fail(
            "E0403", f"`{word}` wires a backbone, not {describe(value)}", subject.span
        )
    return value


def wire_stages(
    evaluator: Evaluator, subject: s.Expr, env: Env, word: str, by: s.Expr, kind: str
) -> Backbone:
    """`BACKBONE via CONNECTION` and `BACKBONE by RULE`; ``kind`` is what ``by`` must be."""
    backbone = _backbone_of(evaluator, subject, env, word)
    value = evaluator.evaluate(by, env, kind)
    if isinstance(value, Invalid):
        raise Failed
    if not isinstance(value, Bound) or value.kind != kind:
        raise evaluator.builder.fail(
            "E0403", f"`{word}` takes a {kind}, not {describe(value)}", by.span
        )
    evaluator.work.spend(ITEM * len(backbone.items), by.span)
    if any(getattr(stage, kind) is not None for stage in backbone.stages):
        raise evaluator.builder.fail(
            "E0302", f"the {kind} of this backbone is given twice", by.span
        )
    return backbone.wired(kind, value)


def change_settings(
    evaluator: Evaluator, subject: s.Expr, settings: tuple[s.Arg, ...], env: Env
) -> Backbone:
    """`BACKBONE with (neuron = ..., norm = ...)`."""
    backbone = _backbone_of(evaluator, subject, env, "with")
    changes: dict[str, Value] = {}
    for arg in settings:
        if arg.name not in LAYER_SETTINGS:
            name = arg.name or "a bare value"
            raise evaluator.builder.fail(
                "E0301",
                f"`with` cannot change `{name}`",
                arg.span,
                hint="it changes neuron, surrogate, norm, init or zero_init",
            )
        changes[arg.name] = check_setting(
            evaluator, arg.name, evaluator.evaluate(arg.value, env, arg.name), arg.value.span
        )
    evaluator.work.spend(ITEM * len(backbone.items), subject.span)
    stages = [{**stage.settings, **changes} for stage in backbone.stages]
    merged = iter(stages)
    items = tuple(
        replace(item, settings=next(merged)) if isinstance(item, StageOf) else item
        for item in backbone.items
    )
    return Backbone(items, backbone.span)


def check_setting(evaluator: Evaluator, name: str, value: Value, span: Span) -> Value:
    """A value of ``neuron``, ``surrogate``, ``norm``, ``init`` or ``zero_init``, checked."""
    if isinstance(value, (Invalid,)):
        raise Failed
    if isinstance(value, Named):
        value = value.layer
    if name == "norm":
        if isinstance(value, Identity) or (
            isinstance(value, OpLayer) and OPS[value.op].norm is not None
        ):
            return value
        raise evaluator.builder.fail(
            "E0403",
            f"{describe(value)} is not a norm",
            span,
            hint=f"norms are {', '.join(norm_names())} and none",
        )
    if name == "init":
        if isinstance(value, Choice):
            value = drawn(evaluator, value.id, span)
        if isinstance(value, Drawn):
            return value
        raise evaluator.builder.fail(
            "E0304",
            f"init is what weights start from, not {describe(value)}",
            span,
            hint="write `init = xavier_uniform`, `init = normal(0.02)`; `danetc list operations` "
            "lists them",
        )
    if name == "zero_init":
        if isinstance(value, bool):
            return value
        raise evaluator.builder.fail(
            "E0304", f"zero_init is true or false, not {describe(value)}", span
        )
    if isinstance(value, OpLayer) and name == "surrogate":
        if not evaluator.complete_names:
            raise Failed
        raise evaluator.builder.fail(
            "E0403",
            f"{describe(value)} is not a surrogate",
            span,
            hint=Hint("did you forget `use std`?", using_std(span.source)),
        )
    if not isinstance(value, Bound) or value.kind != name:
        quoted = isinstance(value, str) and value.isidentifier()
        raise evaluator.builder.fail(
            "E0403",
            f"{describe(value)} is not a {name}",
            span,
            hint=Hint(f"write the name without quotes: `{value}`", replacing(span, str(value)))
            if quoted
            else None,
        )
    return value


def part_of(evaluator: Evaluator, expr: s.At, env: Env) -> Backbone | Wire | Invalid:
    """`BACKBONE[i]` and `BACKBONE[i .. j]`, both ends included (E0409); of a value, its channels."""
    value = evaluator.evaluate(expr.base, env, "backbone")
    if isinstance(value, Wire):
        return slice_of(evaluator, value, expr, env)
    backbone = _as_backbone(evaluator, value, expr.base, "[...]")
    if len(expr.indices) != 1:
        raise evaluator.builder.fail("E0409", "a backbone takes one index or one range", expr.span)
    index = expr.indices[0]
    last = len(backbone.stages) - 1
    ends = (index.low, index.high) if isinstance(index, s.Range) else (index, index)
    numbers = [evaluator.whole(end, env, "the number of a stage", -(2**20), 2**20) for end in ends]
    for number, end in zip(numbers, ends, strict=True):
        if not 0 <= number <= last:
            raise evaluator.builder.fail(
                "E0409",
                f"there is no stage {number}: the backbone has stages 0 .. {last}",
                end.span,
                blame=evaluator.blame(end, env),
            )
    low, high = numbers
    if low > high:
        raise evaluator.builder.fail(
            "E0409",
            f"the range of stages {low} .. {high} is empty",
            index.span,
            hint="a range `a .. b` goes from the lower to the higher, both included",
        )
    evaluator.work.spend(ITEM * len(backbone.items), expr.span)
    return backbone.part(low, high)
