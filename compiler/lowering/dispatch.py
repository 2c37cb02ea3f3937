"""Which part of lowering each kind of expression and of layer goes to."""

from __future__ import annotations

from danetc.compiler.lowering.arithmetic import operate
from danetc.compiler.lowering.backbones import change_settings, flow_value, part_of, wire_stages
from danetc.compiler.lowering.blocks import apply_block
from danetc.compiler.lowering.calls import call_value
from danetc.compiler.lowering.environment import Env, Want
from danetc.compiler.lowering.layers import apply_neuron, apply_operation
from danetc.compiler.lowering.names import meaning
from danetc.compiler.lowering.sharing import apply_shared
from danetc.compiler.lowering.stages import apply_backbone
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.values import (
    INVALID,
    Backbone,
    BlockConv,
    Bound,
    Choice,
    Identity,
    Invalid,
    Layer,
    Named,
    OnceMade,
    OpLayer,
    Sequence,
    Value,
    Wire,
    describe,
    placed,
)
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

EVALUATION = 4  # steps of work that an expression takes, beside what stands in it


class NetworkLowering(Lowering):
    """Lowers one network. Use ``lower``."""

    def evaluate(self, expr: s.Expr, env: Env, want: Want = "any") -> Value:
        """The value of an expression; ``want`` tells a name's two meanings apart (`tdbn`, `sigmoid`)."""
        self.work.spend(EVALUATION, expr.span)
        value: Value
        match expr:
            case s.Number():
                return self.bounded(expr.value, expr.span)
            case s.String(text):
                return text
            case s.Word(id):
                return Choice(id)
            case s.Name(id):
                value = meaning(self, id, env, expr.span, want)
            case s.Call():
                value = call_value(self, expr, env, want)
            case s.Flow():
                value = flow_value(self, expr, env)
            case s.Binary() | s.Unary():
                value = operate(self, expr, env, "number" if want == "number" else "any")
            case s.IfElse(then, condition, otherwise):
                chosen = then if self.condition(condition, env) else otherwise
                value = self.evaluate(chosen, env, want)
            case s.At():
                value = part_of(self, expr, env)
            case s.Via(subject, connection):
                value = wire_stages(self, subject, env, "via", connection, "connection")
            case s.By(subject, rule):
                value = wire_stages(self, subject, env, "by", rule, "rule")
            case s.With(subject, settings):
                value = change_settings(self, subject, settings, env)
            case _:
                raise self.builder.fail("E0405", "this cannot be used here", expr.span)
        if self.trace is not None and isinstance(value, Wire):
            self.trace.note(expr.span, value.id)
        return value

    def apply(self, layer: Layer, wire: Wire | Invalid, span: Span) -> Wire | Invalid:
        """What a layer makes of a value; new nodes stand in the builder's scope."""
        if isinstance(wire, Invalid):
            return INVALID
        self.builder.count_layer(span)
        made: Wire | Invalid = wire
        match layer:
            case Identity():
                pass
            case Sequence(steps):
                for step in steps:
                    made = self.apply(step, made, span)
            case Named(name, inner):
                with self.builder.within(self.builder.fresh(name)):
                    made = self.apply(inner, wire, span)
            case OnceMade():
                made = apply_shared(self, layer, wire, span)
            case OpLayer():
                made = apply_operation(self, layer, wire)
            case BlockConv(changes):
                made = apply_operation(self, self.block_layers[-1].having(**changes), wire)
            case Backbone():
                made = apply_backbone(self, layer, wire)
            case Bound(kind="neuron"):
                made = apply_neuron(self, layer, wire)
            case Bound(kind="block"):
                made = apply_block(self, layer, wire)
            case _:
                raise self.builder.fail("E0401", f"{describe(layer)} is not a layer", span)
        if self.trace is not None and isinstance(made, Wire):
            self.trace.note(placed(layer), made.id, wire.id)
            if isinstance(layer, BlockConv):  # and in the block, where the layer is written
                self.trace.note(self.block_layers[-1].span, made.id, wire.id)
        return made
