"""Axes of values: channels by their numbers, and vectors that join maps."""

from __future__ import annotations

from danetc.compiler.ir.ops.unknown import AnyShape
from danetc.compiler.lowering.environment import Env
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import Invalid, Wire
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span


def slice_of(evaluator: Evaluator, wire: Wire, expr: s.At, env: Env) -> Wire | Invalid:
    """``a[i]`` and ``a[i .. j]``: channels of a value, both ends included (E0409)."""
    fail = evaluator.builder.fail
    if len(expr.indices) != 1:
        raise fail("E0409", "a value takes one channel or one range of them", expr.span)
    index = expr.indices[0]
    last = evaluator.builder.value(wire).shape[0] - 1
    ends = (index.low, index.high) if isinstance(index, s.Range) else (index, index)
    numbers = [evaluator.whole(end, env, "a channel", -(2**20), 2**20) for end in ends]
    for number, end in zip(numbers, ends, strict=True):
        if not 0 <= number <= last:
            raise fail(
                "E0409",
                f"there is no channel {number}: the value has channels 0 .. {last}",
                end.span,
                blame=evaluator.blame(end, env),
            )
    first, second = numbers
    if first > second:
        raise fail(
            "E0409",
            f"the range of channels {first} .. {second} is empty",
            index.span,
            hint="a range `a .. b` goes from the lower to the higher, both included",
        )
    return evaluator.builder.add("slice", (wire,), {"first": first, "last": second}, expr.span)


def join(
    evaluator: Evaluator, op: str, operands: tuple[Wire | Invalid, ...], span: Span
) -> Wire | Invalid:
    """A join of values. A vector of C entries joins a map as C x 1 x 1."""
    wires = [wire for wire in operands if isinstance(wire, Wire)]
    shapes = [evaluator.builder.value(wire).shape for wire in wires]
    shapes = [shape for shape in shapes if not isinstance(shape, AnyShape)]
    longest = max(shapes, key=len, default=())
    if len(longest) == 3 and any(len(shape) == 1 for shape in shapes):
        fits = all(len(shape) == 3 or shape[0] in (1, longest[0]) for shape in shapes)
        if fits:
            operands = tuple(
                evaluator.builder.add("as_map", (wire,), {}, span)
                if isinstance(wire, Wire) and len(evaluator.builder.value(wire).shape) == 1
                else wire
                for wire in operands
            )
    return evaluator.builder.add(op, operands, {}, span)
