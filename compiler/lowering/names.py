"""What a name means: a value, a definition of the body, a declaration, an operation."""

from __future__ import annotations

from contextlib import suppress

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.backbones import unfold
from danetc.compiler.lowering.environment import (
    CONSTANTS,
    MATH,
    SPECIAL,
    WANTED,
    Env,
    Want,
    is_op,
)
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.learnt import named
from danetc.compiler.lowering.loops import circles_of, has_delays, is_flow, settled
from danetc.compiler.lowering.operations import drawn, operation
from danetc.compiler.lowering.unknown import unknown
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


def meaning(evaluator: Evaluator, id: str, env: Env, span: Span, want: Want = "any") -> Value:
    """The value of a name where it stands; ``want`` tells its two meanings apart."""
    if id in env.values:
        return named(env.values[id], id, env)
    if id == "norm" and env.what == "network":
        return standing(evaluator, "norm", span)
    if id in env.definitions:
        value = defined(evaluator, id, env, span)
        return Named(id, value, span) if want == "layer" and is_layer(value) else value
    if id in CONSTANTS:
        return CONSTANTS[id]
    if id == "spike":
        return standing(evaluator, "neuron", span)
    if id == "norm":
        return standing(evaluator, "norm", span)
    if id == "conv" and env.block_conv:
        return BlockConv({}, span)
    if id == "steps" and id in evaluator.settings:
        return evaluator.settings[id]
    if id in ("identity", "none"):
        return Identity(span)
    resolved = env.module.names.get(id)
    if resolved is not None and not is_op(id, resolved.declaration.kind, want):
        return refer(evaluator, Bound(resolved.declaration, resolved.module, {}, span), span)
    if id in OPS and OPS[id].public:
        return operation(evaluator, id, (), env, span)
    if want == "init" and id in FIRST_WEIGHTS:
        return drawn(evaluator, id, span)
    if id in SPECIAL:
        what = "a function of numbers" if id in MATH else "called with arguments"
        hint, labels = _meant(evaluator, id, env)
        hint = env.elsewhere.get(id) or hint
        if want == "layer":
            hint = hint or of_values(id)
        hint = hint or f"write `{SPECIAL[id].usage}`"
        raise evaluator.builder.fail("E0405", f"`{id}` is {what}", span, hint=hint, labels=labels)
    raise unknown(evaluator, id, env, span, want)


def of_values(id: str) -> str | None:
    """What to write for a function of numbers where it is asked of values; None where it takes them."""
    if id not in MATH or not SPECIAL[id].of_number:
        return None
    if id in functions():
        return f"of a value it is an activation function: `neuron NAME {{ s = {id}(x) }}`"
    return f"values have no `{id}`; it is there for numbers, as in `{id}(width / 2)`"


def _meant(evaluator: Evaluator, id: str, env: Env) -> tuple[str | None, tuple[Label, ...]]:
    """A parameter that was probably meant by a name which means something else here."""
    close = closest(id, env.places)
    if close is None:
        return None, ()
    label = Label(env.places[close], f"`{close}` is declared here")
    return meant(id, (close,)), (label,)


def defined(evaluator: Evaluator, id: str, env: Env, span: Span) -> Value:
    """The value of ``id = ...`` in the body, evaluated once."""
    env.used.add(id)
    if id in env.cache:
        value = env.cache[id]
        if isinstance(value, Failed):
            raise Failed
        return value
    if id in env.pending:
        circle = env.pending[env.pending.index(id) :]
        through = f", by way of `{'`, `'.join(circle[1:])}`" if len(circle) > 1 else ""
        hint, labels = _meant(evaluator, id, env.definitions[circle[-1]].env)
        if hint is None and any(is_flow(env.definitions[name].value) for name in circle):
            hint = f"what it was a step before is read by a delay: `{id} -> delay(1)`"
        if hint is None and not through and env.what == "network":
            hint = f"to set it from outside make it a parameter: `network NAME({id} = ...)`"
        raise evaluator.builder.fail(
            "E0211",
            f"`{id}` is defined by itself{through}",
            span,
            labels=labels
            or tuple(
                Label(env.definitions[name].span, f"`{name}` is defined here") for name in circle
            ),
            hint=hint,
        )
    for name in _needs(evaluator, id, env):
        with suppress(Failed):  # a failure is kept, and met again by what needs it
            _evaluated(evaluator, name, env)
    return _evaluated(evaluator, id, env)


