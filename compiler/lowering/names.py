"""DefinedNames of names: values, definitions of the body, declarations, operations."""

from __future__ import annotations

from contextlib import suppress

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.backbones import Backbones
from danetc.compiler.lowering.environment import CONSTANTS, MATH, SPECIAL, WANTED, Env, Want, is_op
from danetc.compiler.lowering.loops import is_flow
from danetc.compiler.lowering.operators import named
from danetc.compiler.lowering.values import (
    BlockConv,
    Bound,
    Failed,
    Identity,
    Invalid,
    Layer,
    Named,
    OpLayer,
    Value,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.diagnostic import Label, closest, meant
from danetc.dsl.diagnostics.fixes import add
from danetc.dsl.first_weights import FIRST_WEIGHTS
from danetc.dsl.neuron.functions import functions
from danetc.dsl.syntax.source import Span


class DefinedNames(Backbones):
    """Values of names; each definition of a body is evaluated once, when first read."""

    def meaning(self, id: str, env: Env, span: Span, want: Want = "any") -> Value:
        """Return the value of a name; ``want`` selects between two meanings."""
        if id in env.values:
            return named(env.values[id], id, env)
        if id == "norm" and env.what == "network":
            return self.default_layer("norm", span)
        if id in env.definitions:
            value = self.defined(id, env, span)
            return Named(id, value, span) if want == "layer" and is_layer(value) else value
        if id in CONSTANTS:
            return CONSTANTS[id]
        if id in ("spike", "norm"):
            return self.default_layer("neuron" if id == "spike" else "norm", span)
        if id == "conv" and env.block_conv:
            return BlockConv({}, span)
        if id == "steps" and id in self.settings:
            return self.settings[id]
        if id in ("identity", "none"):
            return Identity(span)
        resolved = env.module.names.get(id)
        if resolved is not None and not is_op(id, resolved.declaration.kind, want):
            return self.refer(Bound(resolved.declaration, resolved.module, {}, span), span)
        if id in OPS and OPS[id].public:
            return self.operation(id, (), env, span)
        if want == "init" and id in FIRST_WEIGHTS:
            return self.drawn(id, span)
        if id in SPECIAL:
            what = "a function of numbers" if id in MATH else "called with arguments"
            near, labels = _meant_parameter(id, env)
            hint = env.elsewhere.get(id) or near or (of_values(id) if want == "layer" else None)
            hint = hint or f"write `{SPECIAL[id].usage}`"
            raise self.error("E0405", f"`{id}` is {what}", span, hint=hint, labels=labels)
        raise self.unknown(id, env, span, want)

    def defined(self, id: str, env: Env, span: Span) -> Value:
        """Return the value of ``id = ...`` in the body."""
        env.used.add(id)
        if id in env.pending and id not in env.cache:
            raise self._circle(id, env, span)
        if id not in env.cache:
            for name in self._needs(id, env):
                with suppress(Failed):  # a failure is cached, and met again by what needs it
                    self._evaluated(name, env)
        return self._evaluated(id, env)

    def _circle(self, id: str, env: Env, span: Span) -> Failed:
        """Report a definition that needs its own value."""
        circle = env.pending[env.pending.index(id) :]
        through = f", by way of `{'`, `'.join(circle[1:])}`" if len(circle) > 1 else ""
        hint, labels = _meant_parameter(id, env.definitions[circle[-1]].env)
        if hint is None and any(is_flow(env.definitions[name].value) for name in circle):
            hint = f"what it was a step before is read by a delay: `{id} -> delay(1)`"
        if hint is None and not through and env.what == "network":
            hint = f"to set it from outside make it a parameter: `network NAME({id} = ...)`"
        places = ((name, env.definitions[name].span) for name in circle)
        labels = labels or tuple(Label(at, f"`{name}` is defined here") for name, at in places)
        message = f"`{id}` is defined by itself{through}"
        return self.error("E0211", message, span, labels=labels, hint=hint)

    def defined_layer(self, id: str, env: Env, span: Span) -> Layer:
        """Return the layer that ``id = ...`` defines in the body (E0401)."""
        found = self.defined(id, env, span)
        if isinstance(found, Invalid):
            raise Failed
        if not is_layer(found):
            message = f"`{id}` is {describe(found)}, not a layer"
            raise self.error("E0401", message, env.definitions[id].value.span)
        return found

    def _needs(self, id: str, env: Env) -> list[str]:
        """Return the definitions that one always reads, in an order in which none needs a later one.

        Evaluated in this order, a long chain of definitions costs no recursion.
        """
        order: list[str] = []
        seen = {id, *env.pending}
        # what is in a circle with the reader may be read through a delay alone: then it comes later
        circles = self.circles_of(env) if self.has_delays(env) else {}
        stack = [(id, iter(self.certain_names(env.definitions[id].value)))]
        while stack:
            name, names = stack[-1]
            found = next(names, None)
            if found is None:
                stack.pop()
                order.append(name)
            elif (
                found in env.definitions
                and found not in env.values
                and found not in env.cache
                and found not in seen
                and (found not in circles or circles[found] != circles.get(name))
            ):
                seen.add(found)
                stack.append((found, iter(self.certain_names(env.definitions[found].value))))
        return order[:-1]

    def _evaluated(self, id: str, env: Env) -> Value:
        """Return the value of a definition; a failure is cached, and so is reported once."""
        if id in env.cache:
            known = env.cache[id]
            if isinstance(known, Failed):
                raise Failed
            return known
        if not env.pending and env.loops.carries is None and self.has_delays(env):
            return self.converged(env, lambda: self._read(id, env))
        return self._read(id, env)

    def _read(self, id: str, env: Env) -> Value:
        definition = env.definitions[id]
        env.pending.append(id)
        outer = self.scope
        self.scope = env.scope if id == "out" else (*env.scope, id)
        try:
            want = WANTED.get(env.what, {}).get(id, "any")
            value = named(self.evaluate(definition.value, definition.env, want), id, env)
        except Failed as failed:
            env.cache[id] = failed
            raise
        finally:
            env.pending.pop()
            self.scope = outer
        env.cache[id] = value
        return value

    def setting_of(self, id: str, span: Span) -> Value:
        """Return the neuron, surrogate or norm of the network or stage."""
        self.asked.add(id)
        value = self.settings.get(id)
        if isinstance(value, Invalid) or id in self.misspelt:
            raise Failed
        if value is None:
            lines = {"neuron": "neuron = IF", "surrogate": "surrogate = sigmoid(alpha = 4)"}
            line = lines.get(id, id)
            hint = f"add `{line}` to it"
            if self.network is not None:
                hint = add(self.network, line, " to it")
            raise self.error("E0404", f"the network does not define its {id}", span, hint=hint)
        return value

    def default_layer(self, id: str, span: Span) -> Value:
        """Return the neuron or norm that `spike` or `norm` stands for."""
        match self.setting_of(id, span):
            case Bound(declaration, module, args, named, given):
                return Bound(declaration, module, args, named, given, span)
            case OpLayer(op, attrs, named, role):
                return OpLayer(op, attrs, named, role, span)
            case value:
                return value

    def refer(self, bound: Bound, span: Span) -> Value:
        """Return the value of a declaration's name: a backbone is unfolded."""
        kind = bound.kind
        if kind == "backbone":
            return self.unfold(bound, span)
        if kind in ("network", "recipe"):
            labels = (Label(bound.declaration.name_span, "declared here"),)
            message = f"the {kind} `{bound.name}` cannot be used here"
            raise self.error("E0403", message, span, labels=labels)
        return bound


def of_values(id: str) -> str | None:
    """Hint for a function of numbers that is applied to values; None if it takes them."""
    if id not in MATH or not SPECIAL[id].of_number:
        return None
    if id in functions():
        return f"of a value it is an activation function: `neuron NAME {{ s = {id}(x) }}`"
    return f"values have no `{id}`; it is there for numbers, as in `{id}(width / 2)`"


def _meant_parameter(id: str, env: Env) -> tuple[str | None, tuple[Label, ...]]:
    """Suggest a parameter for a name that has another meaning."""
    close = closest(id, env.places)
    if close is None:
        return None, ()
    label = Label(env.places[close], f"`{close}` is declared here")
    return meant(id, (close,)), (label,)
