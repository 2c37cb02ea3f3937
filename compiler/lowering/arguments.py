"""The arguments of calls: which parameter each is for, defaults, and their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from danetc.compiler.ir.graph import Attribute
from danetc.compiler.ir.ops import OPS, REQUIRED, Parameter
from danetc.compiler.ir.ops.scheduled import scheduled
from danetc.compiler.lowering.environment import MATH, SPECIAL, Env, rounded
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.learnt import given as as_given
from danetc.compiler.lowering.values import (
    INVALID,
    Bound,
    Choice,
    Drawn,
    Failed,
    Invalid,
    LearntValue,
    Number,
    OpLayer,
    Value,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.diagnostic import Label, did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, replacing
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES
from danetc.dsl.modules import Module
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span, shorten

MAX_DEPTH = 60
"""How deep declarations may be made of each other."""


def assign(
    evaluator: Evaluator,
    args: tuple[s.Arg, ...],
    names: list[str],
    what: str,
    span: Span,
    *of: str,
    unnamed: int | None = None,
) -> dict[str, s.Arg]:
    """Arguments by the names of the parameters they are for.

    The first ``unnamed`` parameters (None: all) may be given without names. ``of`` are what is called and its kind, by which the names of other languages are known.
    """
    given: dict[str, s.Arg] = {}
    known = frozenset(names)
    position, places = 0, len(names) if unnamed is None else unnamed
    for arg in args:
        _no_each(evaluator, arg)
        if arg.name is None:
            if position >= places:
                most = f"{places} argument{'s' if places != 1 else ''}"
                most += " without a name at most" if places < len(names) else " at most"
                raise evaluator.builder.fail(
                    "E0303",
                    f"{what} takes {most if names else 'no arguments'}",
                    arg.span,
                    hint=_called(args, span)
                    or (f"its parameters: {', '.join(names)}" if names else "leave it out"),
                )
            name = names[position]
            position += 1
        elif arg.name not in known:
            raise evaluator.builder.fail(
                "E0301",
                f"{what} has no parameter `{arg.name}`",
                arg.span,
                hint=answer("parameter", arg.name, *of)
                or did_you_mean(arg.name, names)
                or (f"its parameters: {', '.join(names)}" if names else "it takes none"),
            )
        else:
            name = arg.name
        if name in given:
            raise evaluator.builder.fail(
                "E0302",
                f"{what} is given `{name}` twice",
                arg.span,
                labels=(Label(given[name].span, "given here already"),),
                hint=_called(args, span),
            )
        given[name] = arg
    return given


def assign_declared(
    evaluator: Evaluator, args: tuple[s.Arg, ...], declaration: s.Declaration, span: Span
) -> dict[str, s.Arg]:
    """The same for a declaration. A parameter that its text was reported to lack is no new error."""
    kind, id = declaration.kind, declaration.name
    names = [param.name for param in declaration.params]
    reporter, text = evaluator.builder.reporter, declaration.span
    named = [arg.name for arg in args if arg.name is not None]
    too_many = len(args) - len(named) > len(names)
    if any(name not in names and reporter.knows_unknown(text, name) for name in named) or (
        too_many and reporter.knows_any_unknown(text)
    ):
        raise Failed
    return assign(evaluator, args, names, f"{kind} `{id}`", span, id, kind)


def assign_special(
    evaluator: Evaluator, id: str, args: tuple[s.Arg, ...], span: Span
) -> dict[str, s.Arg]:
    """The same for a function that every spec knows; one that takes values knows no names."""
    names = SPECIAL[id].parameters
    if names is not None:
        return assign(evaluator, args, list(names), f"`{id}`", span, id)
    for arg in args:
        _no_each(evaluator, arg)
        if arg.name is not None:
            raise evaluator.builder.fail(
                "E0301",
                f"`{id}` has no parameter `{arg.name}`",
                arg.span,
                hint=answer("parameter", arg.name, id) or f"write `{SPECIAL[id].usage}`",
            )
    return {}


def _no_each(evaluator: Evaluator, arg: s.Arg) -> None:
    if isinstance(arg.value, s.Each):
        raise evaluator.builder.fail(
            "E0405", "`for` is allowed only in the joins of a rule", arg.span
        )


def flows_in(arg: s.Arg, args: tuple[s.Arg, ...], span: Span, *, is_value: bool) -> str | None:
    """What to write where a layer is called with a value, as a function is: ``spike(shortcut)``.

    ``span`` is the call.
    """
    if arg.name is not None or not is_value:
        return None
    name = span.text.partition("(")[0].strip()
    others = ", ".join(other.span.text for other in args if other is not arg)
    if not others and name in OPS:
        others = "..." if any(row.default is REQUIRED for row in OPS[name].parameters) else ""
    text = shorten(arg.value.span.text)
    if not isinstance(arg.value, s.Name | s.Call | s.Flow):
        text = f"({text})"
    call = f"{name}({others})" if others else name
    hint = f"a value flows into a layer by `->`: write `{text} -> {shorten(call)}`"
    if others == "...":
        return hint
    value = arg.value.span.text
    value = value if text[:1] != "(" else f"({value})"
    return Hint(hint, replacing(span, f"({value} -> {call})"))


def _called(args: tuple[s.Arg, ...], span: Span) -> str | None:
    """The same where the value is not known yet: what is surely none for a parameter."""
    match args[0].value:
        case s.Name(id):
            is_value = id in ("in", "x", "branch", "shortcut")
        case s.Call(s.Name(id)):
            is_value = id not in (*MATH, "channels")
        case value:
            is_value = isinstance(value, s.Flow)
    return flows_in(args[0], args, span, is_value=is_value)


def bind(
    evaluator: Evaluator, bound: Bound, args: tuple[s.Arg, ...], env: Env, span: Span
) -> Bound:
    """A declaration with the arguments of a call; defaults are added when it is used."""
    declaration = bound.declaration
    evaluator.work.spend(10 + 2 * len(declaration.params), span)
    assigned = assign_declared(evaluator, args, declaration, span)
    values = dict(bound.args)
    given = dict(bound.given)
    for name, arg in assigned.items():
        value = as_given(evaluator.evaluate(arg.value, env))
        given[name] = evaluator.source(name, value, arg.value, env)
        is_value = isinstance(value, Wire) or is_layer(value)
        hint = flows_in(arg, args, span, is_value=is_value)
        flows = arg.name is not None and isinstance(value, Wire) and bound.kind == "neuron"
        if isinstance(value, Wire) and bound.kind == "neuron" and _is_input(bound, name):
            hint = f"an input besides `x` is given by its name: `{bound.name}({name} = ...)`"
        if not flows:
            _check_number(evaluator, bound, name, value, arg.value, env, hint)
        values[name] = value
    return Bound(declaration, bound.module, values, span, given, bound.at)


def _is_input(neuron: Bound, name: str) -> bool:
    """Whether a parameter has no default, as inputs of neurons have none."""
    return any(p.name == name and p.default is None for p in neuron.declaration.params)


def _check_number(
    evaluator: Evaluator,
    bound: Bound,
    name: str,
    value: Value,
    expr: s.Expr,
    env: Env,
    hint: str | None = None,
) -> None:
    """See that an argument is a number where a declaration is made of equations."""
    equations = bound.kind in ("neuron", "surrogate", "rule")
    if not equations or bound.declaration.body is None:
        return
    if not isinstance(value, (bool, int, float, Learn, Invalid)):
        what = f"`{name}` of {bound.kind} `{bound.name}`"
        raise evaluator.builder.fail(
            "E0304",
            f"{what} must be a number, not {describe(value)}",
            expr.span,
            blame=evaluator.blame(expr, env),
            hint=hint,
        )


def complete(evaluator: Evaluator, bound: Bound) -> Env:
    """An environment for a declaration's own text: its parameters, given or by default."""
    declaration = bound.declaration
    evaluator.work.spend(4 + 4 * len(declaration.params), bound.span)
    given = dict(bound.given)
    places = {param.name: param.name_span for param in declaration.params}
    env = Env(bound.module, declaration.kind, given=given, places=places)
    for param in declaration.params:
        name = param.name
        if name in bound.args:
            env.values[name] = bound.args[name]
        elif param.default is not None:
            value = env.values[name] = as_given(evaluator.evaluate(param.default, env))
            given[name] = evaluator.source(name, value, param.default, env)
            _check_number(evaluator, bound, name, value, param.default, env)
        else:
            raise evaluator.builder.fail(
                "E0307",
                f"{bound.kind} `{bound.name}` needs `{name}`",
                bound.span,
                labels=(Label(param.name_span, "this parameter has no default"),),
                hint=f"write `{bound.name}({name} = ...)`",
            )
    if any(isinstance(value, Invalid) for value in env.values.values()):
        raise Failed
    return env


