"""Evaluation of flows of layers and of expressions of backbones."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from danetc.compiler.ir.ops import OPS, norm_names
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.environment import LAYER_SETTINGS, WANTED, Env, Want, is_op
from danetc.compiler.lowering.evaluator import MAX_DEPTH
from danetc.compiler.lowering.loops import LoopsOverTime
from danetc.dsl.diagnostics.fixes import Hint, replacing, using_std
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

MAX_ITEMS = 2_000
UNFOLDING = 40  # work for each use of a backbone
ITEM = 3  # work for each stage or layer of a backbone


class Backbones(LoopsOverTime):
    """Values of flows and of expressions of backbones."""

    def unfold(self, bound: v.Bound, span: Span) -> v.Backbone:
        """Return the stages of a declared backbone with its arguments."""
        declaration = bound.declaration
        with self.changed(unfolding=[*self.unfolding, declaration]):
            if len(self.unfolding) > MAX_DEPTH:
                raise self.too_deep(bound, self.unfolding[:-1])
            if declaration.value is None or declaration.body is not None:
                message = f"backbone `{bound.name}` has no flow of stages"
                hint = "write `backbone NAME = stage(...) -> stage(...)`"
                raise self.error("E0408", message, declaration.name_span, hint=hint)
            with self.site(span):
                env = self.complete(replace(bound, span=span))
                value = self.evaluate(declaration.value, env, "backbone")
            if not isinstance(value, v.Backbone):
                message = f"backbone `{bound.name}` is {v.describe(value)}, not stages"
                raise self.error("E0403", message, declaration.value.span)
            self.work.spend(UNFOLDING + ITEM * len(value.items), span)
            used = value.with_stages(lambda it: replace(it, use_sites=(span, *it.use_sites)))
            return replace(used, span=span)

    def flow_value(self, flow: s.Flow, env: Env) -> v.Value:
        """Evaluate ``a -> b``: a value that layers are applied to, a flow, or a backbone."""
        cut = self.cut_of(flow, env)
        later = iter(flow.steps[1 if cut is None else cut + 1 :])
        try:
            if cut is not None:
                first: v.Value = self.carried(flow, cut, env)
            else:
                first = self.evaluate(flow.steps[0], env, "layer")
            if isinstance(first, v.Wire):
                for step in later:
                    first = self.apply(self.layer_of(step, env), first, step.span)
                return first
        except v.Failed:
            for step in later if not self.unfolding else ():  # report their errors, too
                with suppress(v.Failed):
                    self.layer_of(step, env)
            raise
        steps = [self._as_layer(first, flow.steps[0].span)]
        steps += [self.layer_of(step, env) for step in flow.steps[1:]]
        if not any(isinstance(step, v.Backbone) for step in steps):
            return v.Sequence(tuple(steps), flow.span)
        items: list[v.StageOf | v.Layer] = []
        for layer in steps:
            items.extend(layer.items if isinstance(layer, v.Backbone) else (layer,))
        if len(items) > MAX_ITEMS:
            message = f"a backbone of more than {MAX_ITEMS:,} stages and layers"
            raise self.error("E0903", message, flow.span)
        return v.Backbone(tuple(items), flow.span)

    def layer_of(self, step: s.Expr, env: Env) -> v.Layer:
        """Evaluate an expression that must be a layer (E0401)."""
        return self._as_layer(self.evaluate(step, env, "layer"), step.span)

    def _as_layer(self, value: v.Value, span: Span) -> v.Layer:
        if isinstance(value, v.Bound) and is_op(value.name, value.kind, "layer") and not value.args:
            call = s.Call(s.Name(value.name), (), span=span)
            return self.operation(value.name, call, Env(value.module, "flow"))
        if not v.is_layer(value):
            hint = None
            match value:
                case v.Wire():
                    hint = "only layers can follow `->`; join values by `+` or `concat` first"
                case v.Bound(kind="connection"):
                    hint = f"a connection wires a backbone: `BACKBONE via {value.name}`"
                case v.Bound(kind="rule"):
                    hint = f"a rule connects the blocks of a backbone: `BACKBONE by {value.name}`"
            raise self.error("E0401", f"{v.describe(value)} is not a layer", span, hint=hint)
        return value

    def _as_backbone(self, value: v.Value, subject: s.Expr, word: str) -> v.Backbone:
        if isinstance(value, v.Named):
            value = value.layer
        if isinstance(value, v.Backbone):
            return value
        message = f"`{word}` wires a backbone, not {v.describe(value)}"
        hint = None
        if isinstance(value, v.Bound) and value.kind == "block":
            message = f"`{word}` wires the blocks of a backbone, and `{value.name}` is a block"
            hint = f"write `stage({value.name}(...), 1) {word} ...`"
        raise self.error("E0403", message, subject.span, hint=hint)

    def _subject(
        self, expr: s.Via | s.By | s.With, word: str, env: Env, others: list[tuple[s.Expr, Want]]
    ) -> v.Backbone:
        """Return the backbone before a word; if it has errors, report those of the others, too."""
        try:
            subject = self.evaluate(expr.subject, env, "backbone")
            return self._as_backbone(subject, expr.subject, word)
        except v.Failed:
            for other, want in others:
                with suppress(v.Failed):
                    self.evaluate(other, env, want)
            raise

    def wire_stages(self, expr: s.Via | s.By, env: Env) -> v.Backbone:
        """Evaluate `BACKBONE via CONNECTION` or `BACKBONE by RULE`."""
        word, kind = ("via", "connection") if isinstance(expr, s.Via) else ("by", "rule")
        by = expr.connection if isinstance(expr, s.Via) else expr.rule
        backbone = self._subject(expr, word, env, [(by, kind)])
        value = self.evaluate(by, env, kind)
        if not isinstance(value, v.Bound) or value.kind != kind:
            raise self.error("E0403", f"`{word}` takes a {kind}, not {v.describe(value)}", by.span)
        self.work.spend(ITEM * len(backbone.items), by.span)
        if any(getattr(stage, kind) is not None for stage in backbone.stages):
            raise self.error("E0302", f"this backbone has two {kind}s", by.span)
        wired: dict[str, Any] = {kind: value}
        return backbone.with_stages(lambda stage: replace(stage, **wired))

    def change_settings(self, expr: s.With, env: Env) -> v.Backbone:
        """Evaluate `BACKBONE with (neuron = ..., norm = ...)`."""
        others = [(arg.value, arg.name or "any") for arg in expr.settings]
        backbone = self._subject(expr, "with", env, others)
        changes: dict[str, v.Value] = {}
        for arg in expr.settings:
            if arg.name not in LAYER_SETTINGS:
                message = f"`with` cannot change `{arg.name or 'a bare value'}`"
                hint = "`with` changes neuron, surrogate, norm, init, weight or zero_init"
                raise self.error("E0301", message, arg.span, hint=hint)
            value = self.evaluate(arg.value, env, WANTED["network"].get(arg.name, arg.name))
            changes[arg.name] = self.check_setting(arg.name, value, env, arg.value.span)
        self.work.spend(ITEM * len(backbone.items), expr.subject.span)
        return backbone.with_stages(lambda it: replace(it, settings={**it.settings, **changes}))

    def check_setting(self, name: str, value: v.Value, env: Env, span: Span) -> v.Value:
        """Check a value of one of ``LAYER_SETTINGS``."""
        if isinstance(value, v.Named):
            value = value.layer
        if name == "weight":
            return self.weight_setting(value, span)
        is_norm = isinstance(value, v.OpLayer) and OPS[value.op].norm is not None
        fits = {
            "norm": is_norm or isinstance(value, v.Identity),
            "init": isinstance(value, v.Initial),
            "zero_init": isinstance(value, bool),
        }
        if fits.get(name, isinstance(value, v.Bound) and value.kind == name):
            return value
        hint: str | None = {
            "norm": f"norms are {', '.join(norm_names())} and none",
            "init": "write `init = xavier_uniform`, `init = normal(0.02)`; `danetc list operations` "
            "lists them",
            "zero_init": "write `true` or `false`",
        }.get(name)
        if name == "surrogate" and isinstance(value, v.OpLayer):
            if not self.complete_names:
                raise v.Failed
            hint = Hint("is `use std` missing?", using_std(span.source))
        elif isinstance(value, str) and value.isidentifier():
            hint = Hint(f"write the name without quotes: `{value}`", replacing(span, value))
        if name in ("init", "zero_init"):
            message = f"`{name}` cannot be {v.describe(value)}"
            raise self.error("E0304", message, span, hint=hint)
        raise self.error("E0403", f"{v.describe(value)} is not a {name}", span, hint=hint)

    def part_of(self, expr: s.At, env: Env) -> v.Backbone | v.Wire:
        """Evaluate `BACKBONE[i]` or `BACKBONE[i .. j]`, or the channels of a value."""
        value = self.evaluate(expr.base, env, "backbone")
        if isinstance(value, v.Wire):
            first, last = self.indices(expr, env, "value", "channel", self.value(value).shape[0])
            return self.add("slice", (value,), {"first": first, "last": last}, expr.span)
        backbone = self._as_backbone(value, expr.base, "[...]")
        low, high = self.indices(expr, env, "backbone", "stage", len(backbone.stages))
        self.work.spend(ITEM * len(backbone.items), expr.span)
        return backbone.part(low, high)
