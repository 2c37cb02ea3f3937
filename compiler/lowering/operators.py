"""Arithmetic on constants, values and learnt numbers, and slices of values.

The number of learnt numbers, ``learn(...)``, follows from the value that they meet: one for a layer,
or one for each of its channels, pixels or steps. Written in place they are new at each use; a name
(``a = learn(0.5)``, a parameter of a block) stands for the same numbers wherever it is read.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace

from danetc.compiler.ir.graph import Attribute, Node, Shape
from danetc.compiler.ir.ops import text
from danetc.compiler.ir.ops.unknown import AnyShape
from danetc.compiler.lowering.arguments import Arguments
from danetc.compiler.lowering.environment import Env, Want
from danetc.compiler.lowering.values import (
    INVALID,
    Identity,
    Invalid,
    LearntValue,
    Number,
    Value,
    Wire,
    describe,
    is_layer,
    is_number,
)
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

BODIES = ("network", "block", "connection")
"""Declarations in which names stand for values."""


def _divide(a: float, b: float) -> int | float:
    """Return the quotient, an integer if integers divide."""
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return a / b


_ARITHMETIC: Mapping[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Arithmetic(Arguments):
    """Values of operators."""

    def operate(self, expr: s.Binary | s.Unary, env: Env, want: Want = "any") -> Value:
        """Evaluate an operator: compute numbers, join values of the network."""
        if isinstance(expr, s.Unary):
            return self._unary(expr, env, want)
        if expr.op in ("and", "or"):
            left = self.condition(expr.left, env)
            return left if left == (expr.op == "or") else self.condition(expr.right, env)
        steps: list[tuple[str, s.Expr]] = []  # a long chain of operators costs no recursion
        node: s.Expr = expr
        while isinstance(node, s.Binary) and node.op not in ("and", "or"):
            steps.append((node.op, node.right))
            node = node.left
        result = self.evaluate(node, env, want)
        for op, operand in reversed(steps):
            right = self.evaluate(operand, env, want)
            result = self._combine(op, result, right, expr, operand, env)
        return result

    def _unary(self, expr: s.Unary, env: Env, want: Want) -> Value:
        value = self.evaluate(expr.operand, env, want)
        if isinstance(value, Invalid):
            return INVALID
        if expr.op == "not":
            return not self.truth(value, expr.operand, env)
        if isinstance(value, Wire):
            return self.add("affine", (value,), {"factor": -1.0, "offset": 0.0}, expr.span)
        if isinstance(value, (Learn, LearntValue)):
            return self._calculated("*", -1, value, expr.span)
        if not is_number(value):
            message = f"`-` takes a number or a value, not {describe(value)}"
            raise self.error("E0406", message, expr.span)
        return -value

    def _combine(
        self, op: str, left: Value, right: Value, expr: s.Binary, operand: s.Expr, env: Env
    ) -> Value:
        if isinstance(left, Wire):
            right = self.met(right, left, expr.span)
        elif isinstance(right, Wire):
            left = self.met(left, right, expr.span)
        if isinstance(left, Invalid) or isinstance(right, Invalid):
            return INVALID
        if isinstance(left, Wire) or isinstance(right, Wire):
            return self._join(op, left, right, expr.span)
        if any(isinstance(value, (Learn, LearntValue)) for value in (left, right)):
            return self._calculated(op, left, right, expr.span)
        numbers: list[Number] = []
        for value in (left, right):
            if not isinstance(value, (bool, int, float)):
                message = f"`{op}` joins numbers or values, not {describe(value)}"
                raise self.reject("E0406", message, expr, env, _hint(value))
            numbers.append(value)
        try:
            return self.bounded(_ARITHMETIC[op](*numbers), expr.span)
        except ZeroDivisionError:
            raise self.reject("E0306", "division by zero", operand, env) from None
        except OverflowError:
            raise self.error("E0306", "a constant too large", expr.span) from None

    def _join(self, op: str, left: Value, right: Value, span: Span) -> Value:
        ops = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
        if op not in ops:
            message = f"`{op}` compares numbers that are known before the network runs"
            raise self.error("E0406", message, span)
        if isinstance(left, Wire) and isinstance(right, Wire):
            return self.join(ops[op], (left, right), span)
        wire, number = (left, right) if isinstance(left, Wire) else (right, left)
        assert isinstance(wire, Wire)
        if not is_number(number):
            message = f"`{op}` joins values and numbers, not {describe(number)}"
            raise self.error("E0406", message, span, hint=_hint(number))
        match op, wire is left:
            case ("+", _):
                factor, offset = 1.0, float(number)
            case ("-", True):
                factor, offset = 1.0, -float(number)
            case ("-", False):
                factor, offset = -1.0, float(number)
            case ("*", _):
                factor, offset = float(number), 0.0
            case ("/", True) if number != 0:
                factor, offset = 1 / float(number), 0.0
            case ("/", True):
                raise self.error("E0306", "division by zero", span)
            case _:
                raise self.error("E0406", "a number cannot be divided by a value", span)
        return self.add("affine", (wire,), {"factor": factor, "offset": offset}, span)

    def join(self, op: str, operands: tuple[Wire | Invalid, ...], span: Span) -> Wire | Invalid:
        """Join values. A vector of C entries joins a map as C x 1 x 1."""
        wires = [wire for wire in operands if isinstance(wire, Wire)]
        shapes = [self.value(wire).shape for wire in wires]
        shapes = [shape for shape in shapes if not isinstance(shape, AnyShape)]
        longest = max(shapes, key=len, default=())
        fits = all(len(shape) == 3 or shape[0] in (1, longest[0]) for shape in shapes)
        if len(longest) == 3 and fits:
            operands = tuple(
                self.add("as_map", (wire,), {}, span)
                if isinstance(wire, Wire) and len(self.value(wire).shape) == 1
                else wire
                for wire in operands
            )
        return self.add(op, operands, {}, span)

    def channels_of(self, wire: Wire, expr: s.At, env: Env) -> Wire | Invalid:
        """Return the channels of a value, ``a[i]`` or ``a[i .. j]``."""
        first, last = self.indices(expr, env, "value", "channel", self.value(wire).shape[0])
        return self.add("slice", (wire,), {"first": first, "last": last}, expr.span)

    def indices(self, expr: s.At, env: Env, whole: str, part: str, count: int) -> tuple[int, int]:
        """Return the ends, both included, of an index or range of ``count`` parts (E0409)."""
        if len(expr.indices) != 1:
            message = f"a {whole} takes one {part} or one range of them"
            raise self.error("E0409", message, expr.span)
        index, last = expr.indices[0], count - 1
        ends = (index.low, index.high) if isinstance(index, s.Range) else (index, index)
        low, high = (
            self.whole(end, env, f"the number of a {part}", -(2**20), 2**20) for end in ends
        )
        for number, end in zip((low, high), ends, strict=True):
            if not 0 <= number <= last:
                has = f"the {whole} has {part}s 0 .. {last}"
                raise self.reject("E0409", f"there is no {part} {number}: {has}", end, env)
        if low > high:
            message = f"the range of {part}s {low} .. {high} is empty"
            hint = "a range `a .. b` goes from the lower to the higher, both included"
            raise self.error("E0409", message, index.span, hint=hint)
        return low, high

    # -- learnt numbers ---------------------------------------------------------------------------

    def _calculated(self, op: str, left: Value, right: Value, span: Span) -> LearntValue:
        """Return a learnt number changed by a constant, as in ``1 - a``."""
        first = isinstance(left, (Learn, LearntValue))
        learnt, number = (left, right) if first else (right, left)
        assert isinstance(learnt, (Learn, LearntValue))
        fits = op in ("+", "-", "*") or (op == "/" and first and number)
        if not is_number(number) or not fits:
            both = isinstance(number, (Learn, LearntValue))
            raise self.error(
                "E0410",
                f"`{op}` of two learnt numbers: nothing tells how many there are"
                if both
                else f"`{op}` cannot be applied to learnt numbers here",
                span,
                hint="each takes its size from a value that it meets: "
                "`(learn(1.0) * a) + (learn(1.0) * b)`; with constants there are `1 - learn(...)`, "
                "`2 * learn(...)` and `learn(...) / 2`",
            )
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

    def met(self, value: Value, wire: Wire, span: Span) -> Value:
        """Return learnt numbers in the size that a value requires; other values unchanged."""
        if not isinstance(value, (Learn, LearntValue)):
            return value
        found = as_learnt(value)
        made = self._parameter(found, self.value(wire).shape, span)
        if found.is_plain or isinstance(made, Invalid):
            return made
        attrs: dict[str, Attribute] = {"factor": found.factor, "offset": found.offset}
        return self.add("affine", (made,), attrs, span)

    def _parameter(self, found: LearntValue, meets: Shape, span: Span) -> Wire | Invalid:
        """Return the node of the numbers, made where their name is first met."""
        if not found.learn.trained:
            raise self.error(
                "E0410",
                "`scheduled` joins no value: it is given to a parameter of a neuron, of a surrogate or of "
                "a layer that takes it",
                span,
                hint="write `neuron = LIF(tau = scheduled(2.0))`, and `x * 2.0` with a constant",
            )
        ones = (1,) * (len(meets) - 1)
        sizes = {"channel": (meets[0], *ones), "neuron": meets}
        size: Shape = sizes.get(found.learn.per, (1, *ones))
        key = (found.scope, found.name)
        known: Node | None = self.learnt.get(key) if found.name else None
        if known is None or self.nodes.get(known.id) is not known:
            outer = self.scope
            self.scope = found.scope if found.name else outer
            try:
                attrs = _attrs(found.learn, size)
                made = self.add("parameter", (), attrs, span, found.name or "learn")
            finally:
                self.scope = outer
            if found.name and isinstance(made, Wire):
                self.learnt[key] = self.nodes[made.id]
            return made
        if known.value.shape != size:
            here, there = text(size), text(known.value.shape)
            raise self.error(
                "E0410",
                f"`{found.name}` is learnt as {there}, and {here} are needed here",
                span,
                hint="a name stands for the same numbers everywhere; write `learn(...)` in place for "
                "others",
            )
        return Wire(known.id)


def _hint(value: Value) -> str | None:
    """Hint for an operand that is a layer."""
    if isinstance(value, Identity):
        return "the block's input is `shortcut` in the `out` of a connection, `in` in a block"
    flow_in = "a layer makes a value when something flows into it: `(in -> ...)`"
    return flow_in if is_layer(value) else None


def named(value: Value, id: str, env: Env) -> Value:
    """Return the value of a name; learnt numbers of a body are the same wherever it is read."""
    if not isinstance(value, (Learn, LearntValue)) or env.what not in BODIES:
        return value
    found = as_learnt(value)
    return found if found.name else replace(found, name=id, scope=env.scope)


def as_learnt(value: Learn | LearntValue) -> LearntValue:
    return value if isinstance(value, LearntValue) else LearntValue(value)


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