def numbers_in(values: Mapping[str, Value]) -> dict[str, Number | Learn]:
    """The values of parameters that are numbers; those of equations all are (``complete``)."""
    return {n: v for n, v in values.items() if isinstance(v, (bool, int, float, Learn))}


def follow_alias(evaluator: Evaluator, bound: Bound) -> Bound:
    """Follow ``kind name = other(...)`` to the declaration that has a body."""
    seen: list[s.Declaration] = []
    while bound.declaration.body is None and bound.declaration.value is not None:
        value = bound.declaration.value
        if bound.kind == "block" and not _names_kind(value, bound.module, "block"):
            return bound
        if len(seen) > MAX_DEPTH:
            raise too_deep(evaluator, bound, seen)
        seen.append(bound.declaration)
        env = complete(evaluator, bound)
        target = evaluator.evaluate(value, env, bound.kind)
        if not isinstance(target, Bound) or target.kind != bound.kind:
            raise evaluator.builder.fail(
                "E0403",
                f"{bound.kind} `{bound.name}` is {describe(target)}",
                value.span,
                hint=f"it must name another {bound.kind}",
            )
        bound = replace(target, span=bound.span)
    if bound.declaration.body is not None and bound.declaration.value is not None:
        raise evaluator.builder.fail(
            "E0408",
            f"a {bound.kind} is either written out or names another, not both",
            bound.declaration.name_span,
            hint="only networks and recipes have variants `= base { ... }`",
        )
    return bound


def too_deep(evaluator: Evaluator, bound: Bound, path: list[s.Declaration]) -> Failed:
    """A declaration is made of others, and these of others, more often than is sensible."""
    if any(declaration is bound.declaration for declaration in path):
        return evaluator.builder.fail(
            "E0211",
            f"{bound.kind} `{bound.name}` is made of itself",
            bound.declaration.name_span,
            hint="repeat by a number: `stage(BLOCK, N)`",
        )
    return evaluator.builder.fail(
        "E0902",
        f"{bound.kind}s that are made of each other, more than {MAX_DEPTH} deep",
        bound.declaration.name_span,
    )


def _names_kind(value: s.Expr, module: Module, kind: str) -> bool:
    name = value.function if isinstance(value, s.Call) else value
    if not isinstance(name, s.Name):
        return False
    resolved = module.names.get(name.id)
    return resolved is not None and resolved.declaration.kind == kind


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
