"""Declarations that are called: their parameters, given or by default, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from danetc.compiler.lowering.arguments import assign_declared, flows_in
from danetc.compiler.lowering.environment import Env
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.learnt import given as as_given
from danetc.compiler.lowering.values import (
    Bound,
    Failed,
    Invalid,
    Number,
    Value,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.modules import Module
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

MAX_DEPTH = 60
"""How deep declarations may be made of each other."""


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
    name = s.called(value)
    resolved = module.names.get(name.id) if name is not None else None
    return resolved is not None and resolved.declaration.kind == kind