def defined_layer(evaluator: Evaluator, id: str, env: Env, span: Span) -> Layer:
    """The layer that ``id = ...`` in the body is. Raises Failed where it is none (E0401)."""
    found = defined(evaluator, id, env, span)
    if isinstance(found, Invalid):
        raise Failed
    if not is_layer(found):
        raise evaluator.builder.fail(
            "E0401", f"`{id}` is {describe(found)}, not a layer", env.definitions[id].value.span
        )
    return found


def _needs(evaluator: Evaluator, id: str, env: Env) -> list[str]:
    """The definitions that one cannot do without, those first that others need.

    Evaluated in this order, a long chain of definitions costs no recursion.
    """
    order: list[str] = []
    seen = {id, *env.pending}
    # what is in a circle with the reader may be read through a delay alone: then it comes later
    circles = circles_of(evaluator, env) if has_delays(evaluator, env) else {}
    stack = [(id, iter(evaluator.certain_names(env.definitions[id].value)))]
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
            stack.append((found, iter(evaluator.certain_names(env.definitions[found].value))))
    return order[:-1]


def _evaluated(evaluator: Evaluator, id: str, env: Env) -> Value:
    """The value of a definition; what fails is kept, so that it is reported once."""
    if id in env.cache:
        known = env.cache[id]
        if isinstance(known, Failed):
            raise Failed
        return known
    if not env.pending and env.loops.carries is None and has_delays(evaluator, env):
        return settled(evaluator, env, lambda: _read(evaluator, id, env))
    return _read(evaluator, id, env)


def _read(evaluator: Evaluator, id: str, env: Env) -> Value:
    definition = env.definitions[id]
    env.pending.append(id)
    outer = evaluator.builder.scope
    evaluator.builder.scope = env.scope if id == "out" else (*env.scope, id)
    try:
        want = WANTED.get(env.what, {}).get(id, "any")
        value = named(evaluator.evaluate(definition.value, definition.env, want), id, env)
    except Failed as failed:
        env.cache[id] = failed
        raise
    finally:
        env.pending.pop()
        evaluator.builder.scope = outer
    env.cache[id] = value
    return value


def setting_of(evaluator: Evaluator, id: str, span: Span) -> Value:
    """The network's (or stage's) neuron, surrogate or norm."""
    evaluator.asked.add(id)
    value = evaluator.settings.get(id)
    if isinstance(value, Invalid) or id in evaluator.misspelt:
        raise Failed
    if value is None:
        examples = {"neuron": "neuron = IF", "surrogate": "surrogate = sigmoid(alpha = 4)"}
        line, network = examples.get(id, id), evaluator.network
        raise evaluator.builder.fail(
            "E0404",
            f"the network does not define its {id}",
            span,
            hint=f"add `{line}` to it" if network is None else add(network, line, " to it"),
        )
    return value


def standing(evaluator: Evaluator, id: str, span: Span) -> Value:
    """The network's (or stage's) neuron or norm, where `spike` or `norm` stands for it."""
    match setting_of(evaluator, id, span):
        case Bound(declaration, module, args, named, given):
            return Bound(declaration, module, args, named, given, span)
        case OpLayer(op, attrs, named, role):
            return OpLayer(op, attrs, named, role, span)
        case value:
            return value


def refer(evaluator: Evaluator, bound: Bound, span: Span) -> Value:
    """A declaration by its name: aliases are followed, a backbone is unfolded."""
    kind = bound.kind
    if kind == "backbone":
        return unfold(evaluator, bound, span)
    if kind in ("network", "recipe"):
        raise evaluator.builder.fail(
            "E0403",
            f"the {kind} `{bound.name}` cannot be used here",
            span,
            labels=(Label(bound.declaration.name_span, "declared here"),),
        )
    return bound
