"""Operators: arithmetic of constants, and values that are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from danetc.compiler.lowering.axes import join
from danetc.compiler.lowering.environment import Env, Want
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.learnt import calculated, met
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
)
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

_FLOW_IN = "a layer makes a value when something flows into it: `(in -> ...)`"


def _hint(value: Value) -> str | None:
    """What to write where an operand is a layer."""
    if isinstance(value, Identity):
        return "the block's input is `shortcut` in the `out` of a connection, `in` in a block"
    return _FLOW_IN if is_layer(value) else None


def operate(evaluator: Evaluator, expr: s.Binary | s.Unary, env: Env, want: Want = "any") -> Value:
    """The value of an operator: numbers are computed, values of the network joined."""
    if isinstance(expr, s.Unary):
        value = evaluator.evaluate(expr.operand, env, want)
        if isinstance(value, Invalid):
            return INVALID
        if expr.op == "not":
            return not evaluator.truth(value, expr.operand, env)
        if isinstance(value, Wire):
            return evaluator.builder.add(
                "affine", (value,), {"factor": -1.0, "offset": 0.0}, expr.span
            )
        if isinstance(value, (Learn, LearntValue)):
            return calculated(evaluator, "*", -1, value, expr.span)
        if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
            raise evaluator.builder.fail(
                "E0406", f"`-` takes a number or a value, not {describe(value)}", expr.span
            )
        return -value
    if expr.op in ("and", "or"):
        left = evaluator.condition(expr.left, env)
        if expr.op == "and":
            return left and evaluator.condition(expr.right, env)
        return left or evaluator.condition(expr.right, env)
    operands, ops = _operands(expr)
    result = evaluator.evaluate(operands[0], env, want)
    for op, operand in zip(ops, operands[1:], strict=True):
        right = evaluator.evaluate(operand, env, want)
        result = _combine(evaluator, op, result, right, expr, operand, env)
    return result


def _operands(expr: s.Binary) -> tuple[list[s.Expr], list[str]]:
    """A long chain of operators from the left as lists, so that it costs no recursion."""
    operands: list[s.Expr] = []
    ops: list[str] = []
    node: s.Expr = expr
    while isinstance(node, s.Binary) and node.op not in ("and", "or"):
        operands.append(node.right)
        ops.append(node.op)
        node = node.left
    operands.append(node)
    return operands[::-1], ops[::-1]


def _combine(
    evaluator: Evaluator,
    op: str,
    left: Value,
    right: Value,
    expr: s.Binary,
    operand: s.Expr,
    env: Env,
) -> Value:
    if isinstance(left, Invalid) or isinstance(right, Invalid):
        return INVALID
    if isinstance(left, Wire):
        right = met(evaluator, right, left, expr.span)
    elif isinstance(right, Wire):
        left = met(evaluator, left, right, expr.span)
    if isinstance(left, Invalid) or isinstance(right, Invalid):
        return INVALID
    if isinstance(left, Wire) or isinstance(right, Wire):
        return _join(evaluator, op, left, right, expr.span)
    if any(isinstance(value, (Learn, LearntValue)) for value in (left, right)):
        return calculated(evaluator, op, left, right, expr.span)
    numbers: list[Number] = []
    for value in (left, right):
        if not isinstance(value, (bool, int, float)):
            raise evaluator.builder.fail(
                "E0406",
                f"`{op}` joins numbers or values, not {describe(value)}",
                expr.span,
                hint=_hint(value),
                blame=evaluator.blame(expr, env),
            )
        numbers.append(value)
    try:
        return evaluator.bounded(_ARITHMETIC[op](*numbers), expr.span)
    except ZeroDivisionError:
        raise evaluator.builder.fail(
            "E0306", "division by zero", operand.span, blame=evaluator.blame(operand, env)
        ) from None
    except OverflowError:
        raise evaluator.builder.fail("E0306", "a constant too large", expr.span) from None


def _join(evaluator: Evaluator, op: str, left: Value, right: Value, span: Span) -> Value:
    ops = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
    if op not in ops:
        raise evaluator.builder.fail(
            "E0406", f"`{op}` compares numbers that are known before the network runs", span
        )
    if isinstance(left, Wire) and isinstance(right, Wire):
        return join(evaluator, ops[op], (left, right), span)
    if isinstance(left, Wire):
        wire, other, first = left, right, True
    else:
        assert isinstance(right, Wire)
        wire, other, first = right, left, False
    if isinstance(other, bool) or not isinstance(other, (int, float)):
        raise evaluator.builder.fail(
            "E0406",
            f"`{op}` joins values and numbers, not {describe(other)}",
            span,
            hint=_hint(other),
        )
    number = float(other)
    match op, first:
        case ("+", _):
            attrs = {"factor": 1.0, "offset": number}
        case ("-", True):
            attrs = {"factor": 1.0, "offset": -number}
        case ("-", False):
            attrs = {"factor": -1.0, "offset": number}
        case ("*", _):
            attrs = {"factor": number, "offset": 0.0}
        case ("/", True) if number != 0:
            attrs = {"factor": 1 / number, "offset": 0.0}
        case ("/", True):
            raise evaluator.builder.fail("E0306", "division by zero", span)
        case _:
            raise evaluator.builder.fail("E0406", "a number cannot be divided by a value", span)
    return evaluator.builder.add("affine", (wire,), attrs, span)


def _divide(a: float, b: float) -> int | float:
    """A quotient; whole where whole numbers divide."""
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return a / b


_ARITHMETIC: Mapping[str, Callable[[Number, Number], Number]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
