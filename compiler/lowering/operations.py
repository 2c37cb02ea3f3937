"""Operations that are called: their attributes, checked against the parameters of their row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from danetc.compiler.ir.graph import Attribute
from danetc.compiler.ir.ops import OPS, REQUIRED, Parameter
from danetc.compiler.ir.ops.scheduled import scheduled
from danetc.compiler.lowering.arguments import assign, flows_in
from danetc.compiler.lowering.environment import SPECIAL, Env, rounded
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import (
    INVALID,
    Choice,
    Drawn,
    Failed,
    Invalid,
    LearntValue,
    OpLayer,
    Value,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span


def operation(
    evaluator: Evaluator, id: str, args: tuple[s.Arg, ...], env: Env, span: Span
) -> OpLayer:
    """An operation of the table as a layer, with the arguments of a call."""
    if OPS[id].arguments:
        shown = ", ".join(OPS[id].arguments[: OPS[id].operands[0]])
        raise evaluator.builder.fail(
            "E0405",
            f"`{id}` is a function of values, and no layer",
            span,
            hint=f"write `{id}({shown})`",
        )
    if OPS[id].bare and not args:
        return OpLayer(OPS[id].bare, {}, span, id)
    attrs = operation_attributes(evaluator, id, args, env, span)
    return OpLayer(id, attrs, span, OPS[id].role)


def operation_attributes(
    evaluator: Evaluator,
    id: str,
    args: tuple[s.Arg, ...],
    env: Env,
    span: Span,
    *,
    partial: bool = False,
) -> dict[str, Attribute]:
    """The attributes of an operation; with ``partial`` only those that were given."""
    parameters = {parameter.name: parameter for parameter in OPS[id].parameters}
    places = sum(not parameter.sugar for parameter in parameters.values())
    given = assign(evaluator, args, list(parameters), f"`{id}`", span, id, unnamed=places)
    return _attributes(evaluator, id, given, args, env, span, partial)


def _attributes(
    evaluator: Evaluator,
    id: str,
    given: Mapping[str, s.Arg],
    args: tuple[s.Arg, ...],
    env: Env,
    span: Span,
    partial: bool,
) -> dict[str, Attribute]:
    """The attributes of an operation by the arguments that are for its parameters."""
    parameters = {parameter.name: parameter for parameter in OPS[id].parameters}
    attrs: dict[str, Attribute] = {}
    for name, parameter in parameters.items():
        if name in given:
            arg = given[name]
            if parameter.shape_of:
                attrs[name] = _shape_of(evaluator, parameter, arg.value, env, id)
                continue
            want = "any" if parameter.type is tuple else "number"
            value = evaluator.evaluate(arg.value, env, name if parameter.words else want)
            is_value = isinstance(value, Wire) or is_layer(value)
            is_value = is_value and parameter.type is not tuple
            hint = flows_in(arg, args, span, is_value=is_value)
            if parameter.type is str and isinstance(value, Wire):
                layer = f"{id}({name} = {parameter.words[0]})"
                hint = f"a value flows into a layer, `a -> {layer}`; values are joined by `a + b`"
            attrs[name] = _checked(evaluator, parameter, value, arg.value, env, id, hint)
        elif parameter.shape_of:
            continue
        elif parameter.default is REQUIRED and not partial and parameter.unless in given:
            attrs[name] = None
        elif parameter.default is REQUIRED and not partial:
            shown = f"{name} = {parameter.words[0]}" if parameter.type is str else f"{name}, ..."
            raise evaluator.builder.fail(
                "E0307", f"`{id}` needs `{name}`", span, hint=f"write `{id}({shown})`"
            )
        elif not partial:
            attrs[name] = parameter.default
    return attrs


def product_of(evaluator: Evaluator, id: str, call: s.Call, env: Env) -> Wire | Invalid:
    """An operation that is written as a function of values: its operands, then its parameters."""
    row, span = OPS[id], call.span
    given = assign(evaluator, call.args, [*row.names], f"`{id}`", span, id)
    wires: list[Wire | Invalid] = []
    for place, name in enumerate(row.arguments):
        if name not in given:
            if place < row.operands[0]:
                shown = ", ".join(row.arguments[: row.operands[0]])
                raise evaluator.builder.fail(
                    "E0307", f"`{id}` needs `{name}`", span, hint=f"write `{id}({shown})`"
                )
            continue
        value = evaluator.evaluate(given[name].value, env)
        if not isinstance(value, (Wire, Invalid)):
            raise evaluator.builder.fail(
                "E0402",
                f"`{name}` of `{id}` is a value, not {describe(value)}",
                given[name].value.span,
                blame=evaluator.blame(given[name].value, env),
                hint="a value starts at `in` or at the name of one",
            )
        wires.append(value)
    attrs: Mapping[str, Attribute]
    attrs = _attributes(evaluator, id, given, call.args, env, span, False)
    if any(isinstance(wire, Invalid) for wire in wires):
        return INVALID
    way = row.regrouped
    if way is not None and way.asked(attrs):
        first, *others = wires
        assert isinstance(first, Wire)
        made = evaluator.builder.nodes[first.id]
        if made.op != way.before:
            raise evaluator.builder.fail(
                "E0505",
                f"`{id}` can be computed in this order for the result of `{way.before}` alone, not of "
                f"`{made.path}`",
                span,
                hint="leave `order` out, or what stands between",
            )
        attrs = way.attrs(made.attrs, attrs)
        return evaluator.builder.add(way.into, (*map(Wire, made.inputs), *others), attrs, span)
    return evaluator.builder.add(id, tuple(wires), attrs, span)


def _shape_of(evaluator: Evaluator, parameter: Parameter, expr: s.Expr, env: Env, what: str) -> str:
    """The shape of the value that an argument must be, as text."""
    value = evaluator.evaluate(expr, env)
    if isinstance(value, Invalid):
        raise Failed
    if not isinstance(value, Wire):
        raise evaluator.builder.fail(
            "E0304",
            f"`{parameter.name}` of `{what}` must be a value, not {describe(value)}",
            expr.span,
            blame=evaluator.blame(expr, env),
        )
    return "x".join(map(str, evaluator.builder.value(value).shape))


def _checked(
    evaluator: Evaluator,
    parameter: Parameter,
    value: Value,
    expr: s.Expr,
    env: Env,
    what: str,
    hint: str | None,
) -> Attribute:
    """An argument checked against the type, the bounds and the words of its parameter."""
    if isinstance(value, Invalid):
        raise Failed
    if isinstance(value, Choice) and value.id in parameter.words:
        if value.id in FIRST_WEIGHTS:
            return drawn(evaluator, value.id, expr.span).text
        return value.id
    if isinstance(value, Drawn) and value.id in parameter.words:
        return value.text
    start = _scheduled(value) if parameter.schedule else None
    value = value if start is None else start
    if parameter.type is tuple and isinstance(value, Wire):
        shape: Any = evaluator.builder.value(value).shape
        size: Attribute = shape  # no attribute of the graph: sugar, of which numbers are left
        if len(shape) == 3:
            return size
        shown = f"a vector of {shape[0]}"
        message = f"`{parameter.name}` of `{what}` must be a map, not {shown}"
        raise evaluator.builder.fail("E0304", message, expr.span, blame=evaluator.blame(expr, env))
    whole = parameter.type is int and isinstance(value, float) and value.is_integer()
    if whole or (parameter.type is float and type(value) is int):
        value = parameter.type(value)
    wanted = _WANTED[parameter.type]
    if type(value) is not parameter.type or not isinstance(value, (bool, int, float)):
        code, shown = "E0304", describe(value)
        if isinstance(value, float):
            shown, hint = f"{value:g}", rounded(expr)
        elif isinstance(value, str) and value in parameter.words:
            hint = f"`{value}` is a word, without quotes"
        elif parameter.words and hint is None:
            hint = did_you_mean(expr.span.text, parameter.words)
    else:
        low = parameter.low if parameter.low is not None else -math.inf
        high = parameter.high if parameter.high is not None else math.inf
        if low <= value <= high:
            return value if start is None else scheduled(start)
        code, shown = "E0305", f"{value:,}" if isinstance(value, int) else f"{value:g}"
        wanted = f"between {low:g} and {high:,.12g}"
    if parameter.words:
        words = ", ".join(f"`{word}`" for word in parameter.words)
        wanted = f"{wanted} or {words}" if wanted else f"one of {words}"
    message = f"`{parameter.name}` of `{what}` must be {wanted}, not {shown}"
    raise evaluator.builder.fail(
        code, message, expr.span, blame=evaluator.blame(expr, env), hint=hint
    )


def _scheduled(value: Value) -> float | None:
    """Where a number starts that a recipe may change."""
    learn = value.learn if isinstance(value, LearntValue) and value.is_plain else value
    return learn.init if isinstance(learn, Learn) and not learn.trained else None


def drawn(
    evaluator: Evaluator,
    id: str,
    span: Span,
    given: Mapping[str, s.Arg] = MappingProxyType({}),
    env: Env | None = None,
) -> Drawn:
    """What weights start from, by the name of its row and its arguments."""
    row = FIRST_WEIGHTS[id]
    numbers: dict[str, float | str] = {}
    for name, default in row.arguments.items():
        if name not in given or env is None:
            if default is None:
                raise evaluator.builder.fail(
                    "E0307", f"`{id}` needs `{name}`", span, hint=f"write `{SPECIAL[id].usage}`"
                )
            numbers[name] = default
        elif isinstance(default, str):
            value = evaluator.evaluate(given[name].value, env, name)
            if not (isinstance(value, Choice) and value.id in MODES):
                raise evaluator.builder.fail(
                    "E0304",
                    f"`{name}` of `{id}` must be one of `{'`, `'.join(MODES)}`, not {describe(value)}",
                    given[name].span,
                )
            numbers[name] = value.id
        else:
            numbers[name] = float(evaluator.number(given[name].value, env, f"`{name}` of `{id}`"))
    return Drawn(id, row.text(numbers))


_WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "",
    tuple: "a value",
}
"""The types of parameters in the words of an error; a ``str`` is one of its words."""
