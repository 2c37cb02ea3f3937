"""``learn(...)`` among the values of a network: numbers that are trained where they meet a value.

How many there are is told by what they meet: one for a layer, or one for each of its channels,
pixels or steps. Written in place they are new at each use; a name for them (``a = learn(0.5)``, a
parameter of a block) stands for the same numbers wherever it is read.
"""

from __future__ import annotations

from dataclasses import replace

from danetc.compiler.ir.graph import Attribute, Node, Shape
from danetc.compiler.ir.ops import text
from danetc.compiler.lowering.environment import Env
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import Invalid, LearntValue, Value, Wire
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax.source import Span

BODIES = ("network", "block", "connection")
"""The declarations in which a name stands for values."""


def named(value: Value, id: str, env: Env) -> Value:
    """What a name of a body stands for: of learnt numbers, the same wherever it is read."""
    if not isinstance(value, (Learn, LearntValue)) or env.what not in BODIES:
        return value
    found = as_learnt(value)
    return found if found.name else replace(found, name=id, scope=env.scope)


def as_learnt(value: Learn | LearntValue) -> LearntValue:
    return value if isinstance(value, LearntValue) else LearntValue(value)


def given(value: Value) -> Value:
    """What a declaration gets that is called with a value: learnt numbers are then its own."""
    if isinstance(value, LearntValue):
        return value.learn if value.is_plain else replace(value, name="", scope=())
    return value


def calculated(evaluator: Evaluator, op: str, left: Value, right: Value, span: Span) -> LearntValue:
    """A learnt number and a constant, or two of these: ``1 - a``."""
    first = isinstance(left, (Learn, LearntValue))
    learnt, other = (left, right) if first else (right, left)
    number = other if isinstance(other, (int, float)) and not isinstance(other, bool) else None
    if number is None or op not in ("+", "-", "*", "/") or (op == "/" and not (first and number)):
        both = number is None and isinstance(other, (Learn, LearntValue))
        raise evaluator.builder.fail(
            "E0410",
            f"`{op}` of two learnt numbers: nothing tells how many there are"
            if both
            else f"`{op}` cannot be applied to learnt numbers here",
            span,
            hint="each takes its size from a value that it meets: "
            "`(learn(1.0) * a) + (learn(1.0) * b)`; with constants there are `1 - learn(...)`, "
            "`2 * learn(...)` and `learn(...) / 2`",
        )
    assert isinstance(learnt, (Learn, LearntValue))
    found = as_learnt(learnt)
    match op:
        case "+":
            return replace(found, offset=found.offset + number)
        case "-" if first:
            return replace(found, offset=found.offset - number)
        case "-":
            return replace(found, factor=-found.factor, offset=number - found.offset)
    scale = number if op == "*" else 1 / number
    return replace(found, factor=scale * found.factor, offset=scale * found.offset)


def met(evaluator: Evaluator, value: Value, wire: Wire, span: Span) -> Value:
    """Learnt numbers of the size that a value asks for; what else there is as it is."""
    if not isinstance(value, (Learn, LearntValue)):
        return value
    found = as_learnt(value)
    made = _parameter(evaluator, found, evaluator.builder.value(wire).shape, span)
    if found.is_plain or isinstance(made, Invalid):
        return made
    attrs: dict[str, Attribute] = {"factor": found.factor, "offset": found.offset}
    return evaluator.builder.add("affine", (made,), attrs, span)


def _parameter(
    evaluator: Evaluator, found: LearntValue, meets: Shape, span: Span
) -> Wire | Invalid:
    """The node of the numbers, made where a name is met first."""
    builder = evaluator.builder
    if not found.learn.trained:
        raise builder.fail(
            "E0410",
            "`scheduled` joins no value: it is given to a parameter of a neuron, of a surrogate or of "
            "a layer that takes it",
            span,
            hint="write `neuron = LIF(tau = scheduled(2.0))`, and `x * 2.0` with a constant",
        )
    size = _size(found.learn.per, meets)
    if not found.name:
        return builder.add("parameter", (), _attrs(found.learn, size), span, "learn")
    key = (found.scope, found.name)
    known: Node | None = evaluator.learnt.get(key)
    if known is None or builder.nodes.get(known.id) is not known:
        outer, builder.scope = builder.scope, found.scope
        try:
            made = builder.add("parameter", (), _attrs(found.learn, size), span, found.name)
        finally:
            builder.scope = outer
        if isinstance(made, Wire):
            evaluator.learnt[key] = builder.nodes[made.id]
        return made
    if known.value.shape != size:
        raise builder.fail(
            "E0410",
            f"`{found.name}` is learnt as {text(known.value.shape)}, and {text(size)} are needed here",
            span,
            hint="a name stands for the same numbers everywhere; write `learn(...)` in place for "
            "others",
        )
    return Wire(known.id)


def _size(per: str, meets: Shape) -> Shape:
    ones = (1,) * (len(meets) - 1)
    return {"channel": (meets[0], *ones), "neuron": meets}.get(per, (1, *ones))


def _attrs(learn: Learn, size: Shape) -> dict[str, Attribute]:
    channels, height, width = (*size, None, None)[:3]
    return {
        "init": learn.init,
        "channels": channels,
        "height": height,
        "width": width,
        "per_step": learn.per_step,
        "above": learn.above,
        "below": learn.below,
    }
